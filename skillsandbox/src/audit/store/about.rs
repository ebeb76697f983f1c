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
    /// Time of day at boot, in nanoseconds since 1970.
    pub booted_unix_ns: i128,
    /// The rules that numbers are about: 1 comes first.
    pub rules: Vec<RuleText>,
}

impl About {
    /// Turns the events' time into that of day.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock::with_offset(self.booted_unix_ns)
    }
}
