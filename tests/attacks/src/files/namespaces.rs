//! Giving a denied file the name of an allowed one, in a namespace of one's own.

use std::{fs, io, path::Path};

use crate::{
    Attack,
    Layer::{Ebpf, Landlock, Mounts, Seccomp},
    Outcome, attack, call,
};

const FAMILY: &str = "files: namespaces";

const NAMESPACES: &str = "unprivileged user namespaces may be switched off";

pub(crate) const ATTACKS: &[Attack] = &[
    attack(
        FAMILY,
        "mount-it-over-what-is-allowed",
        &[Ebpf, Mounts, Landlock, Seccomp],
        |place| {
            fs::create_dir(place.allowed("over"))?;
            own_mounts()?;
            bind(&place.denied(""), &place.allowed("over"))?;
            place.read(place.allowed("over/secret"))
        },
    )
    .lacking(NAMESPACES),
    attack(
        FAMILY,
        "make-its-folder-the-root",
        &[Ebpf, Mounts, Landlock, Seccomp],
        |place| {
            own_mounts()?;
            std::os::unix::fs::chroot(place.denied(""))?;
            std::env::set_current_dir("/")?;
            place.read("/secret")
        },
    )
    .lacking(NAMESPACES),
    attack(
        FAMILY,
        "clone-its-mount",
        &[Ebpf, Mounts, Landlock, Seccomp],
        |place| {
            use std::os::fd::AsRawFd;
            own_mounts()?;
            let path = call::path(place.denied(""))?;
            const OPEN_TREE_CLONE: i32 = 1;
            // SAFETY: a NUL-terminated path.
            let tree = call::descriptor(unsafe {
                libc::syscall(
                    libc::SYS_open_tree,
                    libc::AT_FDCWD,
                    path.as_ptr(),
                    OPEN_TREE_CLONE,
                )
            })?;
            place.read(format!("/proc/self/fd/{}/secret", tree.as_raw_fd()))
        },
    )
    .lacking(NAMESPACES),
    attack(
        FAMILY,
        "overlay-it",
        &[Ebpf, Mounts, Landlock, Seccomp],
        |place| {
            fs::create_dir(place.allowed("over"))?;
            own_mounts()?;
            let (lower, other) = (place.denied(""), place.allowed(""));
            let options = format!("lowerdir={}:{}", lower.display(), other.display());
            let (at, options) = (call::path(place.allowed("over"))?, call::text(options)?);
            // SAFETY: NUL-terminated texts.
            let mounted = unsafe {
                let kind = c"overlay".as_ptr();
                libc::mount(
                    kind,
                    at.as_ptr(),
                    kind,
                    libc::MS_RDONLY,
                    options.as_ptr().cast(),
                )
            };
            call::checked(mounted.into())?;
            place.read(place.allowed("over/secret"))
        },
    )
    .lacking("overlayfs may be a module that is not loaded, or refuse users"),
];

/// A user and a mount namespace, whose root we are.
fn own_mounts() -> Outcome {
    // SAFETY: takes numbers.
    let (user, group) = unsafe { (libc::getuid(), libc::getgid()) };
    // SAFETY: takes a number.
    call::checked(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) }.into())?;
    // Without these the namespace is made all the same; mounting is what counts.
    let _maps = fs::write("/proc/self/setgroups", "deny")
        .and_then(|()| fs::write("/proc/self/uid_map", format!("0 {user} 1")))
        .and_then(|()| fs::write("/proc/self/gid_map", format!("0 {group} 1")));
    // SAFETY: NUL-terminated texts.
    let private = unsafe {
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        libc::mount(
            c"none".as_ptr(),
            c"/".as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        )
    };
    call::checked(private.into()).map(drop)
}

fn bind(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (call::path(from)?, call::path(to)?);
    // SAFETY: NUL-terminated paths.
    let bound = unsafe {
        libc::mount(
            from.as_ptr(),
            to.as_ptr(),
            std::ptr::null(),
            libc::MS_BIND,
            std::ptr::null(),
        )
    };
    call::checked(bound.into()).map(drop)
}
