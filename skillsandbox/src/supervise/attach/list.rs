//! Which sandboxes there are.

use std::path::PathBuf;

use serde::Serialize;

use super::{
    super::{
        error::RunError,
        registry::{Claim, Registry},
    },
    state::State,
};
use crate::{
    isolate::{cgroup::Hierarchy, existing::Existing},
    kernel::Objects,
};

/// An attached cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: Standing,
    /// The cgroup, from the root of the hierarchy on; `None` where it is not known.
    pub cgroup: Option<PathBuf>,
    /// Processes in it that are seen from here.
    pub processes: usize,
    /// `kernel` or `fallback`.
    pub tier: Option<&'static str>,
    /// The manifest of the policy that decides.
    pub manifest: Option<String>,
    /// The run that its records are in.
    pub run: Option<String>,
    /// Accesses decided on in this run, and of them denied; records that found no room.
    pub decisions: u64,
    /// Denied accesses.
    pub denied: u64,
    /// Records that found no room.
    pub dropped: u64,
}

/// How an attached cgroup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Its policy decides, and a process records.
    Recorded,
    /// Its policy decides. What is recorded waits on the rings.
    Unrecorded,
    /// The cgroup is gone; its record is not complete yet.
    Gone,
    /// Attaching or detaching it was interrupted: `detach` removes what is left.
    Incomplete,
}

impl Standing {
    /// The name used in every output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Unrecorded => "unrecorded",
            Self::Gone => "gone",
            Self::Incomplete => "incomplete",
        }
    }
}

/// Lists the attached cgroups.
pub fn list() -> Result<Vec<Listed>, RunError> {
    let registry = Registry::lock()?;
    let objects = Objects::open(registry.folder())?;
    let hierarchy = Hierarchy::find()?;
    let names = registry.attached(&objects)?;
    let listed = names.into_iter().map(|name| {
        let taken = matches!(registry.claim(&name)?, Claim::Taken);
        let Some(state) = State::of_name(&registry, &name)? else {
            return Ok(Listed {
                name,
                state: Standing::Incomplete,
                cgroup: None,
                processes: 0,
                tier: None,
                manifest: None,
                run: None,
                decisions: 0,
                denied: 0,
                dropped: 0,
            });
        };
        let cgroup = Existing::of(&hierarchy, &state.cgroup, state.cgroup_id)?;
        let objects = state.objects(&registry)?;
        let decides = objects.slot_of(state.cgroup_id)?.is_some();
        let counters = objects.counters(state.policy.slot)?;
        let processes = cgroup.as_ref().map(Existing::processes).transpose()?;
        Ok(Listed {
            name,
            state: match (taken, cgroup.is_some() || decides) {
                (true, _) => Standing::Recorded,
                (false, true) => Standing::Unrecorded,
                (false, false) => Standing::Gone,
            },
            processes: processes.map_or(0, |processes| processes.len()),
            tier: Some(state.tier().as_str()),
            cgroup: Some(state.cgroup),
            manifest: Some(state.policy.manifest_file),
            run: Some(state.policy.run),
            decisions: counters.decisions(),
            denied: counters.denied,
            dropped: counters.dropped_allowed
                + counters.dropped_denied
                + counters.dropped_processes,
        })
    });
    listed.collect()
}
