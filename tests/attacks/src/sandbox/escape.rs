//! Out of the cgroup, into other namespaces.

use std::{fs, os::fd::AsRawFd};

use crate::{Attack, Layer::Seccomp, Outcome, Place, attack, by_root, call};

const FAMILY: &str = "sandbox: escaping";

const NAMESPACE: &str = "no eBPF program is on the making of user namespaces; what one makes possible is \
    denied there (foreign_namespace), and a cgroup's programs decide in every network";

const fn roots_file(name: &'static str, attempt: fn(&Place) -> Outcome) -> Attack {
    by_root(FAMILY, name, attempt)
        .lacking("a host may not have the file, or not let root write to it")
}

pub(crate) const ATTACKS: &[Attack] = &[
    roots_file("move-to-another-cgroup", |_| {
        fs::write(cgroup("cgroup.procs"), "0")
    }),
    roots_file("make-a-cgroup-below", |_| {
        let folder = cgroup("attackers");
        fs::create_dir(&folder)?;
        fs::remove_dir(folder)
    }),
    roots_file("change-what-a-cgroup-limits", |_| {
        fs::File::options()
            .write(true)
            .open(cgroup("cgroup.subtree_control"))
            .map(drop)
    }),
    attack(FAMILY, "make-a-user-namespace", &[Seccomp], |_| {
        // SAFETY: takes a number.
        call::checked(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into()).map(drop)
    })
    .alone(NAMESPACE)
    .lacking("unprivileged user namespaces may be switched off"),
    attack(
        FAMILY,
        "make-a-process-in-a-user-namespace",
        &[Seccomp],
        |_| {
            // SAFETY: as fork: the child ends at once.
            let child = unsafe {
                let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
                libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0)
            };
            if child == 0 {
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) };
            }
            call::checked(child).map(drop)
        },
    )
    .alone(NAMESPACE)
    .lacking("unprivileged user namespaces may be switched off"),
    attack(FAMILY, "make-a-network-of-ones-own", &[Seccomp], |_| {
        // SAFETY: takes a number.
        let made = unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) };
        call::checked(made.into()).map(drop)
    })
    .alone(NAMESPACE)
    .lacking("unprivileged user namespaces may be switched off"),
    by_root(FAMILY, "enter-the-namespaces-of-another", |place| {
        let path = format!("/proc/{}/ns/uts", place.stage.victim);
        let namespace = call::open(path, libc::O_RDONLY)?;
        // SAFETY: takes numbers.
        call::checked(unsafe { libc::setns(namespace.as_raw_fd(), 0) }.into()).map(drop)
    }),
    by_root(FAMILY, "mount", |place| {
        let at = call::path(place.readable(""))?;
        // SAFETY: NUL-terminated texts.
        unsafe {
            let kind = c"tmpfs".as_ptr();
            call::checked(libc::mount(kind, at.as_ptr(), kind, 0, std::ptr::null()).into())?;
            call::checked(libc::umount2(at.as_ptr(), libc::MNT_DETACH).into()).map(drop)
        }
    }),
    by_root(FAMILY, "make-a-file-system", |_| {
        // SAFETY: a NUL-terminated text.
        call::descriptor(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0) }).map(drop)
    }),
    by_root(FAMILY, "uncover-what-is-masked", |place| {
        // Nothing is mounted there: whoever may take mounts away is told so.
        let at = call::path(place.readable(""))?;
        // SAFETY: a NUL-terminated text.
        let gone = unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
        match call::checked(gone.into()) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            other => other.map(drop),
        }
    }),
    by_root(FAMILY, "change-the-root", |_| {
        // SAFETY: NUL-terminated texts.
        let changed = unsafe { libc::chroot(c"/usr".as_ptr()) };
        call::checked(changed.into()).map(drop)
    }),
    by_root(FAMILY, "make-a-device", |place| {
        let path = call::path(place.allowed("device"))?;
        // SAFETY: a NUL-terminated path.
        let made =
            unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 1)) };
        call::checked(made.into()).map(drop)
    }),
    roots_file("change-the-kernels-settings", |_| {
        let file = "/proc/sys/kernel/core_pattern";
        fs::write(file, fs::read(file)?)
    }),
    roots_file("open-the-settings-for-writing", |_| {
        fs::File::options()
            .write(true)
            .open("/proc/sys/kernel/modprobe")
            .map(drop)
    }),
    roots_file("trigger-the-kernels-keys", |_| {
        fs::File::options()
            .write(true)
            .open("/proc/sysrq-trigger")
            .map(drop)
    }),
    roots_file("write-below-sys", |_| {
        fs::File::options()
            .write(true)
            .open("/sys/kernel/rcu_expedited")
            .map(drop)
    }),
    roots_file("write-to-the-kernels-log", |_| {
        fs::File::options().write(true).open("/dev/kmsg").map(drop)
    }),
    by_root(FAMILY, "write-to-init-of-the-sandbox", |_| {
        let file = "/proc/1/oom_score_adj";
        fs::write(file, fs::read(file)?)
    }),
];

fn cgroup(name: &str) -> std::path::PathBuf {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let unified = std::path::Path::new("/sys/fs/cgroup/unified");
    let root = if unified.is_dir() {
        unified
    } else {
        std::path::Path::new("/sys/fs/cgroup")
    };
    root.join(own.unwrap_or_default()).join(name)
}
