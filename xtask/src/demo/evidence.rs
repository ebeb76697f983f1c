//! What happened in one place, read from the files that `collect` leaves.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::server::PROBE;
use super::stage;

/// Where a sandbox has the skill's home.
const SANDBOX_HOME: &str = "/home/skill";

/// Everything about one place.
pub(super) struct Evidence {
    /// The release of its kernel.
    pub(super) kernel: String,
    /// The user that everything ran as.
    pub(super) uid: u32,
    /// The stealer without SkillSandbox.
    pub(super) alone: Act,
    /// The stealer under SkillSandbox.
    pub(super) sandboxed: Act,
    /// The honest skill under SkillSandbox.
    pub(super) honest: Act,
    /// What the attacker received from the stealer alone.
    pub(super) stolen: Vec<Arrival>,
    /// The attacker's log, to the byte, when the stealer had ended under SkillSandbox.
    pub(super) leaked: String,
    /// The same after the demo's own test messages had arrived.
    pub(super) probed: Vec<Arrival>,
    /// SkillSandbox's record of the stealer.
    pub(super) record: Record,
}

/// One program's run.
pub(super) struct Act {
    /// How it ended.
    pub(super) status: String,
    /// What it wrote to its standard output.
    pub(super) stdout: String,
    /// The steps that it reported.
    pub(super) steps: Vec<Step>,
    /// What else it wrote to its standard error.
    pub(super) messages: Vec<String>,
}

/// One step of the theft, as the stealer reports it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Step {
    #[serde(rename = "step")]
    pub(super) kind: String,
    pub(super) target: String,
    pub(super) outcome: String,
    pub(super) detail: String,
}

impl Step {
    /// What it aims at, the same in and out of the sandbox.
    pub(super) fn aim(&self) -> (&str, &str) {
        let target = self.target.as_str();
        let aim = match self.kind.as_str() {
            "environment" if target.starts_with("/proc/") => "parent",
            "file" => {
                let home = stage::home();
                let victims = home.to_str().and_then(|home| target.strip_prefix(home));
                let own = target.strip_prefix(SANDBOX_HOME);
                let name = victims.or(own);
                name.map_or(target, |name| name.trim_start_matches('/'))
            }
            _ => target,
        };
        (&self.kind, aim)
    }

    /// Whether the stealer got what it wanted.
    pub(super) fn got(&self) -> bool {
        self.outcome == "got"
    }
}

/// Something that the attacker received.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Arrival {
    pub(super) protocol: String,
    pub(super) from: String,
    pub(super) data: String,
}

/// A record of SkillSandbox: docs/events.md. Fields that its kind lacks are empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    pub(super) kind: String,
    pub(super) verdict: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) tgid: Option<u32>,
    pub(super) path: Option<String>,
    pub(super) error: Option<String>,
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
    pub(super) tier: Option<String>,
    pub(super) layers: Vec<Layer>,
    pub(super) withheld: Vec<String>,
    pub(super) balanced: Option<bool>,
}

/// A layer of enforcement.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) achieved: bool,
}

impl Event {
    pub(super) fn denied(&self) -> bool {
        self.verdict.as_deref() == Some("deny")
    }

    pub(super) fn socket(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.address?, self.port?))
    }
}

/// All records of one run.
pub(super) struct Record(pub(super) Vec<Event>);

impl Record {
    /// The tier that the run had.
    pub(super) fn tier(&self) -> &str {
        let tier = self.0.iter().find_map(|event| event.tier.as_deref());
        tier.unwrap_or("unknown")
    }

    /// Whether a layer was there.
    pub(super) fn had(&self, layer: &str) -> bool {
        let mut layers = self.0.iter().flat_map(|event| &event.layers);
        layers.any(|found| found.name == layer && found.achieved)
    }

    /// The variables that the skill did not get.
    pub(super) fn withheld(&self) -> impl Iterator<Item = &str> {
        let events = self.0.iter().filter(|event| event.kind == "environment");
        events.flat_map(|event| event.withheld.iter().map(String::as_str))
    }
}

impl Evidence {
    /// Reads a folder.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let file = |name: &str| {
            let file = folder.join(name);
            let bytes = fs::read(&file);
            let bytes = bytes.with_context(|| format!("nothing is known: {}", file.display()))?;
            anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let act = |act: &str| {
            let read = |what: &str| file(&format!("{act}.{what}"));
            anyhow::Ok(Act::of(read("status")?, read("stdout")?, &read("stderr")?))
        };
        let sandboxed = act("sandboxed")?;
        // A run that could not start has written none: its messages say why.
        let events = file("sandboxed.events.jsonl").unwrap_or_default();
        Ok(Self {
            kernel: file("kernel")?,
            uid: file("uid")?.parse()?,
            alone: act("alone")?,
            sandboxed,
            honest: act("honest")?,
            stolen: lines(&file("alone.attacker.jsonl")?)?,
            leaked: file("sandboxed.attacker.jsonl")?,
            probed: lines(&file("sandboxed.attacker-probed.jsonl")?)?,
            record: Record(lines(&events)?),
        })
    }

    /// What the attacker received under SkillSandbox beside the demo's own test messages.
    pub(super) fn late(&self) -> impl Iterator<Item = &Arrival> {
        let ours = |arrival: &Arrival| {
            let mut same = self.probed.iter().filter(|other| {
                (&other.protocol, &other.from) == (&arrival.protocol, &arrival.from)
            });
            same.any(|other| other.data.trim_end() == PROBE)
        };
        self.probed.iter().filter(move |arrival| !ours(arrival))
    }
}

impl Act {
    /// Sorts what a run left behind.
    pub(super) fn of(status: String, stdout: String, stderr: &str) -> Self {
        let mut act = Self {
            status,
            stdout,
            steps: Vec::new(),
            messages: Vec::new(),
        };
        for line in stderr.lines() {
            match serde_json::from_str(line) {
                Ok(step) => act.steps.push(step),
                Err(_) => act.messages.push(line.to_owned()),
            }
        }
        act
    }
}

/// Reads JSON Lines.
pub(super) fn lines<T: DeserializeOwned>(text: &str) -> Result<Vec<T>> {
    let parsed = text
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a record: {line}")));
    parsed.collect()
}
