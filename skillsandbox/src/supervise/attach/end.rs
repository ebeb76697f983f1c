//! The end of an attached cgroup's policy: nothing decides any more, and the record is complete.

use super::{
    super::{
        error::RunError,
        registry::{Place, Registry},
    },
    chapter::{self, Chapter},
    nothing_attached,
    post::Post,
    state::State,
};
use crate::kernel::Objects;

impl Post {
    /// Takes the policy away and completes the record.
    pub(super) fn detach(self, chapter: Chapter) -> Result<(), RunError> {
        let registry = Registry::lock()?;
        self.objects.let_go(&self.place.id, self.cgroup.id())?;
        let (_attached, finished) = chapter.finish()?;
        chapter::told(&finished);
        clear_away(&registry, &self.objects, self.place)
    }
}

/// The same of one that nobody records.
pub(super) fn detach_left(registry: &Registry, place: Place) -> Result<(), RunError> {
    match State::of(&place)? {
        Some(state) => complete_all(registry, &state.objects(registry)?, place, &state),
        None => clear_away(registry, &Objects::open(registry.folder())?, place),
    }
}

/// The same of one of which only links are left.
pub(super) fn detach_remains(registry: &Registry, name: &str) -> Result<(), RunError> {
    let objects = Objects::open(registry.folder())?;
    let names = registry.attached(&objects)?;
    if !names.iter().any(|there| there == name) {
        return Err(nothing_attached(name));
    }
    let place = registry.enter_attached(name, &objects)?;
    clear_away(registry, &objects, place)
}

/// Takes every policy of an attached cgroup away, and completes the record of each.
pub(super) fn complete_all(
    registry: &Registry,
    objects: &Objects,
    place: Place,
    state: &State,
) -> Result<(), RunError> {
    objects.let_go(&place.id, state.cgroup_id)?;
    for policy in std::iter::once(&state.policy).chain(&state.next) {
        chapter::complete(objects, &place.id, state, policy);
    }
    clear_away(registry, objects, place)
}

/// Removes everything of an attached cgroup but its records.
pub(super) fn clear_away(
    registry: &Registry,
    objects: &Objects,
    place: Place,
) -> Result<(), RunError> {
    objects.remove_stale(&place.id, &place.slots())?;
    if registry.is_empty_but_for(&place.id)? {
        objects.stop_sharing()?;
    }
    place.leave()
}
