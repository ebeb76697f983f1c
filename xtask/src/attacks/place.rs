//! How attacks ended in one place.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A place, and how attacks ended there.
pub(super) struct Place {
    pub(super) name: String,
    /// Something did not end as it should.
    pub(super) failed: bool,
    /// `None` where nothing was run to its end.
    pub(super) tried: Option<Tried>,
}

impl Place {
    pub(super) fn not_run(name: String) -> Self {
        Self {
            name,
            failed: false,
            tried: None,
        }
    }
}

/// What the test program tells.
#[derive(Deserialize)]
pub(super) struct Tried {
    pub(super) kernel: String,
    pub(super) tier: String,
    pub(super) landlock: u32,
    pub(super) attacks: Vec<Attack>,
}

/// An attack.
#[derive(Deserialize)]
pub(super) struct Attack {
    pub(super) name: String,
    pub(super) family: String,
    /// Why fewer than two layers stop it.
    pub(super) alone: Option<String>,
    /// Why none does.
    pub(super) known: Option<String>,
    /// By choice of layers.
    pub(super) ended: BTreeMap<String, Ended>,
}

/// How it ended.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Ended {
    Got(#[expect(dead_code, reason = "always true")] bool),
    Stopped(String),
}

impl Attack {
    pub(super) fn got(&self, layers: &str) -> bool {
        matches!(self.ended.get(layers), Some(Ended::Got(_)))
    }

    /// What was in its way.
    pub(super) fn stopped_by(&self, layers: &str) -> Option<&str> {
        match self.ended.get(layers) {
            Some(Ended::Stopped(why)) => Some(why),
            _ => None,
        }
    }

    /// Whether it can be tried there at all.
    pub(super) fn is_possible(&self) -> bool {
        self.got("outside")
    }
}

impl Tried {
    pub(super) fn attack(&self, name: &str) -> Option<&Attack> {
        self.attacks.iter().find(|attack| attack.name == name)
    }
}
