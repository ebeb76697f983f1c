//! Landlock: a second opinion on files, programs, ports and signals.
//!
//! The rules are made before the skill joins its cgroup, since they need open files, and put in
//! force after.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};
use skillsandbox_common::rule::Access;

use super::error::{IsolateError, Result, Step};
use super::report::{Layer, LayerReport, Status};
use super::system;

/// Ranges of TCP ports for Landlock to decide on; `None` leaves them to the other layers. Linux 6.7.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    /// Ports that may be connected to. A refusal by Landlock comes before the eBPF programs see
    /// the attempt, so they do not record it.
    pub connect: Option<Vec<(u16, u16)>>,
    /// Ports that may be bound to, first and last of each range; 0 for one that the kernel chooses.
    pub bind: Option<Vec<(u16, u16)>>,
}

/// A file or folder, and what is granted there: bits of [`Access`].
pub(super) struct Rule {
    pub(super) path: OwnedFd,
    pub(super) access: u16,
    /// Whether device files there take `ioctl`.
    pub(super) devices: bool,
}

/// Rules that are not in force yet.
pub(super) struct Rules {
    ruleset: RulesetCreated,
    abi: ABI,
    detail: String,
}

/// What Landlock does from which version, for the report.
const FEATURES: [(ABI, &str); 6] = [
    (ABI::V1, "files and programs"),
    (ABI::V2, "links and renames"),
    (ABI::V3, "truncation"),
    (ABI::V5, "device ioctls"),
    (ABI::V6, "signals and abstract sockets"),
    (ABI::V9, "sockets by path"),
];

/// The version below which part of what a sandbox asks for is missing.
const ASKED_FOR: ABI = ABI::V6;

fn offered() -> Option<ABI> {
    Some(match system::landlock_abi() {
        ..=0 => return None,
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        7 => ABI::V7,
        8 => ABI::V8,
        // The newest whose rights this file knows; later ones add rights that are left alone.
        9.. => ABI::V9,
    })
}

/// The rights of Landlock that stand for bits of [`Access`] on a file or folder.
fn rights(abi: ABI, access: u16, devices: bool, kind: FileType) -> BitFlags<AccessFs> {
    if kind == FileType::Socket {
        // Granted to be connected to, whatever else.
        return AccessFs::from_all(abi) & AccessFs::ResolveUnix;
    }
    let all = AccessFs::from_all(abi);
    let mut granted = BitFlags::empty();
    if access & Access::READ != 0 {
        granted |= AccessFs::ReadFile | AccessFs::ReadDir;
    }
    if access & Access::WRITE != 0 {
        granted |= all & !(AccessFs::from_read(abi) | AccessFs::IoctlDev | AccessFs::ResolveUnix);
        granted &= !(AccessFs::MakeChar | AccessFs::MakeBlock);
    }
    if access & Access::EXEC != 0 {
        granted |= AccessFs::Execute;
    }
    if devices {
        granted |= AccessFs::IoctlDev;
    }
    if kind != FileType::Directory {
        granted &= AccessFs::from_file(abi);
    }
    granted & all
}

fn refused(error: &landlock::RulesetError) -> IsolateError {
    IsolateError::refused(
        format!("cannot build the Landlock rules: {error}"),
        "report this with the kernel's version",
    )
}

impl Rules {
    /// Makes rules of what is granted; `None` when the kernel has no Landlock.
    pub(super) fn prepare(rules: &[Rule], ports: &Ports) -> Result<Option<Self>> {
        let Some(abi) = offered() else {
            return Ok(None);
        };
        let mut handled = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(abi))
            .map_err(|error| refused(&error))?;
        let mut detail: Vec<&str> = FEATURES
            .iter()
            .filter(|(since, _)| abi >= *since)
            .map(|(_, feature)| *feature)
            .collect();
        if abi >= ABI::V6 {
            handled = handled
                .scope(Scope::from_all(abi))
                .map_err(|error| refused(&error))?;
        }
        let nets = [
            (&ports.connect, AccessNet::ConnectTcp, "TCP connects"),
            (&ports.bind, AccessNet::BindTcp, "TCP listening"),
        ];
        for (wanted, right, name) in &nets {
            if wanted.is_some() && abi >= ABI::V4 {
                handled = handled
                    .handle_access(*right)
                    .map_err(|error| refused(&error))?;
                detail.push(name);
            }
        }
        let mut ruleset = handled.create().map_err(|error| refused(&error))?;
        for rule in rules {
            let status = rustix::fs::fstat(&rule.path).step("look at a granted path")?;
            let kind = FileType::from_raw_mode(status.st_mode);
            let rights = rights(abi, rule.access, rule.devices, kind);
            if !rights.is_empty() {
                let path: BorrowedFd<'_> = rule.path.as_fd();
                ruleset = ruleset
                    .add_rule(PathBeneath::new(path, rights))
                    .map_err(|error| refused(&error))?;
            }
        }
        for (wanted, right, _) in nets {
            let ranges = wanted.iter().flatten().filter(|_| abi >= ABI::V4);
            for port in ranges.flat_map(|&(first, last)| first..=last) {
                ruleset = ruleset
                    .add_rule(NetPort::new(port, right))
                    .map_err(|error| refused(&error))?;
            }
        }
        let detail = format!("version {abi}: {}", detail.join(", "));
        Ok(Some(Self {
            ruleset,
            abi,
            detail,
        }))
    }

    /// Puts the rules in force for this process and its descendants, for good.
    pub(super) fn enforce(self) -> Result<LayerReport> {
        let outcome = self
            .ruleset
            .restrict_self()
            .map_err(|error| refused(&error))?;
        if outcome.ruleset != RulesetStatus::FullyEnforced {
            return Err(IsolateError::refused(
                format!("the kernel reports Landlock as {:?}", outcome.ruleset),
                "report this with the kernel's version",
            ));
        }
        let status = if self.abi >= ASKED_FOR {
            Status::Enforced
        } else {
            Status::Partial
        };
        Ok(LayerReport::new(Layer::Landlock, status, self.detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_grants_neither_reading_nor_running_nor_devices() {
        let granted = rights(ABI::V9, Access::WRITE, false, FileType::Directory);
        assert!(granted.contains(AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::Truncate));
        let never = AccessFs::ReadFile
            | AccessFs::ReadDir
            | AccessFs::Execute
            | AccessFs::IoctlDev
            | AccessFs::MakeChar
            | AccessFs::MakeBlock
            | AccessFs::ResolveUnix;
        assert!(!granted.intersects(never));
    }

    #[test]
    fn a_file_takes_no_rights_of_folders() {
        let granted = rights(ABI::V7, Access::ALL, false, FileType::RegularFile);
        assert!(granted.contains(AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Execute));
        assert!(!granted.intersects(AccessFs::ReadDir | AccessFs::MakeReg));
    }

    #[test]
    fn an_old_version_is_asked_for_nothing_newer() {
        assert!(
            !rights(ABI::V1, Access::ALL, true, FileType::Directory).contains(AccessFs::Truncate)
        );
    }
}
