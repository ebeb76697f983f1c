//! One cgroup per sandbox: what its processes are told apart by, held to, and killed through.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};

use super::error::{IsolateError, Result, Step};

/// The folder of all sandboxes, below the root of the hierarchy.
pub(super) const FOLDER: &str = "skillsandbox";

/// Where the cgroup of a sandbox is, from the root of the hierarchy on.
pub(super) fn place_of(id: &str) -> PathBuf {
    Path::new("/").join(FOLDER).join(id)
}

/// The controllers that limits need.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// The cgroup v2 hierarchy of this host.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    root: PathBuf,
}

/// The cgroup of one sandbox. Locked as long as this value lives, so that another supervisor can
/// tell it from one that was left behind.
#[derive(Debug)]
pub struct Cgroup {
    id: String,
    path: PathBuf,
    folder: File,
}

/// Stops what runs in a cgroup where it is, and has it go on.
#[derive(Debug)]
pub struct Freezer(OwnedFd);

impl Freezer {
    /// Each task stops when it is about to leave the kernel (`cgroup.freeze`, Linux 5.2; `kernel/cgroup/freezer.c`). What is
    /// killed meanwhile ends.
    pub fn freeze(&self) -> io::Result<()> {
        rustix::io::write(&self.0, b"1")?;
        Ok(())
    }

    /// All go on.
    pub fn thaw(&self) -> io::Result<()> {
        rustix::io::write(&self.0, b"0")?;
        Ok(())
    }
}

/// What a sandbox may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes of memory, all processes together, with no swap.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Share of the processors in relation to others, 1024 being the usual.
    pub cpu_shares: Option<u64>,
}

/// Whether a limit holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The kernel took the value.
    Set(String),
    /// It did not, and why. Resource limits of the process stand in.
    Unavailable(String),
}

impl Hierarchy {
    /// Finds where cgroup v2 is mounted: at `/sys/fs/cgroup`, or beside version 1.
    pub fn find() -> Result<Self> {
        let mounts =
            std::fs::read_to_string("/proc/self/mountinfo").step("read /proc/self/mountinfo")?;
        let root = mount_point(&mounts).ok_or_else(|| {
            IsolateError::refused(
                "cgroup v2 is not mounted",
                "mount it: mount -t cgroup2 none /sys/fs/cgroup",
            )
        })?;
        Ok(Self { root })
    }

    /// Where the hierarchy is mounted.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the cgroup of sandbox `id`: letters, digits, `-` and `_`.
    pub fn create(&self, id: &str) -> Result<Cgroup> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if id.is_empty() || !id.bytes().all(is_plain) {
            return Err(IsolateError::refused(
                format!("{id:?} is not a sandbox id"),
                "use letters, digits, - and _",
            ));
        }
        let base = self.base()?;
        let path = base.path.join(id);
        std::fs::create_dir(&path).step(format!("create the cgroup {}", path.display()))?;
        let cgroup = Cgroup::open(path, id)?;
        cgroup.lock().step("lock the new cgroup")?;
        Ok(cgroup)
    }

    /// The cgroups of all sandboxes: those that supervisors left behind, locked now, and the ids
    /// of those that live.
    pub fn sandboxes(&self) -> Result<(Vec<Cgroup>, Vec<String>)> {
        let base = self.base()?;
        let (mut stale, mut alive) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&base.path).step("list the cgroups of sandboxes")? {
            let entry = entry.step("list the cgroups of sandboxes")?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() {
                let cgroup = Cgroup::open(entry.path(), &name)?;
                if cgroup.lock().is_ok() {
                    stale.push(cgroup);
                } else {
                    alive.push(name);
                }
            }
        }
        Ok((stale, alive))
    }

    /// The folder of all sandboxes, locked: no one else creates or looks for one meanwhile.
    fn base(&self) -> Result<Cgroup> {
        let path = self.root.join(FOLDER);
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).step(format!("create the cgroup {}", path.display()));
            }
            _ => {}
        }
        // Not every host has, or gives away, every controller; `limit` finds out which hold.
        for folder in [&self.root, &path] {
            for controller in CONTROLLERS {
                let _ = std::fs::write(
                    folder.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                );
            }
        }
        let base = Cgroup::open(path, "")?;
        rustix::fs::flock(&base.folder, FlockOperation::LockExclusive)
            .step("lock the folder of all sandboxes")?;
        Ok(base)
    }
}

/// The first mount of type cgroup2 in `/proc/self/mountinfo`.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let is_cgroup2 = right.split(' ').next() == Some("cgroup2");
        is_cgroup2.then(|| left.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// `cpu.weight` for shares of version 1, as runc and crun convert it.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

impl Cgroup {
    fn open(path: PathBuf, id: &str) -> Result<Self> {
        let folder = File::open(&path).step(format!("open the cgroup {}", path.display()))?;
        Ok(Self {
            id: id.to_owned(),
            path,
            folder,
        })
    }

    fn lock(&self) -> rustix::io::Result<()> {
        rustix::fs::flock(&self.folder, FlockOperation::NonBlockingLockExclusive)
    }

    /// The sandbox that it belongs to.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path below the root of the hierarchy, as `iptables -m cgroup --path` takes it.
    #[must_use]
    pub fn path_in_hierarchy(&self) -> String {
        format!("{FOLDER}/{}", self.id)
    }

    /// Its number: the inode of its folder, by which eBPF programs know it.
    pub fn inode(&self) -> Result<u64> {
        Ok(self.folder.metadata().step("look at the cgroup")?.ino())
    }

    /// Its folder, to attach programs to.
    #[must_use]
    pub fn folder(&self) -> &File {
        &self.folder
    }

    /// Sets the limits; says of each, by the file's name, whether it holds.
    #[must_use]
    pub fn limit(&self, resources: &Resources) -> Vec<(&'static str, Limit)> {
        let memory = resources.memory_bytes;
        let wanted = [
            ("memory.max", memory.map(|bytes| bytes.to_string())),
            ("memory.swap.max", memory.map(|_| "0".to_owned())),
            ("memory.oom.group", memory.map(|_| "1".to_owned())),
            (
                "pids.max",
                resources.processes.map(|count| count.to_string()),
            ),
            (
                "cpu.weight",
                resources
                    .cpu_shares
                    .map(|shares| weight(shares).to_string()),
            ),
        ];
        let set = |name, value: String| match self.write(name, &value) {
            Ok(()) => Limit::Set(value),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Limit::Unavailable("this cgroup has no such controller".to_owned())
            }
            Err(error) => Limit::Unavailable(error.to_string()),
        };
        wanted
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| (name, set(name, value))))
            .collect()
    }

    /// Whether processes are left in it or below.
    pub fn is_populated(&self) -> Result<bool> {
        let events = self.read("cgroup.events").step("read cgroup.events")?;
        Ok(events.lines().any(|line| line == "populated 1"))
    }

    /// Sends `signal` to every process in it and below.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        for folder in below(&self.path).step("list the child cgroups")? {
            let processes = std::fs::read_to_string(folder.join("cgroup.procs"));
            for line in processes.step("read cgroup.procs")?.lines() {
                if let Some(pid) = line.parse().ok().and_then(Pid::from_raw) {
                    match kill_process(pid, signal) {
                        Err(rustix::io::Errno::SRCH) | Ok(()) => {}
                        Err(error) => return Err(error).step(format!("signal process {line}")),
                    }
                }
            }
        }
        Ok(())
    }

    /// What stops all that runs in it and below.
    pub fn freezer(&self) -> Result<Freezer> {
        let file = self.file("cgroup.freeze", OFlags::WRONLY);
        Ok(Freezer(file.step("open cgroup.freeze")?))
    }

    /// Kills every process in it and below, those that are being made included.
    pub fn kill(&self) -> Result<()> {
        match self.write("cgroup.kill", "1") {
            Ok(()) => Ok(()),
            // Before Linux 5.14: stop them first, so that none can fork away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.write("cgroup.freeze", "1").step("freeze the cgroup")?;
                self.signal(Signal::KILL)?;
                self.write("cgroup.freeze", "0").step("thaw the cgroup")
            }
            Err(error) => Err(error).step("kill the processes of the cgroup"),
        }
    }

    /// Removes it and the cgroups below, which must be empty or about to be.
    pub fn remove(&self) -> Result<()> {
        let mut outcome = Ok(());
        for _ in 0..100 {
            outcome = self.remove_once();
            match &outcome {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                _ => break,
            }
        }
        outcome.step(format!("remove the cgroup {}", self.path.display()))
    }

    fn remove_once(&self) -> io::Result<()> {
        // The deepest come last, and go first.
        for folder in below(&self.path)?.iter().rev() {
            match std::fs::remove_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn file(&self, name: &str, access: OFlags) -> io::Result<OwnedFd> {
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(
            self.folder.as_fd(),
            name,
            flags,
            Mode::empty(),
        )?)
    }

    fn write(&self, name: &str, value: &str) -> io::Result<()> {
        rustix::io::write(self.file(name, OFlags::WRONLY)?, value.as_bytes())?;
        Ok(())
    }

    pub(super) fn read(&self, name: &str) -> io::Result<String> {
        io::read_to_string(File::from(self.file(name, OFlags::RDONLY)?))
    }
}

/// A cgroup and all below it, parents first.
pub(super) fn below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![path.to_owned()];
    let mut next = 0;
    while let Some(folder) = found.get(next) {
        match std::fs::read_dir(folder) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    if entry.file_type()?.is_dir() {
                        found.push(entry.path());
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        next += 1;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_in_both_layouts() {
        let unified = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(unified), Some("/sys/fs/cgroup".into()));
        let hybrid = "39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point("22 27 0:21 / /proc rw - proc proc rw\n"), None);
    }

    #[test]
    fn shares_become_weights() {
        assert_eq!(
            [0, 2, 1024, 262_144, u64::MAX].map(weight),
            [1, 1, 39, 10_000, 10_000]
        );
    }

    #[test]
    fn an_id_that_is_a_path_is_refused() {
        let hierarchy = Hierarchy {
            root: "/nonexistent".into(),
        };
        for id in ["", "..", "a/b", ".hidden", "a\n"] {
            assert!(hierarchy.create(id).is_err(), "{id:?}");
        }
    }
}
