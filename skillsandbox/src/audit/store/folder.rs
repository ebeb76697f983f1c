//! The folder, and the files in it.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::{
    fs::{AtFlags, Dir, FlockOperation, Gid, Mode, OFlags, flock, mkdirat, openat, stat},
    io::Errno,
};

use super::{
    StoreError,
    key::{Key, PublicKey},
    ledger::{self, What},
};
use crate::audit::safe_file::open_folder;

const RUNS: &str = "runs";
pub(super) const SEGMENTS: &str = "segments";
const LEDGER: &str = "ledger";
const SUFFIX: &str = ".log";
/// Who reads without being root, where the host has the group. Not the group of those who ask the daemon for runs: they would
/// read of one another.
const GROUP: &str = "skillsandbox-audit";
pub(super) const FOLDER_MODE: u32 = 0o750;
pub(super) const FILE_MODE: u32 = 0o640;
/// Longest ledger that is read at once.
const LEDGER_MAX: u64 = 1 << 30;

/// An audit store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    folder: OwnedFd,
    runs: OwnedFd,
    /// Not there before anything was sealed.
    segments: Option<OwnedFd>,
}

/// An audit store that runs are added to.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    key: Key,
    group: Option<Gid>,
}

impl Store {
    /// Opens the store in this folder, to read it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let missing = || StoreError::Missing {
            path: path.to_owned(),
        };
        let folder = match open_folder(path) {
            Err(Errno::NOENT) => return Err(missing()),
            opened => opened.map_err(system(path, "open the folder"))?,
        };
        refuse_shared(path)?;
        Self::of(path, folder)?.ok_or_else(missing)
    }

    /// The store in this open folder, if there is one.
    fn of(path: &Path, folder: OwnedFd) -> Result<Option<Self>, StoreError> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let runs = match openat(&folder, RUNS, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.map_err(system(path, "open the folder of runs"))?,
        };
        let segments = match openat(&folder, SEGMENTS, flags, Mode::empty()) {
            Err(Errno::NOENT) => None,
            opened => Some(opened.map_err(system(path, "open the folder of segments"))?),
        };
        Ok(Some(Self {
            path: path.to_owned(),
            folder,
            runs,
            segments,
        }))
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the runs that have a log, in the order in which they began, and of what else is there.
    pub fn runs(&self) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let failed = system(&self.path, "list the runs");
        let (mut runs, mut others) = (Vec::new(), Vec::new());
        for entry in Dir::read_from(&self.runs).map_err(failed)? {
            let entry = entry.map_err(system(&self.path, "list the runs"))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            match name.to_str().map(|name| (name, name.strip_suffix(SUFFIX))) {
                Some(("." | "..", _)) => {}
                Some((_, Some(run))) => runs.push(run.to_owned()),
                _ => others.push(name.to_string_lossy().into_owned()),
            }
        }
        runs.sort();
        Ok((runs, others))
    }

    /// The log of a run, to read.
    pub fn log(&self, run: &str) -> Result<File, StoreError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = format!("{run}{SUFFIX}");
        let log = openat(&self.runs, &name, flags, Mode::empty());
        let log = log.map_err(system(&self.path.join(RUNS).join(name), "open the log"))?;
        Ok(log.into())
    }

    /// Whether somebody still writes this log.
    pub fn is_written(&self, log: &File) -> Result<bool, StoreError> {
        match flock(log, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(self.failed("find out who writes a log")(error.into())),
        }
    }

    pub(super) fn segments_folder(&self) -> Option<BorrowedFd<'_>> {
        self.segments.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn key(&self) -> Result<PublicKey, StoreError> {
        PublicKey::of(self.folder.as_fd()).map_err(self.failed("read the public key"))
    }

    pub(super) fn ledger(&self) -> Result<Vec<u8>, StoreError> {
        let failed = |error: Errno| self.failed("read the ledger")(error.into());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let ledger =
            File::from(openat(&self.folder, LEDGER, flags, Mode::empty()).map_err(failed)?);
        // No line is being written meanwhile.
        flock(&ledger, FlockOperation::LockShared).map_err(failed)?;
        let mut bytes = Vec::new();
        let read = ledger.take(LEDGER_MAX + 1).read_to_end(&mut bytes);
        let read = read.map_err(self.failed("read the ledger"))?;
        if read as u64 > LEDGER_MAX {
            let why = io::Error::other("it has more than 1 GiB: begin another store");
            return Err(self.failed("read the ledger")(why));
        }
        Ok(bytes)
    }

    pub(crate) fn failed(&self, what: &'static str) -> impl Fn(io::Error) -> StoreError {
        let path = self.path.clone();
        move |source| StoreError::System {
            path: path.clone(),
            what,
            source,
        }
    }
}

impl Writer {
    /// Opens the store in this folder, and makes what is missing of it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(path);
        made.map_err(|source| StoreError::System {
            path: path.to_owned(),
            what: "make the folder",
            source,
        })?;
        let folder = open_folder(path).map_err(system(path, "open the folder"))?;
        refuse_shared(path)?;
        // One at a time: two would make two keys.
        flock(&folder, FlockOperation::LockExclusive).map_err(system(path, "lock the folder"))?;
        let group = group_of(GROUP);
        for name in [RUNS, SEGMENTS] {
            make(&folder, name).map_err(system(path, "make the folders of runs and segments"))?;
        }
        let key = Key::of(folder.as_fd());
        let key = key.map_err(|source| StoreError::System {
            path: path.to_owned(),
            what: "use the key",
            source,
        })?;
        flock(&folder, FlockOperation::Unlock).map_err(system(path, "unlock the folder"))?;
        // The folder that was looked at, whatever has its path by now.
        let store = Store::of(path, folder)?.ok_or_else(|| StoreError::Missing {
            path: path.to_owned(),
        })?;
        let segments = store.segments.as_ref().map(AsFd::as_fd);
        for opened in [store.folder.as_fd(), store.runs.as_fd()]
            .into_iter()
            .chain(segments)
        {
            give(opened, group).map_err(system(path, "give the folder to its group"))?;
        }
        Ok(Self { store, key, group })
    }

    /// The store of this folder, which must be there.
    pub fn of(path: &Path) -> Result<Self, StoreError> {
        Store::open(path)?;
        Self::open(path)
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Who reads the files without being root.
    pub(super) fn group(&self) -> Option<Gid> {
        self.group
    }

    /// Removes the log of a run.
    pub(super) fn remove(&self, run: &str) -> io::Result<()> {
        rustix::fs::unlinkat(&self.store.runs, format!("{run}{SUFFIX}"), AtFlags::empty())?;
        Ok(rustix::fs::fsync(&self.store.runs)?)
    }

    /// Makes the log of a run, locked for as long as it is open, and says in the ledger that it begins.
    pub(super) fn begin(&self, run: &str, time: String) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let name = format!("{run}{SUFFIX}");
        let mode = Mode::from_raw_mode(FILE_MODE);
        let log = openat(&self.store.runs, &name, flags, mode)?;
        give(log.as_fd(), self.group)?;
        // Waits for whoever looks just now whether it is written.
        flock(&log, FlockOperation::LockExclusive)?;
        rustix::fs::fsync(&self.store.runs)?;
        self.state(run, time, What::Begin)?;
        Ok(log.into())
    }

    /// Opens the log of a run that began and did not end, locked for as long as it is open. `None` for one that never
    /// began, or that has ended.
    pub(super) fn reopen(&self, run: &str) -> io::Result<Option<File>> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = format!("{run}{SUFFIX}");
        let log = openat(&self.store.runs, name, flags, Mode::empty());
        if let Ok(log) = &log
            && let Err(Errno::WOULDBLOCK) = flock(log, FlockOperation::NonBlockingLockExclusive)
        {
            return Err(io::Error::other("another recorder writes it"));
        }
        let ledger = self.store.ledger().map_err(io::Error::other)?;
        let key = self.store.key().map_err(io::Error::other)?;
        let (statements, _) = ledger::read(&ledger, &key);
        let said = statements.iter().rfind(|statement| statement.run == run);
        match said.map(|statement| &statement.what) {
            Some(What::Begin) => Ok(Some(log?.into())),
            None => {
                // Made, and its writer was killed before the ledger said so.
                if log.is_ok_and(|log| File::from(log).metadata().is_ok_and(|log| log.len() == 0)) {
                    self.remove(run)?;
                }
                Ok(None)
            }
            Some(What::End { .. }) => Ok(None),
            Some(_) => Err(io::Error::other(
                "the ledger does not say that it is still open",
            )),
        }
    }

    /// Says something in the ledger, now.
    pub(super) fn state_now(&self, run: &str, what: What) -> io::Result<()> {
        let now = humantime::format_rfc3339_nanos(SystemTime::now());
        self.state(run, now.to_string(), what)
    }

    /// Says something in the ledger.
    pub(super) fn state(&self, run: &str, time: String, what: What) -> io::Result<()> {
        let flags =
            OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(FILE_MODE);
        let mut ledger = File::from(openat(&self.store.folder, LEDGER, flags, mode)?);
        // Waits for whoever writes a line just now.
        flock(&ledger, FlockOperation::LockExclusive)?;
        give(ledger.as_fd(), self.group)?;
        ledger::append(&mut ledger, &self.key, time, run, what)
    }
}

/// Refuses a folder that somebody else could write to, or put another in the place of.
fn refuse_shared(path: &Path) -> Result<(), StoreError> {
    const OTHERS_WRITE: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    let own = rustix::process::geteuid().as_raw();
    let absolute = std::path::absolute(path).map_err(|source| StoreError::System {
        path: path.to_owned(),
        what: "find the folder",
        source,
    })?;
    for folder in absolute.ancestors() {
        let status = stat(folder).map_err(system(folder, "look at the folder"))?;
        let theirs = status.st_uid != 0 && status.st_uid != own;
        // In a sticky folder nobody takes what is another's away.
        let sticky = folder != absolute && status.st_mode & STICKY != 0;
        if theirs || status.st_mode & OTHERS_WRITE != 0 && !sticky {
            return Err(StoreError::NotOurs {
                path: folder.to_owned(),
            });
        }
    }
    Ok(())
}

/// Makes a folder, if it is not there.
pub(super) fn make(folder: impl AsFd, name: &str) -> Result<(), Errno> {
    match mkdirat(folder, name, Mode::from_raw_mode(FOLDER_MODE)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn give(file: BorrowedFd<'_>, group: Option<Gid>) -> Result<(), Errno> {
    // Without the group nobody's but root's, whoever's it was before.
    let group = group.or_else(|| rustix::process::geteuid().is_root().then_some(Gid::ROOT));
    match group {
        Some(group) => rustix::fs::chownat(file, "", None, Some(group), AtFlags::EMPTY_PATH),
        None => Ok(()),
    }
}

/// The number of a group, where this host has it.
pub(crate) fn group_of(name: &str) -> Option<Gid> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let line = groups
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    Some(Gid::from_raw(line.split(':').nth(2)?.parse().ok()?))
}

pub(super) fn system(path: &Path, what: &'static str) -> impl Fn(Errno) -> StoreError {
    let path = path.to_owned();
    move |errno| StoreError::System {
        path: path.clone(),
        what,
        source: errno.into(),
    }
}
