//! What a valid manifest may ask for that this version does not hold yet. `run` refuses such a
//! manifest rather than promise what it does not do.

use serde::Serialize;

use super::path::DenyPattern;
use super::schema::{Manifest, Mode, OnOverflow};

/// Something that a manifest asks for and that is not enforced yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotEnforced {
    /// The field, such as `permissions.filesystem.deny[0]`.
    pub field: String,
    /// Its line, from 1.
    pub line: u32,
    /// What does not happen yet.
    pub why: &'static str,
}

/// Where a manifest asks for a feature: field and line.
type Askings = Vec<(String, u32)>;

/// Why a feature is not enforced, and how to tell that a manifest asks for it.
type Feature = (&'static [By], &'static str, fn(&Manifest) -> Askings);

/// Who is to hold a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// `run`, in a sandbox of its own.
    Run,
    /// `attach` and the daemon, in a cgroup that is there already.
    Attach,
}

/// Every feature that is not enforced yet. One that comes to be enforced leaves this table, and
/// nothing else here changes.
const NOT_ENFORCED_YET: &[Feature] = &[
    (
        &[By::Run, By::Attach],
        "a skill that may write could give the file another name",
        names_of_what_may_be_renamed,
    ),
    (
        &[By::Run],
        "`run` always denies what is not granted",
        audit_mode,
    ),
    (
        &[By::Attach],
        "only accesses in a sandbox of `run` are counted together",
        aggregate,
    ),
    (
        &[By::Attach],
        "a policy whose `mode` is `audit` denies nothing",
        overflow_denied_in_audit_mode,
    ),
];

impl Manifest {
    /// Who it is for: those that name a cgroup are to be attached.
    #[must_use]
    pub fn is_for(&self) -> By {
        self.cgroup.as_ref().map_or(By::Run, |_| By::Attach)
    }

    /// What this manifest asks for and does not get yet from whoever is to hold it. Defaults ask for nothing.
    #[must_use]
    pub fn not_enforced_yet(&self, by: By) -> Vec<NotEnforced> {
        let mut found = Vec::new();
        let features = NOT_ENFORCED_YET
            .iter()
            .filter(|(who, ..)| who.contains(&by));
        for (_, why, askings) in features {
            for (field, line) in askings(self) {
                found.push(NotEnforced { field, line, why });
            }
        }
        found
    }
}

fn names_of_what_may_be_renamed(manifest: &Manifest) -> Askings {
    let filesystem = &manifest.permissions.filesystem;
    if filesystem.write.is_empty() {
        return Vec::new();
    }
    let patterns = filesystem.deny.iter().enumerate();
    patterns
        .filter(|(_, pattern)| matches!(pattern.value, DenyPattern::AnyDepth(_)))
        .map(|(index, pattern)| {
            (
                format!("permissions.filesystem.deny[{index}]"),
                pattern.line,
            )
        })
        .collect()
}

fn audit_mode(manifest: &Manifest) -> Askings {
    asking(
        manifest.mode.value == Mode::Audit,
        "mode",
        manifest.mode.line,
    )
}

fn aggregate(manifest: &Manifest) -> Askings {
    let aggregate = manifest.audit.aggregate;
    asking(aggregate.value, "audit.aggregate", aggregate.line)
}

fn overflow_denied_in_audit_mode(manifest: &Manifest) -> Askings {
    let on_overflow = manifest.audit.on_overflow;
    let is_asked = manifest.mode.value == Mode::Audit && on_overflow.value == OnOverflow::Deny;
    asking(is_asked, "audit.on_overflow", on_overflow.line)
}

fn asking(is_asked: bool, field: &str, line: u32) -> Askings {
    if is_asked {
        vec![(field.to_owned(), line)]
    } else {
        Vec::new()
    }
}
