//! A cgroup that is there already, and what is in it.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, openat, openat2},
    io::Errno,
};

use super::{
    cgroup::{FOLDER, Hierarchy, below},
    error::{IsolateError, Result, Step},
};

/// `CGROUP2_SUPER_MAGIC`, `include/uapi/linux/magic.h`.
const CGROUP2: rustix::fs::FsWord = 0x6367_7270;

/// A cgroup that others made and keep.
#[derive(Debug)]
pub struct Existing {
    folder: File,
    path: PathBuf,
    /// From the root of the hierarchy on: `/system.slice/agent.service`.
    place: PathBuf,
    id: u64,
}

impl Existing {
    /// Opens the cgroup of this path, below the mount of the hierarchy or from its root on.
    pub fn open(hierarchy: &Hierarchy, path: &Path) -> Result<Self> {
        let refused = |problem: &str, remedy: &str| IsolateError::path(path, problem, remedy);
        let inside = path
            .strip_prefix(hierarchy.root())
            .or_else(|_| path.strip_prefix("/"))
            .map_err(|_not_below| refused("is not absolute", "begin it with /"))?;
        if inside.as_os_str().is_empty() {
            return Err(refused(
                "is the root of all cgroups, which holds this host itself",
                "name the cgroup of what is to be confined",
            ));
        }
        if inside.starts_with(FOLDER) {
            return Err(refused(
                "is of a sandbox that `run` made, which has its policy",
                "name a cgroup of somebody else's",
            ));
        }
        Self::below(hierarchy, inside)?.ok_or_else(|| {
            refused(
                "is not there",
                "name a cgroup v2 folder, such as /system.slice/NAME.service; systemd-cgls shows them",
            )
        })
    }

    /// The cgroup of this place, if it is the one of this number. `None` is that it is gone for certain: what
    /// cannot be looked at is an error.
    pub fn of(hierarchy: &Hierarchy, place: &Path, id: u64) -> Result<Option<Self>> {
        let inside = place.strip_prefix("/").unwrap_or(place);
        let found = Self::below(hierarchy, inside)?;
        Ok(found.filter(|found| found.id == id))
    }

    fn below(hierarchy: &Hierarchy, inside: &Path) -> Result<Option<Self>> {
        let path = hierarchy.root().join(inside);
        let root = open_folder(hierarchy.root())?;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match openat2(&root, inside, flags, Mode::empty(), resolve) {
            Err(Errno::NOENT) => return Ok(None),
            other => File::from(other.step(format!("open the cgroup {}", path.display()))?),
        };
        if fstatfs(&folder).step("look at the cgroup")?.f_type != CGROUP2 {
            return Err(IsolateError::path(
                &path,
                "is no cgroup of version 2",
                "name a folder of the cgroup2 file system",
            ));
        }
        let id = folder.metadata().step("look at the cgroup")?.ino();
        Ok(Some(Self {
            folder,
            path,
            place: Path::new("/").join(inside),
            id,
        }))
    }

    /// Its folder, to attach programs to.
    #[must_use]
    pub fn folder(&self) -> &File {
        &self.folder
    }

    /// Its place, from the root of the hierarchy on.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Its number, by which eBPF programs know it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether it is still there: another one of its path is another one. What cannot be found out is an error.
    pub fn is_there(&self) -> Result<bool> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        match openat(self.folder.as_fd(), "cgroup.procs", flags, Mode::empty()) {
            // The files of a cgroup that was removed are gone with it.
            Err(Errno::NOENT | Errno::NODEV) => Ok(false),
            opened => opened
                .map(|_there| true)
                .step("find out whether the cgroup is still there"),
        }
    }

    /// Whether nothing runs in it until somebody thaws it.
    pub fn is_frozen(&self) -> Result<bool> {
        let events = std::fs::read_to_string(self.path.join("cgroup.events"));
        let events = events.step("read cgroup.events")?;
        Ok(events.lines().any(|line| line == "frozen 1"))
    }

    /// Whether this process runs in it or below.
    pub fn holds_this_process(&self) -> Result<bool> {
        let own = std::fs::read_to_string("/proc/self/cgroup").step("read /proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::"));
        Ok(own.is_some_and(|own| Path::new(own).starts_with(&self.place)))
    }

    /// The processes in it and below that are seen from here.
    pub fn processes(&self) -> Result<BTreeSet<u32>> {
        let mut found = BTreeSet::new();
        for folder in below(&self.path).step("list the cgroup")? {
            let text = match std::fs::read_to_string(folder.join("cgroup.procs")) {
                // One that is gone has none. One whose threads are in several has its processes above.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        || error.raw_os_error() == Some(libc::EOPNOTSUPP)
                        || error.raw_os_error() == Some(libc::ENODEV) =>
                {
                    continue;
                }
                text => text.step("read cgroup.procs")?,
            };
            // 0 is one of another PID namespace, of which nothing is known here.
            let ids = text.lines().filter_map(|line| line.parse::<u32>().ok());
            found.extend(ids.filter(|id| *id > 0));
        }
        Ok(found)
    }
}

fn open_folder(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).step(format!("open {}", path.display()))
}
