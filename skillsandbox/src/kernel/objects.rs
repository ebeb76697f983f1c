//! The programs and maps that all sandboxes share: loaded once, pinned, and opened from there.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hasher},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use aya::{
    Btf, EbpfLoader,
    maps::{Map, MapData},
    programs::{CgroupSkb, CgroupSockAddr, Lsm, LsmCgroup, ProgramError, RawTracePoint},
};
use skillsandbox_common::names::{Hook, MAPS, PROGRAMS, Program};

use super::{KernelError, bpffs, offsets};

/// The eBPF object, built from `skillsandbox-ebpf`.
static ELF: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/skillsandbox.bpf.o"));

/// Folder of the links of every sandbox, below our folder in the BPF file system.
pub(super) const SANDBOXES: &str = "sandboxes";

/// What the names of folders of objects begin with.
const OBJECTS: &str = "objects-";

/// Whether the kernel took a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramState {
    /// Loaded and pinned.
    Loaded,
    /// Refused, with the kernel's reason.
    Refused(String),
}

/// The pinned programs and maps of this build.
#[derive(Debug)]
pub struct Objects {
    folder: PathBuf,
    refused: BTreeMap<String, String>,
}

impl Objects {
    /// Opens the pinned objects of this build, loading them first where they are missing.
    ///
    /// The caller holds the lock of the run folder: two loads must not meet. A program that the
    /// kernel refuses is no error here; [`state`](Self::state) tells.
    ///
    /// `state` is a folder that only root can write; the reasons of refusals are kept there,
    /// because the BPF file system holds nothing but objects.
    pub fn open(state: &Path) -> Result<Self, KernelError> {
        if !rustix::process::geteuid().is_root() {
            return Err(KernelError::NotRoot);
        }
        let root = bpffs::folder()?;
        let name = format!("{OBJECTS}{:016x}", fingerprint());
        let folder = root.join(&name);
        let reasons = state.join(format!("{name}.refused"));
        if !folder.is_dir() || !reasons.is_file() {
            bpffs::remove_folder(&folder)?;
            load(&root, &folder, &reasons)?;
        }
        Self::of(folder, &reasons)
    }

    /// Opens the pinned objects of this name, of whichever build they are. What is attached uses those that it was
    /// attached with, also after an upgrade.
    pub fn named(state: &Path, name: &str) -> Result<Self, KernelError> {
        let root = bpffs::folder()?;
        let hash = name.strip_prefix(OBJECTS).unwrap_or_default();
        let folder = root.join(name);
        if hash.is_empty() || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let error = io::Error::other("that is no name of pinned objects");
            return Err(KernelError::path("use", folder)(error));
        }
        if !folder.is_dir() {
            let error = io::Error::from(io::ErrorKind::NotFound);
            return Err(KernelError::path("open the pinned objects in", folder)(
                error,
            ));
        }
        Self::of(folder, &state.join(format!("{name}.refused")))
    }

    fn of(folder: PathBuf, reasons: &Path) -> Result<Self, KernelError> {
        let content = fs::read_to_string(reasons).map_err(KernelError::path("read", reasons))?;
        let refused = content.lines().filter_map(|line| line.split_once('\t'));
        let refused = refused
            .map(|(name, why)| (name.to_owned(), why.to_owned()))
            .collect();
        Ok(Self { folder, refused })
    }

    /// The name that [`named`](Self::named) opens them by.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.folder.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Whether the kernel took this program when the objects were loaded.
    #[must_use]
    pub fn state(&self, program: &Program) -> ProgramState {
        match self.refused.get(program.name) {
            None => ProgramState::Loaded,
            Some(reason) => ProgramState::Refused(reason.clone()),
        }
    }

    /// The same objects, with no program to attach if `all` are to be left out.
    #[cfg(feature = "test-layers")]
    #[must_use]
    pub fn leaving_out_programs(mut self, all: bool) -> Self {
        if all {
            let programs = PROGRAMS.iter().map(|program| program.name.to_owned());
            let reason = || "switched off for a test".to_owned();
            self.refused = programs.map(|name| (name, reason())).collect();
        }
        self
    }

    /// The debug messages of the programs.
    #[cfg(feature = "bpf-log")]
    #[must_use]
    pub fn log(&self) -> Option<aya_log::EbpfLogger<&'static dyn log::Log>> {
        let name = PROGRAMS
            .iter()
            .map(|program| program.name)
            .find(|name| *name == "connect4")?;
        let kind = aya::programs::CgroupSockAddrAttachType::Connect4;
        let program = CgroupSockAddr::from_pin(self.pin_of(name), kind).ok()?;
        aya_log::EbpfLogger::init_from_id(program.info().ok()?.id()).ok()
    }

    /// Where a program or map is pinned.
    pub(super) fn pin_of(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Our folder in the BPF file system.
    pub(super) fn root(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }

    /// Opens a pinned map.
    pub(super) fn map(&self, name: &'static str) -> Result<MapData, KernelError> {
        MapData::from_pin(self.pin_of(name)).map_err(KernelError::map("open", name))
    }
}

/// Tells builds apart: pins of another build have other layouts.
fn fingerprint() -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(ELF);
    hasher.finish()
}

/// Loads everything and pins it; the folder appears complete or not at all.
fn load(root: &Path, folder: &Path, reasons: &Path) -> Result<(), KernelError> {
    let started = SystemTime::now();
    let staging = root.join("loading");
    bpffs::remove_folder(&staging)?;
    bpffs::make_private_folder(&staging)?;
    let btf = vmlinux()?;
    let mut object = loader(&btf, &offsets::read()?)?;
    for name in MAPS {
        if let Some(map) = object.map(name) {
            pin_map(map, name, &staging.join(name))?;
        }
    }
    let mut refused = String::new();
    for program in PROGRAMS {
        match load_program(&mut object, program, &btf) {
            Ok(()) => {
                let path = staging.join(program.name);
                if let Some(loaded) = object.program_mut(program.name) {
                    loaded.pin(&path).map_err(|source| KernelError::Pin {
                        what: program.name.to_owned(),
                        path: path.clone(),
                        source,
                    })?;
                }
            }
            // BPF LSM may be refused as a whole: then other layers decide, and say so.
            Err(error)
                if matches!(program.hook, Hook::LsmCgroup(_) | Hook::Lsm(_))
                    && is_for_good(&error) =>
            {
                let reason = innermost(&error).replace(['\n', '\t'], " ");
                tracing::debug!(program = program.name, %reason, "refused by the kernel");
                refused.extend([program.name, "\t", &reason, "\n"]);
            }
            Err(source) => {
                return Err(KernelError::Program {
                    name: program.name,
                    source,
                });
            }
        }
    }
    remove_other_builds(root, reasons)?;
    fs::write(reasons, refused).map_err(KernelError::path("write", reasons))?;
    fs::rename(&staging, folder).map_err(KernelError::path("name the pins", folder))?;
    tracing::debug!(elapsed = ?started.elapsed().unwrap_or_default(), "eBPF objects loaded");
    Ok(())
}

/// Removes the objects of other builds, unless a sandbox runs that may be one of theirs.
fn remove_other_builds(root: &Path, reasons: &Path) -> Result<(), KernelError> {
    let list = |folder: &Path| -> Result<Vec<PathBuf>, KernelError> {
        match fs::read_dir(folder) {
            Ok(entries) => Ok(entries
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(KernelError::path("list", folder)(error)),
        }
    };
    if !list(&root.join(SANDBOXES))?.is_empty() {
        return Ok(());
    }
    for folder in list(root)? {
        let name = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with(OBJECTS) {
            bpffs::remove_folder(&folder)?;
        }
    }
    for file in list(reasons.parent().unwrap_or(reasons))? {
        if file
            .extension()
            .is_some_and(|extension| extension == "refused")
        {
            fs::remove_file(&file).map_err(KernelError::path("remove", &file))?;
        }
    }
    Ok(())
}

fn vmlinux() -> Result<Btf, KernelError> {
    Btf::from_sys_fs().map_err(|error| KernelError::NoBtf {
        path: "/sys/kernel/btf/vmlinux",
        reason: error.to_string(),
    })
}

fn loader(btf: &Btf, offsets: &[(&'static str, u64)]) -> Result<aya::Ebpf, KernelError> {
    let mut loader = EbpfLoader::new();
    loader.btf(Some(btf)).allow_unsupported_maps();
    for (name, offset) in offsets {
        loader.override_global(name, offset, true);
    }
    Ok(loader.load(ELF)?)
}

fn load_program(object: &mut aya::Ebpf, program: &Program, btf: &Btf) -> Result<(), ProgramError> {
    let Some(loaded) = object.program_mut(program.name) else {
        return Err(ProgramError::NotLoaded);
    };
    match program.hook {
        Hook::LsmCgroup(hook) => <&mut LsmCgroup>::try_from(loaded)?.load(hook, btf),
        Hook::Lsm(hook) => <&mut Lsm>::try_from(loaded)?.load(hook, btf),
        Hook::SocketAddress(_) | Hook::SocketAnswer(_) => {
            <&mut CgroupSockAddr>::try_from(loaded)?.load()
        }
        Hook::Packet(_) => <&mut CgroupSkb>::try_from(loaded)?.load(),
        Hook::RawTracepoint(_) | Hook::Called => <&mut RawTracePoint>::try_from(loaded)?.load(),
    }
}

fn pin_map(map: &Map, name: &str, path: &Path) -> Result<(), KernelError> {
    map.pin(path).map_err(|source| KernelError::Pin {
        what: name.to_owned(),
        path: path.to_owned(),
        source,
    })
}

/// Whether a refusal says something of the kernel, and not of this moment.
fn is_for_good(error: &ProgramError) -> bool {
    let passing = [
        libc::ENOMEM,
        libc::EAGAIN,
        libc::EINTR,
        libc::EMFILE,
        libc::ENFILE,
        libc::EBUSY,
    ];
    match error {
        ProgramError::LoadError { io_error, .. } => io_error
            .raw_os_error()
            .is_none_or(|errno| !passing.contains(&errno)),
        _ => true,
    }
}

/// The verifier's last words, or the system's: the rest of the chain only repeats them.
fn innermost(error: &ProgramError) -> String {
    if let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    {
        let log = verifier_log.to_string();
        let last = log.lines().rev().find(|line| {
            let statistics = [
                "processed",
                "insns processed",
                "verification time",
                "stack depth",
            ];
            !line.is_empty() && !statistics.iter().any(|start| line.starts_with(start))
        });
        return match last {
            Some(line) => format!("{io_error}: {line}"),
            None => io_error.to_string(),
        };
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aya_obj::{Object, ProgramSection};
    use skillsandbox_common::names::MAPS;

    use super::*;

    #[test]
    fn the_table_of_programs_is_that_of_the_object() {
        let object = Object::parse(ELF).unwrap();
        let built: BTreeSet<&str> = object.programs.keys().map(String::as_str).collect();
        let listed: BTreeSet<&str> = PROGRAMS.iter().map(|program| program.name).collect();
        assert_eq!(built, listed);
        for program in PROGRAMS {
            let section = &object.programs[program.name].section;
            let fits = match program.hook {
                Hook::LsmCgroup(_) => matches!(section, ProgramSection::LsmCgroup),
                Hook::Lsm(_) => matches!(section, ProgramSection::Lsm { sleepable: false }),
                Hook::SocketAddress(_) | Hook::SocketAnswer(_) => {
                    matches!(section, ProgramSection::CgroupSockAddr { .. })
                }
                Hook::Packet(_) => matches!(section, ProgramSection::CgroupSkb { .. }),
                Hook::RawTracepoint(_) | Hook::Called => {
                    matches!(section, ProgramSection::RawTracePoint)
                }
            };
            assert!(fits, "{} is in {section:?}", program.name);
        }
    }

    #[test]
    fn every_map_that_is_pinned_is_in_the_object() {
        let object = Object::parse(ELF).unwrap();
        for name in MAPS {
            assert!(object.maps.contains_key(*name), "{name}");
            assert!(name.len() <= 15, "{name} is longer than the kernel keeps");
        }
    }
}
