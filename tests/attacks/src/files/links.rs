//! Other names for what is not granted.

use std::{
    fs, io,
    os::{fd::AsRawFd, unix::ffi::OsStrExt, unix::fs::symlink},
    path::Path,
};

use crate::{
    Attack,
    Layer::{Ebpf, EbpfNames, Landlock, Mounts},
    Outcome, attack, call,
    stage::overwrite,
};

const FAMILY: &str = "files: links and renames";

/// Where eBPF cannot name files by their folders, two others still do.
pub(crate) const ATTACKS: &[Attack] = &[
    attack(
        FAMILY,
        "read-through-a-symlink",
        &[Ebpf, Mounts, Landlock],
        |place| {
            symlink(place.secret(), place.allowed("link"))?;
            place.read(place.allowed("link"))
        },
    ),
    attack(
        FAMILY,
        "write-through-a-symlink",
        &[Ebpf, Mounts, Landlock],
        |place| {
            symlink(place.victim(), place.allowed("link"))?;
            overwrite(place.allowed("link"))
        },
    ),
    attack(
        FAMILY,
        "read-through-a-symlink-to-the-folder",
        &[Ebpf, Mounts, Landlock],
        |place| {
            symlink(place.denied(""), place.allowed("link"))?;
            place.read(place.allowed("link/secret"))
        },
    ),
    attack(
        FAMILY,
        "read-through-a-chain-of-symlinks",
        &[Ebpf, Mounts, Landlock],
        |place| {
            symlink(place.secret(), place.allowed("0"))?;
            for number in 1..30 {
                let last = place.allowed(&(number - 1).to_string());
                symlink(last, place.allowed(&number.to_string()))?;
            }
            place.read(place.allowed("29"))
        },
    ),
    attack(
        FAMILY,
        "read-through-a-symlink-into-proc",
        &[Ebpf, Mounts, Landlock],
        |place| {
            let mut way = std::ffi::OsString::from("/proc/self/root");
            way.push(place.secret());
            symlink(way, place.allowed("link"))?;
            place.read(place.allowed("link"))
        },
    ),
    attack(
        FAMILY,
        "create-through-a-dangling-symlink",
        &[Ebpf, Mounts, Landlock],
        |place| {
            symlink(place.denied("made"), place.allowed("link"))?;
            fs::write(place.allowed("link"), "made")
        },
    ),
    attack(
        FAMILY,
        "change-a-symlink-while-it-is-followed",
        &[Ebpf, Mounts, Landlock],
        |place| {
            let (link, other) = (place.allowed("link"), place.allowed("other"));
            fs::write(place.allowed("own"), "own")?;
            symlink(place.allowed("own"), &link)?;
            symlink(place.secret(), &other)?;
            let mut last = Err(io::Error::other("never tried"));
            for _ in 0..200 {
                exchange(&link, &other)?;
                last = place.read(&link);
                if last.is_ok() {
                    break;
                }
            }
            last
        },
    ),
    attack(
        FAMILY,
        "hard-link-out",
        &[EbpfNames, Mounts, Landlock],
        |place| {
            fs::hard_link(place.secret(), place.allowed("link"))?;
            place.read(place.allowed("link"))
        },
    ),
    attack(FAMILY, "hard-link-made-before", &[], |place| {
        place.read(place.stage.allowed.join("made-before"))
    })
    .known("a path rule is about names, and this one lies in what is granted"),
    attack(
        FAMILY,
        "rename-out",
        &[EbpfNames, Mounts, Landlock],
        |place| {
            fs::rename(place.secret(), place.allowed("moved"))?;
            place.read(place.allowed("moved"))
        },
    ),
    attack(
        FAMILY,
        "rename-the-folder-around-it",
        &[EbpfNames, Mounts, Landlock],
        |place| {
            fs::rename(place.denied("folder"), place.allowed("folder"))?;
            place.read(place.allowed("folder/secret"))
        },
    ),
    attack(
        FAMILY,
        "rename-over-it",
        &[EbpfNames, Mounts, Landlock],
        |place| {
            fs::write(place.allowed("own"), "attacked")?;
            fs::rename(place.allowed("own"), place.victim())
        },
    ),
    attack(
        FAMILY,
        "rename-into-it",
        &[EbpfNames, Mounts, Landlock],
        |place| {
            fs::write(place.allowed("own"), "attacked")?;
            fs::rename(place.allowed("own"), place.denied("new"))
        },
    ),
    attack(
        FAMILY,
        "exchange-with-it",
        &[EbpfNames, Mounts, Landlock],
        |place| {
            fs::write(place.allowed("own"), "attacked")?;
            exchange(&place.allowed("own"), &place.secret())?;
            place.read(place.allowed("own"))
        },
    ),
    attack(
        FAMILY,
        "rename-below-what-was-opened-for-reference",
        &[EbpfNames, Mounts, Landlock],
        |place| {
            let folder = call::open(place.denied("").as_os_str().as_bytes(), libc::O_PATH)?;
            let to = call::path(place.allowed("moved"))?;
            // SAFETY: a descriptor of ours, and NUL-terminated paths.
            let moved = unsafe {
                let from = folder.as_raw_fd();
                libc::renameat(from, c"secret".as_ptr(), libc::AT_FDCWD, to.as_ptr())
            };
            call::checked(moved.into())?;
            place.read(place.allowed("moved"))
        },
    ),
    attack(
        FAMILY,
        "name-a-nameless-file-there",
        &[EbpfNames, Mounts, Landlock],
        |place| {
            let folder = place.allowed("");
            let file = call::open(
                folder.as_os_str().as_bytes(),
                libc::O_TMPFILE | libc::O_RDWR,
            )?;
            let from = call::text(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
            let to = call::path(place.denied("named"))?;
            // SAFETY: NUL-terminated paths.
            let linked = unsafe {
                let here = libc::AT_FDCWD;
                libc::linkat(
                    here,
                    from.as_ptr(),
                    here,
                    to.as_ptr(),
                    libc::AT_SYMLINK_FOLLOW,
                )
            };
            call::checked(linked.into()).map(drop)
        },
    )
    .lacking("not every file system makes nameless files"),
];

fn exchange(one: &Path, other: &Path) -> Outcome {
    let (one, other) = (call::path(one)?, call::path(other)?);
    // SAFETY: NUL-terminated paths.
    let exchanged = unsafe {
        let here = libc::AT_FDCWD;
        libc::renameat2(
            here,
            one.as_ptr(),
            here,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
    call::checked(exchanged.into()).map(drop)
}
