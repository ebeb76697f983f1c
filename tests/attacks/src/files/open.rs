//! Opening what is not granted, by every call and under every name.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, ffi::OsStringExt},
    },
    path::Path,
};

use crate::{
    Attack,
    Layer::{Ebpf, Landlock, Mounts, Seccomp},
    Outcome, Place, attack, by_root, call,
    ring::{self, Request},
    stage::overwrite,
};

const FAMILY: &str = "files: opening";

pub(crate) const ATTACKS: &[Attack] = &[
    attack(FAMILY, "read", &[Ebpf, Mounts, Landlock], |place| {
        place.read(place.secret())
    }),
    attack(
        FAMILY,
        "read-by-a-child",
        &[Ebpf, Mounts, Landlock],
        |place| call::in_child(|| place.read(place.secret())),
    ),
    attack(
        FAMILY,
        "read-by-a-grandchild-in-a-session-of-its-own",
        &[Ebpf, Mounts, Landlock],
        |place| {
            call::in_child(|| {
                // SAFETY: takes nothing.
                call::checked(unsafe { libc::setsid() }.into())?;
                call::in_child(|| place.read(place.secret()))
            })
        },
    ),
    attack(FAMILY, "write", &[Ebpf, Mounts, Landlock], |place| {
        overwrite(place.victim())
    }),
    attack(FAMILY, "append", &[Ebpf, Mounts, Landlock], |place| {
        use io::Write;
        fs::File::options()
            .append(true)
            .open(place.victim())?
            .write_all(b"attacked")
    }),
    attack(
        FAMILY,
        "truncate-by-opening",
        &[Ebpf, Mounts, Landlock],
        |place| {
            call::open(
                place.victim().as_os_str().as_bytes(),
                libc::O_RDONLY | libc::O_TRUNC,
            )
            .map(drop)
        },
    ),
    attack(FAMILY, "list", &[Ebpf, Mounts, Landlock], |place| {
        let mut entries = fs::read_dir(place.denied(""))?;
        let seen = entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() == "secret"));
        if seen {
            Ok(())
        } else {
            Err(io::Error::other("an empty folder"))
        }
    }),
    attack(FAMILY, "learn-that-it-exists", &[Mounts], |place| {
        fs::metadata(place.secret()).map(drop)
    })
    .alone(
        "no eBPF program is on the hook of stat(2), for which every process of the host would pay, and \
         Landlock does not restrict it",
    ),
    attack(
        FAMILY,
        "read-below-a-folder-that-was-opened-for-reference",
        &[Ebpf, Mounts, Landlock],
        |place| {
            let folder = call::open(place.denied("").as_os_str().as_bytes(), libc::O_PATH)?;
            read_below(place, &folder, "secret")
        },
    ),
    attack(FAMILY, "read-by-dots", &[Ebpf, Mounts, Landlock], |place| {
        // Out of the attack's own folder, and out of what may be read and written.
        let last = place.stage.denied.file_name().unwrap_or_default();
        let way = place.allowed("../..").join(last).join(place.name);
        place.read(way.join("secret"))
    }),
    attack(
        FAMILY,
        "read-through-proc-self-root",
        &[Ebpf, Mounts, Landlock],
        |place| place.read(through("/proc/self/root", &place.secret())),
    ),
    attack(
        FAMILY,
        "read-through-proc-thread-self-root",
        &[Ebpf, Mounts, Landlock],
        |place| place.read(through("/proc/thread-self/root", &place.secret())),
    ),
    attack(
        FAMILY,
        "read-through-proc-self-cwd",
        &[Ebpf, Mounts, Landlock],
        |place| {
            std::env::set_current_dir(place.denied(""))?;
            place.read("/proc/self/cwd/secret")
        },
    ),
    attack(
        FAMILY,
        "read-through-the-root-of-another-process",
        &[Ebpf, Landlock],
        |place| {
            let root = format!("/proc/{}/root", place.stage.victim);
            place.read(through(&root, &place.secret()))
        },
    )
    .lacking("reading links of another process takes the right to trace it (Yama)"),
    attack(
        FAMILY,
        "read-through-dev-fd",
        &[Ebpf, Mounts, Landlock],
        |place| {
            let folder = call::open(place.denied("").as_os_str().as_bytes(), libc::O_PATH)?;
            place.read(format!("/proc/self/fd/{}/secret", folder.as_raw_fd()))
        },
    ),
    attack(
        FAMILY,
        "read-by-openat2",
        &[Ebpf, Mounts, Landlock],
        |place| {
            let path = call::path(place.secret())?;
            // `struct open_how`: flags, mode, resolve.
            let how = [libc::O_RDONLY as u64, 0, 0];
            // SAFETY: a NUL-terminated path, and a structure of the size that is passed.
            let opened = call::descriptor(unsafe {
                let size = size_of_val(&how);
                libc::syscall(
                    libc::SYS_openat2,
                    libc::AT_FDCWD,
                    path.as_ptr(),
                    &raw const how,
                    size,
                )
            })?;
            place.read_from(fs::File::from(opened))
        },
    ),
    attack(
        FAMILY,
        "read-by-io-uring",
        &[Ebpf, Mounts, Landlock, Seccomp],
        |place| {
            let path = call::path(place.secret())?;
            let request = Request {
                opcode: ring::OPENAT,
                fd: libc::AT_FDCWD,
                addr: path.as_ptr() as u64,
                op_flags: libc::O_RDONLY as u32,
                ..Request::default()
            };
            // SAFETY: the path outlives the call.
            let opened = call::descriptor(unsafe { ring::submit(request) }?.into())?;
            place.read_from(fs::File::from(opened))
        },
    )
    .lacking("io_uring may be switched off (kernel.io_uring_disabled)"),
    by_root(FAMILY, "read-by-a-handle", by_handle).lacking("not every file system has handles"),
    attack(FAMILY, "make-a-handle", &[Mounts, Seccomp], |place| {
        handle(place).map(drop)
    })
    .lacking("not every file system has handles"),
    attack(
        FAMILY,
        "open-for-writing-what-was-opened-for-reading",
        &[Ebpf, Mounts, Landlock],
        |place| {
            let file = fs::File::open(place.readable("file"))?;
            overwrite(format!("/proc/self/fd/{}", file.as_raw_fd()))
        },
    ),
    attack(
        FAMILY,
        "open-for-writing-what-was-opened-for-reference",
        &[Ebpf, Mounts, Landlock],
        |place| {
            let file = call::open(place.readable("file").as_os_str().as_bytes(), libc::O_PATH)?;
            overwrite(format!("/proc/self/fd/{}", file.as_raw_fd()))
        },
    ),
    attack(
        FAMILY,
        "read-what-a-rule-hides-in-a-readable-folder",
        &[Ebpf, Mounts],
        |place| place.read(place.stage.hidden.join("secret")),
    ),
    attack(
        FAMILY,
        "read-what-is-allowed-again-inside-what-a-rule-hides",
        &[Ebpf, Mounts],
        |place| place.read(place.stage.hidden.join("again/secret")),
    ),
    attack(
        FAMILY,
        "read-thirty-folders-deep",
        &[Ebpf, Mounts, Landlock],
        |place| {
            let deep: String = (0..30).map(|_| "d/").collect();
            place.read(place.stage.denied.join("names").join(deep).join("secret"))
        },
    ),
    attack(
        FAMILY,
        "read-by-a-path-of-3900-bytes",
        &[Ebpf, Mounts, Landlock],
        |place| {
            let folder = place.denied("");
            let dots = "./".repeat((3900 - folder.as_os_str().len()) / 2);
            place.read(folder.join(dots).join("secret"))
        },
    ),
    attack(
        FAMILY,
        "read-a-name-with-newlines-and-escapes",
        &[Ebpf, Mounts, Landlock],
        |place| place.read(place.stage.denied.join("names").join(odd_name())),
    ),
    attack(
        FAMILY,
        "read-a-name-that-is-not-utf-8",
        &[Ebpf, Mounts, Landlock],
        |place| place.read(place.stage.denied.join("names").join(invalid_name())),
    ),
];

/// A file that the stage has in its folder `names`.
pub(crate) fn odd_name() -> OsString {
    OsString::from("a\nb \u{1b}[31m \u{202e}\"'\\ $(id) ; *")
}

/// Another.
pub(crate) fn invalid_name() -> OsString {
    OsString::from_vec(b"\xff\xfe\x80 file".to_vec())
}

fn through(start: &str, path: &Path) -> OsString {
    let mut whole = OsString::from(start);
    whole.push(path);
    whole
}

fn read_below(place: &Place, folder: &impl AsRawFd, name: &str) -> Outcome {
    let name = call::text(name)?;
    // SAFETY: a descriptor of ours and a NUL-terminated path.
    let opened = unsafe { libc::openat(folder.as_raw_fd(), name.as_ptr(), libc::O_RDONLY) };
    place.read_from(fs::File::from(call::descriptor(opened.into())?))
}

/// `struct file_handle` with room for the largest.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    content: [u8; 128],
}

fn handle(place: &Place) -> io::Result<(Handle, i32)> {
    let path = call::path(place.secret())?;
    let mut handle = Handle {
        bytes: 128,
        kind: 0,
        content: [0; 128],
    };
    let mut mount = 0;
    // SAFETY: the structure has the room that it says.
    call::checked(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            0,
        )
    })?;
    Ok((handle, mount))
}

fn by_handle(place: &Place) -> Outcome {
    let (mut handle, _) = handle(place)?;
    let root = call::open(place.stage.denied.as_os_str().as_bytes(), libc::O_RDONLY)?;
    // SAFETY: the structure is as the kernel made it.
    let opened = call::descriptor(unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            root.as_raw_fd(),
            &raw mut handle,
            libc::O_RDONLY,
        )
    })?;
    place.read_from(fs::File::from(opened))
}
