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

/// What the ids of attached cgroups begin with: that of no run does. Nobody cleans up after them but who detaches
/// them: their policy is in force without anybody who lives for it.
const ATTACHED: &str = "attached_";
/// Longest name of an attached cgroup.
const NAME_MAX: usize = 40;

/// Holds the host's registry: nobody else starts or cleans up meanwhile.
#[derive(Debug)]
pub(super) struct Registry {
    folder: PathBuf,
    _lock: File,
}

/// Who has the place of an attached cgroup.
#[derive(Debug)]
pub(super) enum Claim {
    /// There is none of that name.
    Absent,
    /// Another process, which records.
    Taken,
    /// This one, from now on.
    Free(Place),
}

/// A place in the registry, until it is dropped or its process dies.
#[derive(Debug)]
pub(super) struct Place {
    /// The sandbox's id: unique on this host while it runs.
    pub(super) id: String,
    /// Its slot in the maps; of an attached cgroup, that of the policy that decides.
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
        let mut dead: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for id in self.ids()? {
            if id.starts_with(ATTACHED) {
                alive.push(id);
                continue;
            }
            let folder = self.folder.join(&id);
            let lock = open_lock(&folder)?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                dead.insert(id, read_slots(&folder));
            } else {
                alive.push(id);
            }
        }
        for id in objects.linked()? {
            if id.starts_with(ATTACHED) {
                alive.push(id);
            } else {
                dead.entry(id).or_default();
            }
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
        for (id, slots) in &dead {
            firewall::remove(id, &firewall::FAMILIES);
            objects.remove_stale(id, slots)?;
            remove_folder(&self.folder.join(id))?;
        }
        if alive.is_empty() {
            objects.stop_sharing()?;
        }
        Ok(dead.len())
    }

    /// Takes a place for a sandbox of this name.
    pub(super) fn enter(&self, name: &str, objects: &Objects) -> Result<Place, RunError> {
        let id = format!("{}-{:08x}", shortened(name), random()?);
        self.enter_as(id, objects)
    }

    /// Takes a place for a cgroup that is to be attached under this name.
    pub(super) fn enter_attached(&self, name: &str, objects: &Objects) -> Result<Place, RunError> {
        self.enter_as(attached_id(name)?, objects)
    }

    fn enter_as(&self, id: String, objects: &Objects) -> Result<Place, RunError> {
        let slot = self.free_slot(objects)?;
        let folder = self.folder.join(&id);
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| RunError::state("make", &folder, error))?;
        let lock = open_lock(&folder)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| RunError::state("lock", &folder, error.into()))?;
        let place = Place {
            id,
            slot,
            folder,
            _lock: lock,
        };
        place.write(SLOT, slot.to_string().as_bytes())?;
        Ok(place)
    }

    /// The names of the cgroups that are attached, or whose attaching or detaching was interrupted.
    pub(super) fn attached(&self, objects: &Objects) -> Result<Vec<String>, RunError> {
        let mut ids = self.ids()?;
        ids.extend(objects.linked()?);
        let names = ids.iter().filter_map(|id| id.strip_prefix(ATTACHED));
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The place of the cgroup that is attached under this name, if nobody has it now.
    pub(super) fn claim(&self, name: &str) -> Result<Claim, RunError> {
        let id = attached_id(name)?;
        let folder = self.folder_of(name)?;
        if !folder.is_dir() {
            return Ok(Claim::Absent);
        }
        let lock = open_lock(&folder)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(Claim::Taken);
        }
        let slot = read_slots(&folder).first().copied().unwrap_or_default();
        Ok(Claim::Free(Place {
            id,
            slot,
            folder,
            _lock: lock,
        }))
    }

    /// The folder of the cgroup that is attached under this name.
    pub(super) fn folder_of(&self, name: &str) -> Result<PathBuf, RunError> {
        Ok(self.folder.join(attached_id(name)?))
    }

    /// What is kept of the cgroup that is attached under this name.
    pub(super) fn read_of(&self, name: &str, file: &str) -> Result<Option<Vec<u8>>, RunError> {
        read(&self.folder_of(name)?, file)
    }

    /// Takes a second slot for a place.
    pub(super) fn second_slot(&self, place: &Place, objects: &Objects) -> Result<u32, RunError> {
        let slot = self.free_slot(objects)?;
        place.write(SLOT, format!("{} {slot}", place.slot).as_bytes())?;
        Ok(slot)
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
                .flat_map(|id| read_slots(&self.folder.join(id))),
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
    /// Has this slot alone from now on.
    pub(super) fn have_slot(&mut self, slot: u32) -> Result<(), RunError> {
        self.write(SLOT, slot.to_string().as_bytes())?;
        self.slot = slot;
        Ok(())
    }

    /// Every slot that it has.
    pub(super) fn slots(&self) -> Vec<u32> {
        read_slots(&self.folder)
    }

    /// Its folder, which only root can enter.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps a file in the place of the one of that name: whole, or not at all.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<(), RunError> {
        let made = self.folder.join(format!("{name}.new"));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&made)?;
            file.write_all(content)?;
            fs::rename(&made, self.folder.join(name))
        };
        write().map_err(|error| RunError::state("write to", &self.folder, error))
    }

    /// What was kept.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, RunError> {
        read(&self.folder, name)
    }

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

fn read_slots(folder: &Path) -> Vec<u32> {
    let text = fs::read_to_string(folder.join(SLOT)).unwrap_or_default();
    let slots = text.split_ascii_whitespace();
    slots.filter_map(|slot| slot.parse().ok()).collect()
}

fn read(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, RunError> {
    match fs::read(folder.join(name)) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RunError::state("read from", folder, error)),
    }
}

/// The id of the cgroup that is attached under this name.
fn attached_id(name: &str) -> Result<String, RunError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(plain) {
        return Err(RunError::BadName {
            name: name.to_owned(),
        });
    }
    Ok(format!("{ATTACHED}{name}"))
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
