//! Paths that a manifest names, resolved without being led astray.
//!
//! A skill may have planted links in the folders that it can write to, and this process is root.
//! So links are followed once, here, and only root's; the path that comes out is opened later
//! with a resolution that follows none, and a change in between is an error.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, StatxFlags, Uid};

use super::error::{IsolateError, Result, Step};
use super::privileges::Identity;

/// Links that one path may go through, as in the kernel (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// A path without links, and the links that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The path without links, `.` and `..`.
    pub real: PathBuf,
    /// Each link on the way and what it says, so that the sandbox can have them too.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Whether something is there. Nothing below a missing folder is a link.
    pub exists: bool,
}

/// Resolves an absolute path of the host. Follows a link only if root owns it.
pub fn resolve(path: &Path) -> Result<Resolved> {
    if !path.is_absolute() {
        return Err(IsolateError::path(
            path,
            "is not absolute",
            "begin it with /",
        ));
    }
    let mut resolved = Resolved {
        real: PathBuf::from("/"),
        links: Vec::new(),
        exists: true,
    };
    let mut ahead = names(path);
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            resolved.real.pop();
            continue;
        }
        let next = resolved.real.join(name);
        match next.symlink_metadata() {
            Ok(status) if status.is_symlink() => {
                let target = std::fs::read_link(&next).step(format!("read {}", next.display()))?;
                if status.uid() != 0 {
                    return Err(IsolateError::path(
                        path,
                        format!(
                            "goes through the link {}, which root does not own",
                            next.display()
                        ),
                        format!("if its target {} is meant, name that", target.display()),
                    ));
                }
                if resolved.links.len() == MAX_LINKS {
                    return Err(IsolateError::path(
                        path,
                        "has too many links",
                        "name its target",
                    ));
                }
                for name in names(&target).into_iter().rev() {
                    ahead.push_front(name);
                }
                if target.is_absolute() {
                    resolved.real = PathBuf::from("/");
                }
                resolved.links.push((next, target));
            }
            Ok(_) => resolved.real = next,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                resolved.real = next;
                resolved.exists = false;
            }
            Err(error) => return Err(error).step(format!("look at {}", next.display())),
        }
    }
    Ok(resolved)
}

/// The names of a path, `..` among them.
pub(super) fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

/// Opens a path of the host, itself and nothing a link leads to, for reference only (`O_PATH`).
pub(super) fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat2(
        CWD,
        path,
        OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
}

/// The file of a unix socket, as the kernel knows it inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketFile {
    /// `struct super_block.s_dev` of its file system, which stat(2) does not tell of every one.
    pub device: u32,
    /// Its number there.
    pub inode: u64,
}

/// Looks at the unix socket at a path without links. Linux 5.8.
pub fn socket_file(path: &Path) -> Result<SocketFile> {
    let refused = |problem: &str, remedy: &str| Err(IsolateError::path(path, problem, remedy));
    let file = match open(path) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
            return refused(
                "is named as a unix socket, and nothing is there",
                "start the server that makes it, or take it out of the manifest",
            );
        }
        other => other.step(format!("open {}", path.display()))?,
    };
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let status = rustix::fs::statx(&file, "", flags, wanted);
    let status = status.step(format!("look at {}", path.display()))?;
    let told = StatxFlags::from_bits_retain(status.stx_mask);
    if FileType::from_raw_mode(status.stx_mode.into()) != FileType::Socket {
        return refused(
            "is named as a unix socket, and it is none",
            "name the socket itself",
        );
    }
    let mounts =
        std::fs::read_to_string("/proc/self/mountinfo").step("read /proc/self/mountinfo")?;
    match device_of_mount(&mounts, status.stx_mnt_id) {
        Some(device) if told.contains(wanted) => Ok(SocketFile {
            device,
            inode: status.stx_ino,
        }),
        _ => refused(
            "is on a mount that the kernel does not tell",
            "move it to another",
        ),
    }
}

/// The device of the mount of this number: its first and third field (`proc_pid_mountinfo(5)`), as
/// the kernel writes one inside (`MKDEV`, `include/linux/kdev_t.h`).
fn device_of_mount(mounts: &str, id: u64) -> Option<u32> {
    let line = mounts.lines().map(|line| line.split(' '));
    let mut found = line.filter_map(|mut fields| {
        let same = fields.next()?.parse() == Ok(id);
        same.then(|| fields.nth(1))?
    });
    let (major, minor) = found.next()?.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    (major < 1 << 12 && minor < 1 << 20).then_some(major << 20 | minor)
}

/// Whether the host may have something at this path. `true` where that is not to be told without
/// following a link.
#[must_use]
pub fn may_exist(path: &Path) -> bool {
    use rustix::io::Errno;
    !matches!(open(path), Err(Errno::NOENT | Errno::NOTDIR))
}

/// Opens a path below `root`, itself and nothing a link leads to, for reference only.
pub(super) fn open_below(root: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let below = path.strip_prefix("/").unwrap_or(path);
    let below = if below.as_os_str().is_empty() {
        Path::new(".")
    } else {
        below
    };
    rustix::fs::openat2(
        root,
        below,
        OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
}

/// Makes the folder `path` of the host, and those above it that are missing, for `owner`, as `maker`.
pub(super) fn create_folder(path: &Path, owner: Identity, maker: u32) -> Result<OwnedFd> {
    let mut folder = open(Path::new("/")).step("open /")?;
    for name in names(path) {
        folder = match enter(&folder, &name) {
            Err(rustix::io::Errno::NOENT) => {
                let doing = || format!("create {} for {}", name.display(), path.display());
                rustix::fs::mkdirat(&folder, &name, Mode::from_raw_mode(0o755)).step(doing())?;
                let new = enter(&folder, &name).step(doing())?;
                // Whoever owns the folder around it could have put another in its place.
                if rustix::fs::fstat(&new).step(doing())?.st_uid != maker {
                    return Err(IsolateError::path(
                        path,
                        "was replaced while it was being created",
                        "create it by hand",
                    ));
                }
                rustix::fs::chownat(
                    &new,
                    "",
                    Some(Uid::from_raw(owner.uid)),
                    Some(Gid::from_raw(owner.gid)),
                    AtFlags::EMPTY_PATH,
                )
                .step(doing())?;
                new
            }
            other => other.step(format!("enter {} of {}", name.display(), path.display()))?,
        };
    }
    Ok(folder)
}

fn enter(folder: impl AsFd, name: &OsString) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(
        folder,
        name,
        OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECTORY,
        Mode::empty(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_of_a_mount_is_the_kernels_and_that_of_no_other_mount() {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      221 22 0:300 / /run rw,nosuid shared:2 - tmpfs tmpfs rw\n";
        assert_eq!(device_of_mount(mounts, 221), Some(300));
        assert_eq!(device_of_mount(mounts, 22), Some(8 << 20 | 1));
        assert_eq!(device_of_mount(mounts, 2), None);
        assert_eq!(device_of_mount("2 1 4096:0 / / rw\n", 2), None);
    }

    #[test]
    fn a_relative_path_is_refused() {
        assert!(resolve(Path::new("etc")).is_err());
    }

    #[test]
    fn the_links_of_the_system_are_followed_and_remembered() {
        let resolved = resolve(Path::new("/proc/self/../mounts")).unwrap();
        assert!(resolved.exists);
        // /proc/self is a link to this process; /proc/mounts one to self/mounts.
        assert!(resolved.real.starts_with("/proc"), "{resolved:?}");
        assert!(!resolved.links.is_empty());
    }

    #[test]
    fn a_link_that_someone_else_could_have_planted_is_not_followed() {
        let folder = std::env::temp_dir().join(format!("planted-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let link = folder.join("link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        // Tests that do not run as root own the link already.
        let _ = std::os::unix::fs::lchown(&link, Some(1), Some(1));
        let refused = resolve(&link.join("passwd"));
        let opened = open(&link.join("passwd"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(refused.unwrap_err().to_string().contains("name that"));
        assert_eq!(opened.unwrap_err(), rustix::io::Errno::LOOP);
    }

    #[test]
    fn what_is_missing_is_said_to_be() {
        let resolved = resolve(Path::new("/nowhere/./at/../all")).unwrap();
        assert_eq!(resolved.real, Path::new("/nowhere/all"));
        assert!(!resolved.exists);
    }
}
