//! The sets of system calls that a manifest chooses among.

use serde::{Deserialize, Serialize};

/// How much of the system a skill may call. A later one allows less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// All but what could open the sandbox or reach the kernel's rarely used parts.
    Permissive,
    /// What is listed: what programs ordinarily need.
    #[default]
    Default,
    /// What is listed, without extended attributes, memory files, System V IPC and file watches.
    Strict,
}

/// What a manifest can have the filters leave to other layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permitted {
    /// Being called.
    pub listening: bool,
    /// Unix sockets that connect.
    pub unix_sockets: bool,
}

/// A part of [`Permitted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    Listening,
    UnixSockets,
}

impl Permitted {
    pub(super) const fn has(self, permission: Permission) -> bool {
        match permission {
            Permission::Listening => self.listening,
            Permission::UnixSockets => self.unix_sockets,
        }
    }
}

impl Profile {
    /// As the manifest spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Permissive => "permissive",
            Self::Default => "default",
            Self::Strict => "strict",
        }
    }
}
