//! Running them without executing them.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsRawFd,
};

use crate::{
    Attack,
    Layer::{Ebpf, Mounts},
    Outcome, attack, call,
};

const FAMILY: &str = "programs: mapping";

const SYSTEM: &str = "what the system has for all is on mounts that may be executed from";
const NO_PATH: &str = "a file that lies in no folder is on no mount of ours";

pub(crate) const ATTACKS: &[Attack] = &[
    attack(
        FAMILY,
        "map-a-file-of-ones-own-as-code",
        &[Ebpf, Mounts],
        |place| {
            std::fs::write(place.allowed("code"), [0_u8; 4096])?;
            map(
                &File::open(place.allowed("code"))?,
                libc::PROT_READ | libc::PROT_EXEC,
            )
        },
    ),
    attack(
        FAMILY,
        "map-what-may-be-read-as-code",
        &[Ebpf, Mounts],
        |place| {
            map(
                &File::open(place.readable("file"))?,
                libc::PROT_READ | libc::PROT_EXEC,
            )
        },
    ),
    attack(
        FAMILY,
        "map-a-program-of-the-system-as-code",
        &[Ebpf],
        |_| {
            map(
                &File::open("/usr/bin/true")?,
                libc::PROT_READ | libc::PROT_EXEC,
            )
        },
    )
    .alone(SYSTEM)
    .known_on_fallback(SYSTEM),
    attack(FAMILY, "map-memory-as-code", &[Ebpf], |_| {
        // SAFETY: a NUL-terminated name.
        let memory = unsafe { libc::memfd_create(c"code".as_ptr(), 0) };
        let memory = File::from(call::descriptor(memory.into())?);
        (&memory).write_all(&[0; 4096])?;
        map(&memory, libc::PROT_READ | libc::PROT_EXEC)
    })
    .alone(NO_PATH)
    .known_on_fallback(NO_PATH),
    attack(FAMILY, "attach-shared-memory-as-code", &[Ebpf], |_| {
        const SHM_EXEC: i32 = 0o100_000;
        // SAFETY: takes numbers; the segment goes with this process's namespace or below.
        unsafe {
            let segment = call::checked(
                libc::shmget(libc::IPC_PRIVATE, 4096, libc::IPC_CREAT | 0o700).into(),
            )?;
            let attached = libc::shmat(segment, std::ptr::null(), SHM_EXEC);
            let outcome = if attached as isize == -1 {
                Err(io::Error::last_os_error())
            } else {
                libc::shmdt(attached);
                Ok(())
            };
            libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut());
            outcome
        }
    })
    .alone(NO_PATH)
    .known_on_fallback(NO_PATH),
    attack(
        FAMILY,
        "make-a-mapping-of-ones-own-file-code",
        &[Mounts],
        |place| {
            std::fs::write(place.allowed("code"), [0_u8; 4096])?;
            protect(&File::open(place.allowed("code"))?)
        },
    )
    .alone("the hook on changing a mapping may not name its file on any kernel (bpf_d_path)"),
];

const BYTES: usize = 4096;

fn mapped(file: &File, protection: i32) -> io::Result<*mut libc::c_void> {
    // SAFETY: a new mapping, which nobody reads.
    let address = unsafe {
        let anywhere = std::ptr::null_mut();
        libc::mmap(
            anywhere,
            BYTES,
            protection,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(address)
}

fn map(file: &File, protection: i32) -> Outcome {
    mapped(file, protection).map(drop)
}

fn protect(file: &File) -> Outcome {
    let address = mapped(file, libc::PROT_READ)?;
    // SAFETY: a mapping of ours, of this size.
    let changed = unsafe { libc::mprotect(address, BYTES, libc::PROT_READ | libc::PROT_EXEC) };
    call::checked(changed.into()).map(drop)
}
