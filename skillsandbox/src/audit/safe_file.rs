//! Files written into a folder that the skill may own: never through a link, never over anything
//! that is not a plain file, and complete or not there at all.
//!
//! Whoever owns the folder can still take the finished file away. What is kept safe is everything
//! outside it, and that no half-written or foreign file passes for ours.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, BufWriter, Write},
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid},
    io::Errno,
};
use thiserror::Error;

/// Owner of a file that is written for someone else, as `sudo` and `--user` do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Why a file was not written.
#[derive(Debug, Error)]
pub enum SafeFileError {
    /// The path ends in `..`, or is empty.
    #[error("{} does not name a file", path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// A folder on the way is a link.
    #[error("a folder of {} is a symbolic link: give the path that it resolves to", path.display())]
    LinkedFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Something else is where the file would go.
    #[error("{} exists and is not a plain file: remove it or choose another place", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// The file was exchanged while it was written.
    #[error("{} was exchanged while it was written: choose a folder that only you can write to", path.display())]
    Exchanged {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: {what}: {source}", path.display())]
    System {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A place for a file: its folder, open, and its name there.
#[derive(Debug)]
pub struct Place {
    folder: OwnedFd,
    name: OsString,
    path: PathBuf,
}

impl Place {
    /// Opens the folder of `path`, through no symbolic link, and looks that the file could be
    /// written there. Best done before the skill runs.
    pub fn open(path: &Path) -> Result<Self, SafeFileError> {
        let name = path.file_name().ok_or_else(|| SafeFileError::NoName {
            path: path.to_owned(),
        })?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        let folder = open_folder(parent).map_err(|errno| match errno {
            Errno::LOOP => SafeFileError::LinkedFolder {
                path: parent.to_owned(),
            },
            errno => system(parent, "cannot open the folder", errno),
        })?;
        let place = Self {
            folder,
            name: name.to_owned(),
            path: path.to_owned(),
        };
        place.refuse_anything_but_a_file()?;
        Ok(place)
    }

    /// Creates the file itself, which must not exist: for a file that grows while the skill runs.
    pub fn create_new(&self, owner: Option<Owner>) -> Result<File, SafeFileError> {
        self.create(&self.name, owner)
    }

    /// Creates the file anew: a plain file that is there is removed first. For a file that grows
    /// while the skill runs.
    pub fn replace(&self, owner: Option<Owner>) -> Result<File, SafeFileError> {
        self.refuse_anything_but_a_file()?;
        match fs::unlinkat(&self.folder, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => self.create_new(owner),
            Err(errno) => Err(system(&self.path, "cannot remove the old file", errno)),
        }
    }

    /// Writes the whole file and puts it in place at once. A plain file that is there is replaced.
    pub fn write(
        &self,
        owner: Option<Owner>,
        content: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
    ) -> Result<(), SafeFileError> {
        self.refuse_anything_but_a_file()?;
        let temporary = Temporary::new(self, owner)?;
        let failed = |what| {
            move |source| SafeFileError::System {
                path: self.path.clone(),
                what,
                source,
            }
        };
        let mut out = BufWriter::new(&temporary.file);
        content(&mut out)
            .and_then(|()| out.flush())
            .map_err(failed("cannot write"))?;
        drop(out);
        temporary.file.sync_all().map_err(failed("cannot sync"))?;
        self.refuse_anything_but_a_file()?;
        fs::renameat(&self.folder, &temporary.name, &self.folder, &self.name)
            .map_err(|errno| system(&self.path, "cannot rename into place", errno))?;
        if let Err(error) = self.prove_same(&temporary.file) {
            // What is there now must not pass for ours.
            let _ = fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
            return Err(error);
        }
        // The rename lasts once the folder is written; some file systems cannot sync a folder.
        let _ = fs::fsync(&self.folder);
        Ok(())
    }

    fn create(&self, name: &OsStr, owner: Option<Owner>) -> Result<File, SafeFileError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| system(&self.path, "cannot create", errno))?;
        // The umask can only have taken bits away from 0600.
        if let Some(owner) = owner {
            fs::fchown(
                &file,
                Some(Uid::from_raw(owner.uid)),
                Some(Gid::from_raw(owner.gid)),
            )
            .map_err(|errno| system(&self.path, "cannot give to its owner", errno))?;
        }
        Ok(File::from(file))
    }

    fn refuse_anything_but_a_file(&self) -> Result<(), SafeFileError> {
        match fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile => Ok(()),
            Ok(_) => Err(SafeFileError::NotAFile {
                path: self.path.clone(),
            }),
            Err(errno) => Err(system(&self.path, "cannot look at", errno)),
        }
    }

    /// Someone who can write to the folder can exchange the temporary file before it is renamed.
    fn prove_same(&self, file: &File) -> Result<(), SafeFileError> {
        let exchanged = || SafeFileError::Exchanged {
            path: self.path.clone(),
        };
        let ours = fs::fstat(file).map_err(|errno| system(&self.path, "cannot look at", errno))?;
        match fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) => Ok(()),
            Ok(_) | Err(Errno::NOENT) => Err(exchanged()),
            Err(errno) => Err(system(&self.path, "cannot look at", errno)),
        }
    }
}

/// A file under a name that nobody can guess, removed unless it was renamed.
struct Temporary<'a> {
    place: &'a Place,
    name: OsString,
    file: File,
}

impl<'a> Temporary<'a> {
    fn new(place: &'a Place, owner: Option<Owner>) -> Result<Self, SafeFileError> {
        let random = RandomState::new().build_hasher().finish();
        let name = OsString::from(format!(".skillsandbox-{random:016x}"));
        let file = place.create(&name, owner)?;
        Ok(Self { place, name, file })
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // After the rename there is nothing of this name; before it, nothing more can be done.
        let _ = fs::unlinkat(&self.place.folder, &self.name, AtFlags::empty());
    }
}

fn system(path: &Path, what: &'static str, errno: Errno) -> SafeFileError {
    SafeFileError::System {
        path: path.to_owned(),
        what,
        source: errno.into(),
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// `openat2` is of Linux 5.6; some container filters answer EPERM or ENOSYS to it.
pub(super) fn open_folder(path: &Path) -> Result<OwnedFd, Errno> {
    match fs::openat2(CWD, path, FOLDER, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Err(Errno::NOSYS | Errno::PERM) => open_step_by_step(path),
        opened => opened,
    }
}

/// The same, one component at a time, none of them through a link.
fn open_step_by_step(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = FOLDER | OFlags::NOFOLLOW;
    let start = if path.is_absolute() { "/" } else { "." };
    let mut folder = fs::openat(CWD, start, flags, Mode::empty())?;
    for component in path.components() {
        let name = match component {
            Component::RootDir | Component::CurDir => continue,
            component => component.as_os_str(),
        };
        folder = fs::openat(&folder, name, flags, Mode::empty()).map_err(|errno| {
            // O_DIRECTORY | O_NOFOLLOW answers ENOTDIR to a link.
            let link = fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink);
            if link { Errno::LOOP } else { errno }
        })?;
    }
    Ok(folder)
}

#[cfg(test)]
#[path = "safe_file_tests.rs"]
mod tests;
