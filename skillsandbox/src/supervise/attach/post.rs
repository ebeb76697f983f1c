//! Where whoever records an attached cgroup stands: what was made of it, and what is changed.

use std::path::Path;

use super::{
    super::{
        error::RunError,
        registry::{Claim, Place, Registry},
    },
    AttachRequest, Told,
    chapter::{self, Before, Chapter},
    end::{clear_away, complete_all},
    open_files::Processes,
    rules::{self, Rules},
    state::{self, State},
};
use crate::{
    audit::clock::Clock,
    isolate::{cgroup::Hierarchy, existing::Existing, home::Home},
    kernel::Objects,
};

/// An attached cgroup, as who records it has it.
pub(super) struct Post {
    pub(super) objects: Objects,
    pub(super) place: Place,
    pub(super) cgroup: Existing,
    pub(super) home: Home,
    pub(super) clock: Clock,
    pub(super) state: State,
    pub(super) watch: bool,
}

/// What came of having another policy decide.
pub(super) enum Changed {
    /// It does.
    Done(Chapter),
    /// What decided before still does.
    Kept(Box<Before>, RunError),
    /// Nobody records what decides.
    Lost(RunError),
}

/// Which manifest is to be read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which<'p> {
    /// None: the text that is in force.
    Kept,
    /// That of this file, or of the one that the last came from.
    File(Option<&'p Path>),
}

impl Post {
    /// Attaches a cgroup, or goes on with one.
    pub(super) fn take(
        request: &AttachRequest,
        tell: &(dyn Fn(Told) + Sync),
    ) -> Result<(Self, Chapter), RunError> {
        let registry = Registry::lock()?;
        let objects = Objects::open(registry.folder())?;
        let hierarchy = Hierarchy::find()?;
        match registry.claim(&request.name)? {
            Claim::Taken => Err(RunError::attachment(
                format!(
                    "{} is attached, and another process records it",
                    request.name
                ),
                "`skillsandbox reload` gives it another policy",
            )),
            Claim::Free(place) => {
                if let Some(state) = State::of(&place)? {
                    let objects = state.objects(&registry)?;
                    return Self::go_on(request, registry, objects, &hierarchy, place, state, tell);
                }
                // Attaching was interrupted before it was said that it is done.
                clear_away(&registry, &objects, place)?;
                Self::fresh(request, &registry, objects, &hierarchy, tell)
            }
            Claim::Absent => Self::fresh(request, &registry, objects, &hierarchy, tell),
        }
    }

    /// Goes on with what another process has left: with its policy anew, or another one.
    fn go_on(
        request: &AttachRequest,
        registry: Registry,
        objects: Objects,
        hierarchy: &Hierarchy,
        mut place: Place,
        mut state: State,
        tell: &(dyn Fn(Told) + Sync),
    ) -> Result<(Self, Chapter), RunError> {
        let cgroup = Existing::of(hierarchy, &state.cgroup, state.cgroup_id)?;
        let Some(cgroup) = cgroup else {
            let place_of = state.cgroup.display().to_string();
            if objects.slot_of(state.cgroup_id)?.is_some() {
                return Err(RunError::attachment(
                    format!("the cgroup {place_of} cannot be found, and its programs decide"),
                    "look whether the host's cgroups are mounted here; if it was removed just now, try again",
                ));
            }
            complete_all(&registry, &objects, place, &state)?;
            return Err(RunError::attachment(
                format!("the cgroup {place_of} is gone: its record is complete now"),
                "attach the one that has taken its place anew, with --cgroup and --manifest",
            ));
        };
        if let Some(path) = &request.cgroup
            && Existing::open(hierarchy, path)?.id() != cgroup.id()
        {
            return Err(RunError::attachment(
                format!(
                    "{} is attached to {}",
                    request.name,
                    cgroup.place().display()
                ),
                "detach it first, or choose another name",
            ));
        }
        let home = rules::home_of(&cgroup)?;
        let (file, text) = if let Some(file) = &request.manifest {
            (file.to_string_lossy().into_owned(), rules::text_of(file)?)
        } else {
            let policy = state.next.as_ref().unwrap_or(&state.policy);
            (policy.manifest_file.clone(), policy.manifest.clone())
        };
        state.mode = request.mode.or(state.mode);
        if !request.resolvers.is_empty() {
            state.resolvers.clone_from(&request.resolvers);
        }
        let rules = Rules::read(&file, &text, state.mode, &home)?;
        rules.check_names(&cgroup)?;
        // A switch that was interrupted is finished, or did not begin.
        let mut left = None;
        if let Some(next) = state.next.take() {
            let decides = objects.slot_of(state.cgroup_id)? == Some(next.slot);
            left = Some(if decides {
                std::mem::replace(&mut state.policy, next)
            } else {
                next
            });
        }
        place.slot = state.policy.slot;
        let mut post = Self {
            clock: Clock::capture(),
            watch: request.watch,
            objects,
            place,
            cgroup,
            home,
            state,
        };
        let slot = post.state.policy.slot;
        let (mut attached, _rings) =
            post.objects
                .reopen(&post.place.id, slot, post.state.cgroup_id)?;
        if let Some(left) = left {
            // The programs that are shared may not have been led over, and would find the slot empty.
            attached.take_over()?;
            chapter::complete(&post.objects, &post.place.id, &post.state, &left);
            post.objects.empty(left.slot)?;
        }
        post.place.have_slot(slot)?;
        post.state.keep(&post.place)?;
        let second = registry.second_slot(&post.place, &post.objects)?;
        drop(registry);
        match post.change(Before::Left(attached), second, rules, file, tell) {
            Changed::Done(chapter) => Ok((post, chapter)),
            Changed::Kept(_, error) | Changed::Lost(error) => Err(error),
        }
    }

    /// Reads the manifest anew, or another one, and has it decide. If that cannot be, all is as it was.
    pub(super) fn reload(
        &mut self,
        chapter: Chapter,
        manifest: Which<'_>,
        tell: &(dyn Fn(Told) + Sync),
    ) -> (Result<Chapter, RunError>, Result<(), RunError>) {
        let read = (|| {
            let policy = &self.state.policy;
            let (file, text) = match manifest {
                Which::Kept => (policy.manifest_file.clone(), policy.manifest.clone()),
                Which::File(file) => {
                    let file = file.unwrap_or(Path::new(&policy.manifest_file));
                    (file.to_string_lossy().into_owned(), rules::text_of(file)?)
                }
            };
            let rules = Rules::read(&file, &text, self.state.mode, &self.home)?;
            rules.check_names(&self.cgroup)?;
            let second = Registry::lock()?.second_slot(&self.place, &self.objects)?;
            Ok((rules, file, second))
        })();
        let (rules, file, second) = match read {
            Ok(read) => read,
            Err(error) => return (Ok(chapter), Err(error)),
        };
        match self.change(Before::Here(chapter), second, rules, file, tell) {
            Changed::Done(chapter) => (Ok(chapter), Ok(())),
            Changed::Kept(before, error) => match *before {
                Before::Here(chapter) => (Ok(chapter), Err(error)),
                Before::Left(_) => lost(error),
            },
            Changed::Lost(error) => lost(error),
        }
    }

    /// Has other rules decide, from a second slot of its place. Gives back what decided before where that still does.
    fn change(
        &mut self,
        before: Before,
        slot: u32,
        rules: Rules,
        manifest_file: String,
        tell: &(dyn Fn(Told) + Sync),
    ) -> Changed {
        let now = match &before {
            Before::Here(chapter) => chapter.attached(),
            Before::Left(attached) => attached,
        };
        let manifest = rules.text.clone();
        let begins = self.begins(&rules);
        self.state.next = Some(state::Policy {
            slot,
            run: begins.about.run.clone(),
            manifest_file,
            manifest,
        });
        let drafted = self
            .state
            .keep(&self.place)
            .and_then(|()| self.tell_open(&rules, tell))
            .and_then(|()| self.draft(now, slot, rules, &begins));
        let draft = match drafted {
            Ok(draft) => draft,
            Err(error) => {
                self.state.next = None;
                let kept = self.state.policy.slot;
                let undone = self
                    .state
                    .keep(&self.place)
                    .and_then(|()| self.place.have_slot(kept));
                if let Err(error) = undone {
                    tracing::error!(%error, "a second slot stays taken");
                }
                return Changed::Kept(Box::new(before), error);
            }
        };
        let changed = self.switch(before, draft).and_then(|chapter| {
            if let Some(next) = self.state.next.take() {
                self.state.policy = next;
            }
            self.place.have_slot(slot)?;
            self.state.keep(&self.place)?;
            Ok(chapter)
        });
        changed.map_or_else(Changed::Lost, Changed::Done)
    }

    /// Whether the cgroup was removed: its folder is gone, and no program decides for it.
    pub(super) fn is_gone(&self) -> Result<bool, RunError> {
        Ok(!self.cgroup.is_there()? && self.objects.slot_of(self.cgroup.id())?.is_none())
    }

    /// Says which files stay open that the rules deny.
    pub(super) fn tell_open(
        &self,
        rules: &Rules,
        tell: &(dyn Fn(Told) + Sync),
    ) -> Result<(), RunError> {
        let processes = Processes::of(self.cgroup.processes()?)?;
        let open = processes.denied(&rules.numbered, &self.home)?;
        if !open.is_empty() {
            tell(Told::StayOpen(open));
        }
        Ok(())
    }
}

/// What to end with, and what to answer.
fn lost(error: RunError) -> (Result<Chapter, RunError>, Result<(), RunError>) {
    let why = error.to_string();
    (
        Err(error),
        Err(RunError::attachment(why, "nobody records it any more")),
    )
}
