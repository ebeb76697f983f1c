//! What the kernel side is to hold in a cgroup.

use skillsandbox_common::slot::{FLAG_NAMES, STATE_ENFORCING, SlotConfig};

use super::{HomeTaker, KernelError, WantedRings};
use crate::policy::Tables;

/// Where the paths of a policy mean what its rules say.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "a closure has none")]
pub enum Home<'a> {
    /// In the mount namespace and under the root of whoever makes the first access.
    FirstComers,
    /// In those of the thread in which this calls [`HomeTaker::take`] for the slot.
    Of(&'a dyn Fn(&HomeTaker, u32) -> Result<(), KernelError>),
}

/// What is to be held in a cgroup.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The rules.
    pub tables: &'a Tables,
    /// What the records go through.
    pub rings: WantedRings,
    /// Bits `FLAG_*` of [`SlotConfig`], but for what the tables call for.
    pub flags: u32,
    /// Ports of the name server, as in [`SlotConfig`].
    pub name_server: [u16; 2],
}

impl Policy<'_> {
    pub(super) fn config(&self) -> SlotConfig {
        let config = Self::config_of(self.tables);
        SlotConfig {
            flags: config.flags | self.flags,
            name_server: self.name_server,
            ..config
        }
    }

    pub(super) fn config_of(tables: &Tables) -> SlotConfig {
        SlotConfig {
            state: STATE_ENFORCING,
            flags: if tables.denies_names { FLAG_NAMES } else { 0 },
            listen: tables.listen,
            unix: tables.unix,
            ..SlotConfig::default()
        }
    }
}
