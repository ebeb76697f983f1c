//! The sandboxes of this host: ids, slots, and what dead supervisors left behind.
//!
//! Each sandbox has a folder in [`RUN`] with a lock that its supervisor holds for as long as it
//! lives, and so has its cgroup. Whoever gets both locks knows that the supervisor is dead, and
//! cleans up: first everything that runs in the cgroup, then its links, then its folder.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use skillsandbox_common::slot::SLOTS;

use super::{error::RunError, firewall};
use crate::{
    isolate::cgroup::{Cgroup, Hierarchy},
    kernel::{KernelError, Objects},
};

/// Where the state of running sandboxes is.
const RUN: &str = "/run/skillsandbox";
const LOCK: &str = "lock";
const SLOT: &str = "slot";

/// Holds the host's registry: nobody else starts or cleans up meanwhile.
#[derive(Debug)]
pub(super) struct Registry {
    folder: PathBuf,
    _lock: File,
}

/// A place in the registry, until it is dropped or its process dies.
#[derive(Debug)]
pub(super) struct Place {
    /// The sandbox's id: unique on this host while it runs.
    pub(super) id: String,
    /// Its slot in the maps.
    pub(super) slot: u32,
    folder: PathBuf,
    _lock: File,
}

impl Registry {
    /// Waits until nobody else holds it.
    pub(super) fn lock() -> Result<Self, RunError> {
        if !rustix::process::geteuid().is_root() {
            return Err(RunError::Kernel(KernelError::NotRoot));
        }
        let folder = PathBuf::from(RUN);
        make_folder(&folder)?;
        let lock = open_lock(&folder)?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| RunError::state("lock", &folder, error.into()))?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// The folder of the registry, which only root can enter.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Cleans up after every supervisor that died, and says how many sandboxes that were.
    pub(super) fn clean_up(
        &self,
        objects: &Objects,
        hierarchy: &Hierarchy,
    ) -> Result<usize, RunError> {
        // Whoever holds the lock of its cgroup or of its folder lives. Either may be gone: the
        // folder with the host's temporary files, the cgroup before it was made.
        let (stale, mut alive) = hierarchy.sandboxes()?;
        let mut dead: BTreeMap<String, Option<u32>> = BTreeMap::new();
        for id in self.ids()? {
            let folder = self.folder.join(&id);
            let lock = open_lock(&folder)?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                dead.insert(id, read_slot(&folder));
            } else {
                alive.push(id);
            }
        }
        for id in objects.linked()? {
            dead.entry(id).or_default();
        }
        for cgroup in stale {
            // Nothing of a sandbox is taken away while something runs in it.
            match end(&cgroup) {
                Ok(()) => {
                    dead.entry(cgroup.id().to_owned()).or_default();
                }
                Err(error) => {
                    tracing::warn!(%error, "a dead sandbox cannot be removed; it stays confined");
                    alive.push(cgroup.id().to_owned());
                }
            }
        }
        dead.retain(|id, _| !alive.contains(id));
        for (id, slot) in &dead {
            firewall::remove(id, &firewall::FAMILIES);
            objects.remove_stale(id, *slot)?;
            remove_folder(&self.folder.join(id))?;
        }
        if alive.is_empty() {
            objects.stop_sharing()?;
        }
        Ok(dead.len())
    }

    /// Takes a place for a sandbox of this name.
    pub(super) fn enter(&self, name: &str, objects: &Objects) -> Result<Place, RunError> {
        let slot = self.free_slot(objects)?;
        let id = format!("{}-{:08x}", shortened(name), random()?);
        let folder = self.folder.join(&id);
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| RunError::state("make", &folder, error))?;
        let lock = open_lock(&folder)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| RunError::state("lock", &folder, error.into()))?;
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(folder.join(SLOT))?;
            file.write_all(slot.to_string().as_bytes())
        };
        write().map_err(|error| RunError::state("write the slot of", &folder, error))?;
        Ok(Place {
            id,
            slot,
            folder,
            _lock: lock,
        })
    }

    /// Whether no sandbox but those in `except` is here.
    pub(super) fn is_empty_but_for(&self, except: &str) -> Result<bool, RunError> {
        Ok(self.ids()?.iter().all(|id| id == except))
    }

    fn free_slot(&self, objects: &Objects) -> Result<u32, RunError> {
        let mut taken = objects.slots_in_use()?;
        taken.extend(
            self.ids()?
                .iter()
                .filter_map(|id| read_slot(&self.folder.join(id))),
        );
        (1..SLOTS)
            .find(|slot| !taken.contains(slot))
            .ok_or(RunError::Kernel(KernelError::NoSlot { slots: SLOTS - 1 }))
    }

    fn ids(&self) -> Result<Vec<String>, RunError> {
        let list = || -> io::Result<Vec<String>> {
            let mut ids = Vec::new();
            for entry in fs::read_dir(&self.folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir()
                    && let Ok(id) = entry.file_name().into_string()
                {
                    ids.push(id);
                }
            }
            Ok(ids)
        };
        list().map_err(|error| RunError::state("list", &self.folder, error))
    }
}

impl Place {
    /// Gives the place back: for when nothing of the sandbox is left in the kernel.
    pub(super) fn leave(self) -> Result<(), RunError> {
        remove_folder(&self.folder)
    }
}

fn make_folder(folder: &Path) -> Result<(), RunError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(RunError::state("make", folder, error));
        }
        _ => {}
    }
    let found =
        fs::symlink_metadata(folder).map_err(|error| RunError::state("read", folder, error))?;
    if found.is_dir() && found.uid() == 0 && found.mode() & 0o777 == 0o700 {
        Ok(())
    } else {
        let error = io::Error::other("it is not a folder that only root can enter: remove it");
        Err(RunError::state("use", folder, error))
    }
}

fn open_lock(folder: &Path) -> Result<File, RunError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join(LOCK))
        .map_err(|error| RunError::state("open the lock of", folder, error))
}

fn read_slot(folder: &Path) -> Option<u32> {
    fs::read_to_string(folder.join(SLOT)).ok()?.parse().ok()
}

fn remove_folder(folder: &Path) -> Result<(), RunError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RunError::state("remove", folder, error))
        }
        _ => Ok(()),
    }
}

/// The letters, digits and hyphens of a skill's name, so that an id is a plain file name.
/// Ends a dead sandbox: its chains go before the cgroup that they are about.
fn end(cgroup: &Cgroup) -> Result<(), RunError> {
    cgroup.kill()?;
    firewall::remove(cgroup.id(), &firewall::FAMILIES);
    Ok(cgroup.remove()?)
}

fn shortened(name: &str) -> String {
    let kept: String = name
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-')
        .take(40)
        .collect();
    if kept.is_empty() {
        "skill".to_owned()
    } else {
        kept
    }
}

fn random() -> Result<u32, RunError> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| RunError::state("read", Path::new("/dev/urandom"), error.into()))?;
    Ok(u32::from_ne_bytes(bytes))
}
