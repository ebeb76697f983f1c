//! Where the processes of a cgroup are at home: a mount namespace, and a root in it. What a path means is
//! found out there.

use std::{
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    panic::resume_unwind,
    path::Path,
    thread,
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    process::{chroot, fchdir},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

use super::error::{Result, Step};

/// A mount namespace and a root.
#[derive(Debug)]
pub struct Home {
    namespace: OwnedFd,
    root: OwnedFd,
    place: Place,
}

/// What tells one home from another: the namespace's number, and the root's device and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    namespace: u64,
    root: (u64, u64),
}

impl Home {
    /// Where this process is.
    pub fn own() -> Result<Self> {
        Self::at(Path::new("/proc/self"))
    }

    /// Where a process is.
    pub fn of(process: u32) -> Result<Self> {
        Self::at(&Path::new("/proc").join(process.to_string()))
    }

    fn at(process: &Path) -> Result<Self> {
        let open = |name: &str, flags: OFlags| {
            let path = process.join(name);
            openat(CWD, &path, flags | OFlags::CLOEXEC, Mode::empty())
                .step(format!("open {}", path.display()))
        };
        let namespace = open("ns/mnt", OFlags::RDONLY)?;
        let root = open("root", OFlags::PATH | OFlags::DIRECTORY)?;
        let look = |file: &OwnedFd| {
            let copy = file
                .try_clone()
                .and_then(|copy| File::from(copy).metadata());
            copy.step(format!("look at the home of {}", process.display()))
        };
        let (of_namespace, of_root) = (look(&namespace)?, look(&root)?);
        Ok(Self {
            namespace,
            root,
            place: Place {
                namespace: of_namespace.ino(),
                root: (of_root.dev(), of_root.ino()),
            },
        })
    }

    /// Where that is.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// Does something there, on a thread of its own: paths begin at its root. Needs `CAP_SYS_ADMIN` and `CAP_SYS_CHROOT`
    /// (setns(2)).
    pub fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                self.enter()?;
                Ok(what())
            });
            there.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    #[expect(unsafe_code, reason = "leaving what threads share has no safe call")]
    fn enter(&self) -> Result<()> {
        // SAFETY: only the root and the working folder are no longer those of the other threads, and this
        // thread is about to have its own.
        unsafe { unshare_unsafe(UnshareFlags::FS) }.step("leave the other threads' root")?;
        let namespace = Some(LinkNameSpaceType::Mount);
        move_into_link_name_space(self.namespace.as_fd(), namespace)
            .step("enter the mount namespace of the cgroup's processes")?;
        fchdir(&self.root).step("go to the root of the cgroup's processes")?;
        chroot(".").step("take the root of the cgroup's processes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_at_home_where_its_child_is() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let (own, of_child) = (Home::own().unwrap(), Home::of(child.id()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(own.place(), of_child.place());
    }

    #[test]
    fn nobody_is_at_home_where_a_process_that_is_gone_was() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = child.id();
        child.wait().unwrap();
        let error = Home::of(id).unwrap_err().to_string();
        assert!(error.contains("/proc/"), "{error}");
    }
}
