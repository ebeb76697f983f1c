//! What can go wrong between this process and the kernel.

use std::{io, path::PathBuf};

use crate::policy::Network;

/// An error of the kernel side, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Not root, or without `CAP_BPF` and `CAP_SYS_ADMIN`.
    #[error("loading eBPF programs needs root: run as root, or with sudo")]
    NotRoot,
    /// The kernel has no type information.
    #[error(
        "this kernel has no BTF at {path} ({reason}): use a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    )]
    NoBtf {
        /// Where it was looked for.
        path: &'static str,
        /// What the attempt said.
        reason: String,
    },
    /// A structure is not laid out as any kernel that we know.
    #[error(
        "this kernel's BTF has no member {member}: it is older or newer than this build of skillsandbox knows"
    )]
    NoMember {
        /// `struct.member`.
        member: String,
    },
    /// A folder or file of ours could not be made or read.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Path {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The object was refused.
    #[error("the kernel refused the eBPF object: {0}")]
    Object(#[from] aya::EbpfError),
    /// A program was refused.
    #[error("the kernel refused the program {name}: {source}")]
    Program {
        /// Its name.
        name: &'static str,
        /// Why.
        source: aya::programs::ProgramError,
    },
    /// A link was refused.
    #[error("cannot attach the program {name}: {reason}")]
    Attach {
        /// Its name.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// A map could not be read or written.
    #[error("cannot {action} the map {name}: {source}")]
    Map {
        /// What was tried.
        action: &'static str,
        /// The map.
        name: &'static str,
        /// Why not.
        source: aya::maps::MapError,
    },
    /// A pin could not be made.
    #[error("cannot pin {what} at {path}: {source}", path = path.display())]
    Pin {
        /// What was to be pinned.
        what: String,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: aya::pin::PinError,
    },
    /// A rule did not fit a map.
    #[error("cannot put the rule for {network} into the map: {source}")]
    Rule {
        /// The addresses.
        network: Network,
        /// Why not.
        source: aya::maps::MapError,
    },
    /// The probe process could not be run.
    #[error("cannot run the probe process that proves the enforcement: {0}")]
    Probe(io::Error),
    /// A program is attached and decides nothing.
    #[error(
        "the program {name} is attached to the cgroup and was not called for an access that it must deny: refusing to start without it"
    )]
    NeverCalled {
        /// Its name.
        name: &'static str,
    },
    /// A slot's home is not known.
    #[error(
        "cannot tell the kernel side in which mount namespace and under which root paths are meant: {reason}"
    )]
    Home {
        /// Why not.
        reason: String,
    },
    /// Every slot is taken.
    #[error("{slots} sandboxes run already, the most that one host can have: wait for one to end")]
    NoSlot {
        /// Sandboxes.
        slots: u32,
    },
}

impl KernelError {
    pub(super) fn path(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Path {
            action,
            path,
            source,
        }
    }

    pub(super) fn map(
        action: &'static str,
        name: &'static str,
    ) -> impl Fn(aya::maps::MapError) -> Self {
        move |source| Self::Map {
            action,
            name,
            source,
        }
    }
}
