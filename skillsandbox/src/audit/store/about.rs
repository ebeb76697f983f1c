//! What a log says of its whole run.

use serde::{Deserialize, Serialize};

use crate::audit::{clock::Clock, describe::RuleText};

/// Version of what logs hold.
pub const FORMAT: u32 = 1;

/// The first entry of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// [`FORMAT`].
    pub format: u32,
    /// Name of the run, and of its log: when it started, and its sandbox.
    pub run: String,
    /// Id of the sandbox.
    pub sandbox: String,
    /// Name of the skill.
    pub skill_name: String,
    /// Version of the skill.
    pub skill_version: String,
    /// Name of the host.
    pub host: String,
    /// `kernel` or `fallback`.
    pub tier: String,
    /// The boot of the host (`/proc/sys/kernel/random/boot_id`) in which another recorder may go on with the run: that of a
    /// cgroup whose policy outlives its recorder. `None` for a run that ends with its recorder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts_for_boot: Option<String>,
    /// Time of day at boot, in nanoseconds since 1970.
    pub booted_unix_ns: i128,
    /// The rules that numbers are about: 1 comes first.
    pub rules: Vec<RuleText>,
}

impl About {
    /// Whether a recorder may still go on with the run, although none does.
    #[must_use]
    pub fn may_go_on(&self) -> bool {
        let boot = self.lasts_for_boot.as_deref();
        boot.is_some_and(|boot| this_boot().is_some_and(|now| now == boot))
    }

    /// Turns the events' time into that of day.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock::with_offset(self.booted_unix_ns)
    }
}

/// The number that this boot of the host has (random(4)).
pub(crate) fn this_boot() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}
