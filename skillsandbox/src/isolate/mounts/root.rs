//! The root of a sandbox: a new file system, filled through descriptors and never through links.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::isolate::error::{IsolateError, Result, Step};
use crate::isolate::paths;
use crate::isolate::system::set_mount_attributes;

/// Attributes of a mount that is only looked at.
pub(super) const SEALED: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY
    .union(MountAttrFlags::MOUNT_ATTR_NOSUID)
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// A new root, mounted on the old one.
pub(super) struct Root {
    top: OwnedFd,
    /// Devices that are the sandbox's own. Nothing is ever created on any other: it would be on
    /// the host.
    own: Vec<u64>,
}

/// Copies the mount that `path` is in, from there down, and those below it. It is not attached
/// anywhere. Only for paths in this process's own mount namespace. Linux 5.2.
pub(super) fn copy_tree(path: impl AsFd) -> rustix::io::Result<OwnedFd> {
    rustix::mount::open_tree(
        path,
        "",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE,
    )
}

/// Makes a file system that is not attached anywhere. Linux 5.2.
pub(super) fn new_filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    let doing = || format!("make a file system of kind {kind}");
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).step(doing())?;
    for (name, value) in options {
        rustix::mount::fsconfig_set_string(context.as_fd(), *name, *value)
            .step(format!("{} with {name}={value}", doing()))?;
    }
    rustix::mount::fsconfig_create(context.as_fd()).step(doing())?;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).step(doing())
}

impl Root {
    /// Mounts an empty root on the old one, which absolute paths still mean.
    pub(super) fn new() -> Result<Self> {
        let options = [("mode", "0755"), ("size", "1m"), ("nr_inodes", "4096")];
        let root = new_filesystem(
            "tmpfs",
            &options,
            SEALED & !MountAttrFlags::MOUNT_ATTR_RDONLY,
        )?;
        attach(root.as_fd(), open_root()?.as_fd()).step("mount the sandbox's root")?;
        let own = vec![device(&root)?];
        Ok(Self { top: root, own })
    }

    /// Makes a folder and those above it, if missing, and returns it.
    pub(super) fn folder(&self, path: &Path) -> Result<OwnedFd> {
        let mut folder = self.top.try_clone().step("copy a descriptor")?;
        for name in paths::names(path) {
            let doing = || format!("make {} in the sandbox", path.display());
            let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECTORY;
            let open =
                |folder: BorrowedFd<'_>| rustix::fs::openat(folder, &name, flags, Mode::empty());
            folder = match open(folder.as_fd()) {
                Err(rustix::io::Errno::NOENT) => {
                    self.check_own(&folder, path)?;
                    rustix::fs::mkdirat(&folder, &name, Mode::from_raw_mode(0o755)).step(doing())?;
                    open(folder.as_fd()).step(doing())?
                }
                other => other.step(doing())?,
            };
        }
        Ok(folder)
    }

    /// Makes a file with `content`, unless something is there.
    pub(super) fn file(&self, path: &Path, content: &[u8], mode: u32) -> Result<()> {
        let (folder, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let doing = || format!("write {} in the sandbox", path.display());
        if exists(&folder, name)? {
            return Ok(());
        }
        self.check_own(&folder, path)?;
        let file = rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(mode));
        std::fs::File::from(file.step(doing())?)
            .write_all(content)
            .step(doing())
    }

    /// Makes a link, unless something is there.
    pub(super) fn link(&self, path: &Path, target: &OsStr) -> Result<()> {
        let (folder, name) = self.parent(path)?;
        if exists(&folder, name)? {
            return Ok(());
        }
        self.check_own(&folder, path)?;
        rustix::fs::symlinkat(target, &folder, name)
            .step(format!("link {} in the sandbox", path.display()))
    }

    /// From now on things may be created in `folder`, which is the sandbox's own.
    pub(super) fn own(&mut self, folder: impl AsFd) -> Result<()> {
        self.own.push(device(folder)?);
        Ok(())
    }

    fn check_own(&self, folder: &OwnedFd, path: &Path) -> Result<()> {
        if self.own.contains(&device(folder)?) {
            return Ok(());
        }
        Err(IsolateError::path(
            path,
            "is missing in a folder of the host that is granted as a whole",
            "create it on the host, or grant it by a path without links",
        ))
    }

    fn parent<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr)> {
        let folder = self.folder(path.parent().unwrap_or(Path::new("/")))?;
        Ok((folder, path.file_name().unwrap_or_default()))
    }

    /// Attaches `tree`, with `attributes` on it and what is mounted below, at a path that exists.
    pub(super) fn mount(
        &self,
        tree: BorrowedFd<'_>,
        at: &Path,
        attributes: MountAttrFlags,
    ) -> Result<()> {
        let doing = || format!("mount {} in the sandbox", at.display());
        set_mount_attributes(tree, attributes, true).step(doing())?;
        let target = paths::open_below(&self.top, at).step(doing())?;
        attach(tree, target.as_fd()).step(doing())
    }

    /// What is at a path, itself and not what a link leads to.
    pub(super) fn look(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        paths::open_below(&self.top, path)
    }

    /// Makes the root read-only and the only one: nothing of the old tree can be reached.
    pub(super) fn enter(self) -> Result<()> {
        set_mount_attributes(self.top.as_fd(), SEALED, false).step("seal the sandbox's root")?;
        rustix::process::fchdir(&self.top).step("enter the sandbox's root")?;
        rustix::process::pivot_root(".", ".").step("change the root (pivot_root)")?;
        // The old root now lies on the new one.
        rustix::mount::unmount(".", UnmountFlags::DETACH).step("leave the host's files")?;
        rustix::process::chdir("/").step("enter the sandbox's root")
    }
}

fn device(folder: impl AsFd) -> Result<u64> {
    Ok(rustix::fs::fstat(folder).step("look at a folder")?.st_dev)
}

fn exists(folder: &OwnedFd, name: &OsStr) -> Result<bool> {
    match rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error).step(format!("look at {}", name.display())),
    }
}

fn open_root() -> Result<OwnedFd> {
    paths::open(Path::new("/")).step("open /")
}

fn attach(tree: BorrowedFd<'_>, at: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::mount::move_mount(
        tree,
        "",
        at,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}
