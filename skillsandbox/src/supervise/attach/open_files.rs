//! What processes have open that a policy denies. It cannot be taken from them: what is open is decided.

use std::{collections::BTreeSet, ffi::OsStr, os::fd::OwnedFd, os::unix::ffi::OsStrExt};

use rustix::{
    fs::{CWD, Dir, Mode, OFlags, openat, readlinkat},
    io,
};
use skillsandbox_common::{header::Verdict, rule::Access};

use super::super::error::RunError;
use crate::{audit::record::Running, isolate::home::Home, policy::RuleSet};

/// A file that stays open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// Whose.
    pub process: u32,
    /// Its path.
    pub path: Vec<u8>,
    /// For what: bits of [`Access`].
    pub access: u16,
}

/// This host's `/proc`, to be looked at from elsewhere.
#[derive(Debug)]
pub(super) struct Processes {
    proc: OwnedFd,
    ids: BTreeSet<u32>,
}

impl Processes {
    pub(super) fn of(ids: BTreeSet<u32>) -> Result<Self, RunError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = openat(CWD, "/proc", flags, Mode::empty());
        let proc = proc.map_err(|error| RunError::process("open /proc")(error.into()))?;
        Ok(Self { proc, ids })
    }

    /// The programs that they run, by the names that they have at home. What cannot be told is left out.
    pub(super) fn running(&self, home: &Home) -> Result<Vec<Running>, RunError> {
        let found = home.run(|| {
            let programs = self.ids.iter().filter_map(|id| {
                let path = self.link(&format!("{id}/exe"))?;
                let path = String::from_utf8(path).ok()?;
                // One that is deleted has the name of another by now, perhaps.
                (path.starts_with('/') && !path.ends_with(" (deleted)")).then_some(Running {
                    tgid: *id,
                    executable: path,
                    executable_source: "resolved".to_owned(),
                })
            });
            programs.collect()
        });
        Ok(found?)
    }

    /// The files that they have open and that the rules deny.
    pub(super) fn denied(&self, rules: &RuleSet, home: &Home) -> Result<Vec<OpenFile>, RunError> {
        let found = home.run(|| {
            let open = self.ids.iter().flat_map(|id| self.open_of(*id));
            open.filter(|file| {
                let decision = rules.decide_file(&file.path, file.access);
                decision.verdict == Verdict::Deny
            })
            .collect()
        });
        Ok(found?)
    }

    fn open_of(&self, process: u32) -> Vec<OpenFile> {
        let folder = format!("{process}/fd");
        let Ok(listed) = self
            .open(&folder, OFlags::DIRECTORY)
            .and_then(Dir::read_from)
        else {
            // It is gone.
            return Vec::new();
        };
        let numbers = listed.filter_map(Result::ok).filter_map(|entry| {
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_str()?;
            name.parse::<u32>().ok()
        });
        let files = numbers.filter_map(|number| {
            let path = self.link(&format!("{folder}/{number}"))?;
            let access = self.access_of(process, number)?;
            (path.first() == Some(&b'/') && access != 0).then_some(OpenFile {
                process,
                path,
                access,
            })
        });
        let mut files: Vec<_> = files.collect();
        files.sort_by(|one, other| (&one.path, one.access).cmp(&(&other.path, other.access)));
        files.dedup();
        files
    }

    /// What a descriptor was opened for: `flags` of `fdinfo`, in octal (`proc_pid_fdinfo(5)`).
    fn access_of(&self, process: u32, number: u32) -> Option<u16> {
        let info = self.open(&format!("{process}/fdinfo/{number}"), OFlags::empty());
        let text = std::io::read_to_string(std::fs::File::from(info.ok()?)).ok()?;
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let flags = OFlags::from_bits_retain(u32::from_str_radix(flags.trim(), 8).ok()?);
        if flags.contains(OFlags::PATH) {
            return Some(0);
        }
        Some(match flags & OFlags::ACCMODE {
            OFlags::WRONLY => Access::WRITE,
            OFlags::RDWR => Access::READ | Access::WRITE,
            _ => Access::READ,
        })
    }

    fn open(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        openat(&self.proc, path, flags | OFlags::CLOEXEC, Mode::empty())
    }

    fn link(&self, path: &str) -> Option<Vec<u8>> {
        let target = readlinkat(&self.proc, path, Vec::new()).ok()?;
        Some(target.into_bytes())
    }
}
