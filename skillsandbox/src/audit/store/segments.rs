//! The files of sealed runs: a folder for each day, as other engines look for them
//! (`date=2026-11-27/…`).

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, flock, fsync, openat, renameat, unlinkat},
    io::Errno,
};

use super::{
    Store, StoreError, Writer,
    folder::{FILE_MODE, SEGMENTS, give, make, system},
};
use crate::audit::segment::Segment;

pub(super) const SUFFIX: &str = ".parquet";
/// What a file is called before it is written to its end.
pub(super) const UNFINISHED: &str = ".parquet.new";
const FOLDER: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl Store {
    /// Names of the segments, the days in order, each from the folder of segments on.
    pub fn segments(&self) -> Result<Vec<String>, StoreError> {
        let mut names = self
            .segment_files()
            .map_err(self.cannot("list the segments"))?;
        names.retain(|name| name.ends_with(SUFFIX));
        Ok(names)
    }

    /// Everything in the folders of days.
    pub(super) fn segment_files(&self) -> Result<Vec<String>, Errno> {
        let mut names = Vec::new();
        let Some(folder) = self.segments_folder() else {
            return Ok(names);
        };
        for day in entries(folder)? {
            match openat(folder, &day, FOLDER, Mode::empty()) {
                Ok(opened) => names.extend(
                    entries(opened.as_fd())?
                        .into_iter()
                        .map(|name| format!("{day}/{name}")),
                ),
                Err(Errno::NOTDIR | Errno::LOOP) => names.push(day),
                Err(error) => return Err(error),
            }
        }
        names.sort();
        Ok(names)
    }

    /// The file of a segment, to read.
    pub(super) fn segment_file(&self, name: &str) -> Result<File, StoreError> {
        let open = || {
            let (day, name) = parts(name)?;
            let folder = self.segments_folder().ok_or(Errno::NOENT)?;
            let day = openat(folder, day, FOLDER, Mode::empty())?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            openat(day, name, flags, Mode::empty())
        };
        let path = self.path().join(SEGMENTS).join(name);
        Ok(open().map_err(system(&path, "open the segment"))?.into())
    }

    /// A segment.
    pub fn segment(&self, name: &str) -> Result<Segment, StoreError> {
        let opened = Segment::open(self.segment_file(name)?);
        opened.map_err(|source| StoreError::Segment {
            path: self.path().join(SEGMENTS).join(name),
            source,
        })
    }

    /// Whether somebody makes segments just now.
    pub(super) fn is_sealed_now(&self) -> Result<bool, StoreError> {
        let Some(folder) = self.segments_folder() else {
            return Ok(false);
        };
        match flock(folder, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                let unlocked = flock(folder, FlockOperation::Unlock);
                unlocked.map_err(self.cannot("unlock the folder of segments"))?;
                Ok(false)
            }
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(self.cannot("find out who makes segments")(error)),
        }
    }

    pub(super) fn cannot(&self, what: &'static str) -> impl Fn(Errno) -> StoreError {
        system(self.path(), what)
    }
}

/// Who may make and take away segments: one at a time.
pub(super) struct Sealer<'w> {
    writer: &'w Writer,
    folder: OwnedFd,
}

impl<'w> Sealer<'w> {
    /// `None` while somebody else does.
    pub(super) fn begin(writer: &'w Writer) -> Result<Option<Self>, Errno> {
        let folder = writer.store().segments_folder().ok_or(Errno::NOENT)?;
        // Opened anew: the lock is that of this opening.
        let folder = openat(folder, ".", FOLDER, Mode::empty())?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { writer, folder })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn writer(&self) -> &'w Writer {
        self.writer
    }

    fn day(&self, day: &str) -> Result<OwnedFd, Errno> {
        openat(&self.folder, day, FOLDER, Mode::empty())
    }

    /// An empty file that will have this name.
    pub(super) fn create(&self, name: &str) -> Result<File, Errno> {
        let (day, name) = parts(name)?;
        make(&self.folder, day)?;
        let folder = self.day(day)?;
        give(folder.as_fd(), self.writer.group())?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(FILE_MODE);
        let file = openat(folder, unfinished(name), flags, mode)?;
        give(file.as_fd(), self.writer.group())?;
        Ok(file.into())
    }

    /// Gives a file that is written to its end its name.
    pub(super) fn publish(&self, name: &str) -> Result<(), Errno> {
        let (day, name) = parts(name)?;
        let folder = self.day(day)?;
        renameat(&folder, unfinished(name), &folder, name)?;
        fsync(&folder)?;
        fsync(&self.folder)
    }

    /// Takes a file away, and its day if it was the last.
    pub(super) fn remove(&self, name: &str) -> Result<(), Errno> {
        let (day, name) = parts(name)?;
        let folder = self.day(day)?;
        unlinkat(&folder, name, AtFlags::empty())?;
        fsync(&folder)?;
        match unlinkat(&self.folder, day, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn unfinished(name: &str) -> String {
    let stem = name.strip_suffix(SUFFIX).unwrap_or(name);
    format!("{stem}{UNFINISHED}")
}

/// The folder and the file of a name.
fn parts(name: &str) -> Result<(&str, &str), Errno> {
    let (day, file) = name.split_once('/').ok_or(Errno::INVAL)?;
    let strange = |part: &str| part.is_empty() || part == ".." || part == "." || part.contains('/');
    if strange(day) || strange(file) {
        return Err(Errno::INVAL);
    }
    Ok((day, file))
}

fn entries(folder: BorrowedFd<'_>) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}
