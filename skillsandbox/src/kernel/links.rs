//! The end of pinned links.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya_obj::generated::bpf_cmd::{self, BPF_LINK_DETACH, BPF_OBJ_GET};

use super::{KernelError, bpffs};

/// Detaches the programs of every link that is pinned in a folder, and removes it; what is not there is removed already.
///
/// To unlink a pin is not enough: the kernel lets go of what it held some time later, in a work queue (`bpf_link_put`,
/// `kernel/bpf/syscall.c`), and until then the program decides. `BPF_LINK_DETACH`, Linux 5.9, has detached it when it
/// returns. One that runs at that moment still ends.
pub(super) fn end_all(folder: &Path) -> Result<(), KernelError> {
    let pins = match fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        pins => pins.map_err(KernelError::path("list", folder))?,
    };
    for pin in pins {
        let path = pin.path();
        end(&path).map_err(KernelError::path("detach the link of", &path))?;
    }
    bpffs::remove_folder(folder)
}

/// What `BPF_OBJ_GET` is asked: the first fields of its part of `union bpf_attr`, `include/uapi/linux/bpf.h`.
#[repr(C)]
struct Get {
    path: u64,
    fd: u32,
    flags: u32,
}

/// What `BPF_LINK_DETACH` is asked.
#[repr(C)]
struct Detach {
    link: u32,
}

fn end(pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let get = Get {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    let link = match bpf(BPF_OBJ_GET, &get) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        link => link?,
    };
    // SAFETY: the kernel made this descriptor for us a moment ago, and nobody else knows of it.
    #[expect(unsafe_code, reason = "a number becomes the descriptor that it is")]
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    let detach = Detach {
        link: link.as_raw_fd().cast_unsigned(),
    };
    bpf(BPF_LINK_DETACH, &detach).map(drop)
}

/// `bpf(2)`, for what the library has no call for.
fn bpf<T>(command: bpf_cmd, attributes: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads as many bytes as it is told that there are; a path that is among them lives until this returns,
    // as its caller has it. Neither of the two commands writes there.
    #[expect(unsafe_code, reason = "a system call without a wrapper")]
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as u32,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    match i32::try_from(answer) {
        Ok(answer) if answer >= 0 => Ok(answer),
        _ => Err(io::Error::last_os_error()),
    }
}
