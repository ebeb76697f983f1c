//! What is mounted where in a sandbox. Looks at nothing and changes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::mount::MountAttrFlags as Attributes;
use skillsandbox_common::rule::Access;

use crate::isolate::environment::HOME;
use crate::isolate::error::{IsolateError, Result};
use crate::isolate::launch::{Launch, Runtime, SKILL};

/// Folders that hold the host's programs and libraries. Some are links into `/usr`.
pub const RUNTIME: [&str; 7] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
];

/// What programs need of the host's `/etc`: certificates, the loader's cache, names of services, how
/// names of hosts are looked up.
pub const RUNTIME_ETC: [&str; 17] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/pki",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl",
    "/etc/timezone",
];

/// Device files of the sandbox.
pub const DEVICES: [&str; 6] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
];

/// Links of `/dev`.
pub(super) const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Files of `/proc` that show the kernel's memory, its keys or its log, or that act on it.
const PROC_MASKS: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/config.gz",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/modules",
    "/proc/scsi",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
];

/// Where the content of a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The same path of the host, which must exist.
    Host,
    /// The same path of the host if it is there: a link is copied, anything else mounted.
    HostOrNothing,
    /// The same path of the host; a folder is made there when nothing is.
    HostOrNew,
    /// The socket at the same path of the host, which must exist.
    Socket,
    /// The skill's folder.
    Skill,
    /// An empty folder of the skill's user that holds so many bytes.
    Private { bytes: u64 },
    /// Processes of the sandbox.
    Proc,
    /// Terminals of the sandbox.
    Terminals,
    /// Nothing that can be read, in place of a file or folder that is there.
    Mask,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) at: PathBuf,
    pub(super) source: Source,
    pub(super) attributes: Attributes,
}

const NOSUID: Attributes = Attributes::MOUNT_ATTR_NOSUID;
const NODEV: Attributes = Attributes::MOUNT_ATTR_NODEV;
const NOEXEC: Attributes = Attributes::MOUNT_ATTR_NOEXEC;
const RDONLY: Attributes = Attributes::MOUNT_ATTR_RDONLY;

fn planned(at: impl Into<PathBuf>, source: Source, attributes: Attributes) -> Planned {
    Planned {
        at: at.into(),
        source,
        attributes: attributes | NOSUID,
    }
}

/// Every mount of a sandbox, in the order to make them: a folder comes before what is in it.
pub(super) fn plan(launch: &Launch) -> Result<Vec<Planned>> {
    let noexec = |at: &str| noexec(launch, Path::new(at));
    let private = |at: &str, bytes| planned(at, Source::Private { bytes }, NODEV | noexec(at));
    let sizes = launch.private;
    let mut mounts = vec![
        private("/tmp", sizes.tmp_bytes),
        private("/dev/shm", sizes.tmp_bytes),
        private(HOME, sizes.home_bytes),
        planned("/proc", Source::Proc, RDONLY | NODEV | NOEXEC),
        planned("/dev/pts", Source::Terminals, NOEXEC),
        planned(SKILL, Source::Skill, RDONLY | NODEV | noexec(SKILL)),
    ];
    mounts.extend(DEVICES.map(|at| planned(at, Source::HostOrNothing, NOEXEC)));
    if launch.runtime == Runtime::System {
        mounts.extend(RUNTIME.map(|at| planned(at, Source::HostOrNothing, RDONLY | NODEV)));
        let etc = RDONLY | NODEV | NOEXEC;
        mounts.extend(RUNTIME_ETC.map(|at| planned(at, Source::HostOrNothing, etc)));
    }
    mounts.extend(grants(launch)?);
    for socket in &launch.unix_sockets {
        check(Path::new(socket))?;
        let attributes = RDONLY | NODEV | NOEXEC;
        mounts.push(planned(socket, Source::Socket, attributes));
    }
    mounts.extend(PROC_MASKS.map(|at| planned(at, Source::Mask, Attributes::empty())));
    let denies = launch.denies.iter();
    mounts.extend(denies.map(|at| planned(at, Source::Mask, Attributes::empty())));
    mounts.sort_by_key(|mount| mount.at.components().count());
    Ok(mounts)
}

/// A mount is executable only when something in it or around it may be executed.
fn noexec(launch: &Launch, at: &Path) -> Attributes {
    let executable = launch.grants.iter().any(|grant| {
        let path = Path::new(&grant.path);
        grant.access & Access::EXEC != 0 && (path.starts_with(at) || at.starts_with(path))
    });
    if executable {
        Attributes::empty()
    } else {
        NOEXEC
    }
}

fn grants(launch: &Launch) -> Result<Vec<Planned>> {
    let paths: BTreeSet<&Path> = launch
        .grants
        .iter()
        .map(|grant| Path::new(&grant.path))
        .collect();
    let mut mounts = Vec::new();
    for at in paths {
        check(at)?;
        let access = launch.access(at);
        let writable = access & Access::WRITE != 0;
        let denied = launch.denies.iter().any(|deny| at.starts_with(deny));
        if denied || (!writable && is_there_already(launch, at)) {
            continue;
        }
        if at.starts_with(SKILL) {
            let remedy = "write below /tmp, or to a folder of the host";
            return Err(IsolateError::path(
                at,
                "the skill's folder is read-only",
                remedy,
            ));
        }
        let source = if writable {
            Source::HostOrNew
        } else {
            Source::Host
        };
        let mut attributes = noexec(launch, at);
        if !writable {
            attributes |= RDONLY;
        }
        if !at.starts_with("/dev") {
            attributes |= NODEV;
        }
        mounts.push(planned(at, source, attributes));
    }
    Ok(mounts)
}

fn check(at: &Path) -> Result<()> {
    let refuse = |problem: &str, remedy: &str| Err(IsolateError::path(at, problem, remedy));
    let parts_are_names = at
        .components()
        .skip(1)
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    if !at.is_absolute() || !parts_are_names {
        return refuse("is not an absolute path without ..", "resolve it first");
    }
    if at == Path::new("/") || at == Path::new("/etc") || at == Path::new("/dev") {
        return refuse(
            "is too much to grant",
            "name the files and folders in it that are needed",
        );
    }
    if at.starts_with("/proc") {
        return refuse(
            "the sandbox has its own /proc",
            "leave it out: what is readable is there",
        );
    }
    Ok(())
}

/// Whether reading `at` needs no mount of its own.
fn is_there_already(launch: &Launch, at: &Path) -> bool {
    let runtime = launch.runtime == Runtime::System
        && RUNTIME
            .iter()
            .chain(&RUNTIME_ETC)
            .any(|folder| at.starts_with(folder));
    at.starts_with(SKILL) || DEVICES.iter().any(|device| at == Path::new(device)) || runtime
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;
