//! Making and removing names in a folder that is not granted.

use std::{
    fs::{self, File},
    os::unix::{fs::symlink, net::UnixListener},
};

use crate::{
    Attack,
    Layer::{Ebpf, EbpfNames, Landlock, Mounts},
    attack, call,
};

const FAMILY: &str = "files: names";

pub(crate) const ATTACKS: &[Attack] = &[
    attack(FAMILY, "create", &[Ebpf, Mounts, Landlock], |place| {
        File::create(place.denied("new")).map(drop)
    }),
    attack(
        FAMILY,
        "create-a-nameless-file",
        &[Ebpf, Mounts, Landlock],
        |place| {
            use std::os::unix::ffi::OsStrExt;
            let folder = place.denied("");
            call::open(
                folder.as_os_str().as_bytes(),
                libc::O_TMPFILE | libc::O_RDWR,
            )
            .map(drop)
        },
    )
    .lacking("not every file system makes nameless files"),
    attack(
        FAMILY,
        "make-a-folder",
        &[EbpfNames, Mounts, Landlock],
        |place| fs::create_dir(place.denied("new")),
    ),
    attack(
        FAMILY,
        "make-a-symlink",
        &[EbpfNames, Mounts, Landlock],
        |place| symlink("/", place.denied("new")),
    ),
    attack(FAMILY, "make-a-pipe", &[Mounts, Landlock], |place| {
        let path = call::path(place.denied("new"))?;
        // SAFETY: a NUL-terminated path.
        call::checked(unsafe { libc::mkfifo(path.as_ptr(), 0o666) }.into()).map(drop)
    }),
    attack(FAMILY, "make-a-socket", &[Mounts, Landlock], |place| {
        UnixListener::bind(place.denied("new")).map(drop)
    }),
    attack(
        FAMILY,
        "make-a-file-by-mknod",
        &[Mounts, Landlock],
        |place| {
            let path = call::path(place.denied("new"))?;
            // SAFETY: a NUL-terminated path.
            call::checked(unsafe { libc::mknod(path.as_ptr(), libc::S_IFREG | 0o666, 0) }.into())
                .map(drop)
        },
    ),
    attack(FAMILY, "unlink", &[EbpfNames, Mounts, Landlock], |place| {
        fs::remove_file(place.victim())
    }),
    attack(
        FAMILY,
        "remove-a-folder",
        &[EbpfNames, Mounts, Landlock],
        |place| fs::remove_dir(place.denied("empty")),
    ),
    attack(
        FAMILY,
        "rename-inside-it",
        &[EbpfNames, Mounts, Landlock],
        |place| fs::rename(place.victim(), place.denied("other")),
    ),
    attack(
        FAMILY,
        "move-a-folder-into-it",
        &[EbpfNames, Mounts, Landlock],
        |place| {
            fs::create_dir(place.allowed("folder"))?;
            fs::rename(place.allowed("folder"), place.denied("folder-of-mine"))
        },
    ),
    attack(
        FAMILY,
        "remove-a-name-from-what-may-be-read",
        &[EbpfNames, Mounts, Landlock],
        |place| fs::remove_file(place.readable("file")),
    ),
];
