//! What is kept of an attached cgroup for whoever comes next, in its place in the registry.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    super::{
        error::RunError,
        registry::{Place, Registry},
        sandbox::Tier,
    },
    AttachRequest,
};
use crate::{audit::record::Layer, isolate::existing::Existing, kernel::Objects, manifest::Mode};

const FILE: &str = "attachment.json";
/// Of what is in it, and of what is pinned: programs of another build go on with the maps that are there.
const VERSION: u32 = 1;

/// An attached cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    /// The pinned objects that decide: those of the build that attached it.
    objects: String,
    pub(super) name: String,
    /// The cgroup, from the root of the hierarchy on.
    pub(super) cgroup: PathBuf,
    /// Its number.
    pub(super) cgroup_id: u64,
    /// Why this is only the fallback tier, if it is.
    pub(super) fallback: Option<String>,
    /// What no program decides on, if there is such.
    pub(super) unheld: Option<String>,
    /// What the programs achieved.
    pub(super) layers: Vec<Layer>,
    /// Where its records are kept.
    pub(super) store: PathBuf,
    pub(super) resolvers: Vec<SocketAddr>,
    /// What was asked for in the place of what manifests say.
    pub(super) mode: Option<Mode>,
    /// The policy that decides.
    pub(super) policy: Policy,
    /// The one that is about to, or does already.
    pub(super) next: Option<Policy>,
}

/// A policy that decides, and the run that its records are in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Policy {
    pub(super) slot: u32,
    pub(super) run: String,
    /// The manifest's file, as it was named, and its text.
    pub(super) manifest_file: String,
    pub(super) manifest: String,
}

impl State {
    pub(super) fn new(
        request: &AttachRequest,
        objects: &Objects,
        cgroup: &Existing,
        tier: &Tier,
        unheld: Option<String>,
        layers: Vec<Layer>,
        policy: Policy,
    ) -> Self {
        Self {
            version: VERSION,
            objects: objects.name(),
            name: request.name.clone(),
            cgroup: cgroup.place().to_owned(),
            cgroup_id: cgroup.id(),
            fallback: match tier {
                Tier::Kernel => None,
                Tier::Fallback(reason) => Some(reason.clone()),
            },
            unheld,
            layers,
            store: request.store.clone(),
            resolvers: request.resolvers.clone(),
            mode: request.mode,
            policy,
            next: None,
        }
    }

    /// The pinned objects that decide.
    pub(super) fn objects(&self, registry: &Registry) -> Result<Objects, RunError> {
        Ok(Objects::named(registry.folder(), &self.objects)?)
    }

    pub(super) fn tier(&self) -> Tier {
        match &self.fallback {
            None => Tier::Kernel,
            Some(reason) => Tier::Fallback(reason.clone()),
        }
    }

    pub(super) fn keep(&self, place: &Place) -> Result<(), RunError> {
        let json = serde_json::to_vec_pretty(self);
        let json = json.map_err(|error| RunError::process("write down a state")(error.into()))?;
        place.write(FILE, &json)
    }

    /// What was kept in a place. `None` where attaching was interrupted before anything decided.
    pub(super) fn of(place: &Place) -> Result<Option<Self>, RunError> {
        place.read(FILE)?.map(|json| Self::parse(&json)).transpose()
    }

    /// What is kept of the cgroup of this name, whoever has its place.
    pub(super) fn of_name(registry: &Registry, name: &str) -> Result<Option<Self>, RunError> {
        let json = registry.read_of(name, FILE)?;
        json.map(|json| Self::parse(&json)).transpose()
    }

    fn parse(json: &[u8]) -> Result<Self, RunError> {
        let state = serde_json::from_slice::<Self>(json).map_err(|error| error.to_string());
        let state = state.and_then(|state| match state.version {
            VERSION => Ok(state),
            other => Err(format!("it is of version {other}")),
        });
        state.map_err(|why| {
            RunError::attachment(
                format!("what is kept of an attached cgroup cannot be read: {why}"),
                "another version of skillsandbox wrote it: detach with that one",
            )
        })
    }
}
