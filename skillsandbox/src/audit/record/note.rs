//! What userspace itself has to say.

use serde::{Deserialize, Serialize};

use skillsandbox_common::header::{Reason, Verdict};

use super::{AddressChange, Dns, Ending, StatedRule};
use crate::audit::{
    bits::AccessBits,
    code::Code,
    counts::{Counts, Dropped},
};

/// What userspace itself has to say about a run.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "a run has a handful of notes, each alive for one call"
)]
pub enum Note {
    /// The skill is about to start.
    Start(Start),
    /// The environment it is given.
    Environment(Environment),
    /// A process was there before the first record of this run.
    Running(Running),
    /// Its time is up, and it is killed.
    Deadline(Deadline),
    /// It met a limit on a resource.
    Limit(Limit),
    /// Its name server was asked.
    Dns(Dns),
    /// An address that a name has may be reached, or not any more.
    Address(AddressChange),
    /// Accesses like one that has a record, since the last such note.
    Repeat(Repeat),
    /// Records were lost since the last such note.
    Lost(Lost),
    /// The run is over.
    End(End),
}

impl Note {
    /// The field `kind`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Environment(_) => "environment",
            Self::Running(_) => "running",
            Self::Deadline(_) => "deadline",
            Self::Limit(_) => "limit",
            Self::Dns(_) => "dns",
            Self::Address(_) => "address",
            Self::Repeat(_) => "repeat",
            Self::Lost(_) => "lost",
            Self::End(_) => "end",
        }
    }
}

/// What is run, and behind which layers.
#[derive(Clone, Debug, Serialize)]
pub struct Start {
    /// Name of the skill.
    pub skill_name: String,
    /// Version of the skill.
    pub skill_version: String,
    /// The program. Not its arguments, which can hold secrets.
    pub program: String,
    /// `kernel` or `fallback`.
    pub tier: String,
    /// What was asked for and what was achieved.
    pub layers: Vec<Layer>,
}

/// One layer of enforcement, as the caller achieved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Whether it was installed and proved by behaviour.
    pub achieved: bool,
    /// How it was proved, or why it is missing.
    pub detail: Option<String>,
}

/// Names of environment variables, never a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// Passed on from the caller.
    pub passed: Vec<String>,
    /// Set by the manifest.
    pub set: Vec<String>,
    /// Kept from the skill.
    pub withheld: Vec<String>,
}

/// A process that was there before the first record of this run, and the program that it ran then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Process id, in the initial PID namespace.
    pub tgid: u32,
    /// Its program.
    pub executable: String,
    /// Where that path comes from: `resolved` or `passed`.
    pub executable_source: String,
}

impl Running {
    /// What a line of JSON says of one, if it does.
    pub(crate) fn of_line(line: &[u8]) -> Option<Self> {
        let line = str::from_utf8(line).ok()?;
        // Within a text the quotation marks would not stand like this.
        let says_so = line.contains(r#""kind":"running""#);
        says_so.then(|| serde_json::from_str(line).ok())?
    }
}

/// The skill ran for as long as it may.
#[derive(Clone, Debug, Serialize)]
pub struct Deadline {
    /// How long that is.
    pub seconds: u64,
}

/// A limit on a resource was met.
#[derive(Clone, Debug, Serialize)]
pub struct Limit {
    /// Which: `memory`, `processes`, `output`.
    pub resource: String,
    /// The limit, in the resource's unit.
    pub limit: u64,
    /// How many of what `effect` says, since the last such note.
    pub count: u64,
    /// What came of it.
    pub effect: String,
}

/// Accesses to a file that differ in nothing but their time from one that has a record: what was done once more, by the
/// thread of this number, to the same file, with the same outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Repeat {
    /// The kind of the record.
    pub of: &'static str,
    /// How many there were, without those of earlier such notes.
    pub count: u64,
    /// They were after this, in nanoseconds since boot, and the last of them when this record says.
    pub from_boot_ns: u64,
    /// Allow or deny, each of them.
    pub verdict: Code<Verdict>,
    /// Why.
    pub reason: Code<Reason>,
    /// The rule that decided, if one did.
    pub rule: Option<StatedRule>,
    /// Thread id, in the initial PID namespace.
    pub pid: u32,
    /// Process id, in the initial PID namespace.
    pub tgid: u32,
    /// Name of the thread.
    pub comm: String,
    /// Accesses asked for.
    pub access: AccessBits,
    /// The path; null when the kernel could not name the file.
    pub path: Option<String>,
    /// The path's bytes in hexadecimal when they are not UTF-8.
    pub path_bytes: Option<String>,
}

/// Records that were decided on and are not in the audit.
#[derive(Clone, Debug, Serialize)]
pub struct Lost {
    /// They were lost after this, in nanoseconds since boot, and before this record.
    pub from_boot_ns: u64,
    /// Since the last such note, by cause.
    pub dropped: Dropped,
    /// Taken from a ring, and not to be understood.
    pub undecodable: u64,
    /// Never begun, at most: events of the whole host that a tracepoint's program was not run for.
    pub skipped: u64,
}

/// The end of a run.
#[derive(Clone, Debug, Serialize)]
pub struct End {
    /// How the skill ended.
    #[serde(flatten)]
    pub ending: Ending,
    /// Everything that was counted.
    pub counts: Counts,
    /// Whether every record is accounted for.
    pub balanced: bool,
}
