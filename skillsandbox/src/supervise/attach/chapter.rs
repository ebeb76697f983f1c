//! One policy of an attached cgroup, from when it decides to when the next one does; its records are one run.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    super::{
        error::RunError,
        recorder::{About, Finished, Recorder},
        said,
    },
    Post,
    rules::Rules,
    state::{self, State},
};
use crate::{
    audit::{
        clock::{Clock, Time},
        describe::RuleText,
        record::{Ending, Note, Running, Start},
        sink::Sink,
        store::{self, Log, ResumeError, Writer, this_boot},
        watch::{Colour, Watch},
    },
    dns::{GrantError, Grants, NameServer, Sockets, Upstream},
    kernel::{Attached, Objects, Policy, Rings},
    manifest::Mode,
    policy::RuleSet,
};

/// Records of one run, and how long it is: the next one begins then, so that this one can be sealed. Whoever goes on with a run
/// reads all of it first, while the rings fill: a million take a second.
const RECORDS_MAX: u64 = 1_000_000;
const AGE_MAX: Duration = Duration::from_hours(24);

/// A policy that decides.
pub(super) struct Chapter {
    attached: Arc<Attached>,
    recorder: Recorder,
    grants: Arc<Grants>,
    names: Option<NameServer>,
    /// Told when something cannot be kept.
    pub(super) failed: mpsc::Receiver<()>,
    began: Instant,
    records_max: u64,
}

/// A policy that is about to decide.
pub(super) struct Draft {
    pub(super) rules: Rules,
    pub(super) attached: Attached,
    pub(super) rings: Rings,
    pub(super) log: Log,
    pub(super) sockets: Option<Sockets>,
    pub(super) grants: Arc<Grants>,
}

/// A run that is about to begin.
pub(super) struct Begins {
    pub(super) about: store::About,
    started: Time,
}

/// What decided before.
#[expect(clippy::large_enum_variant, reason = "there is one, for one call")]
pub(super) enum Before {
    /// This process records it.
    Here(Chapter),
    /// A process did that is gone.
    Left(Attached),
}

impl Chapter {
    /// Whether it has become so long that the next one is to begin.
    pub(super) fn is_long(&self) -> Result<bool, RunError> {
        Ok(self.began.elapsed() > AGE_MAX || self.attached.counters()?.records > self.records_max)
    }

    /// It goes on for as long again.
    pub(super) fn goes_on(&mut self) {
        self.began = Instant::now();
        self.records_max = self.records_max.saturating_mul(2);
    }

    /// Leaves what decides, and its record open for the next process.
    pub(super) fn leave(self) -> Result<(), RunError> {
        drop(self.names);
        self.recorder.leave()
    }

    /// Ends the record. No program decides by its policy any more.
    pub(super) fn finish(self) -> Result<(Attached, Finished), RunError> {
        drop(self.names);
        let finished = self.recorder.finish(Ending::default())?;
        let attached = Arc::into_inner(self.attached);
        let attached = attached.ok_or_else(|| {
            RunError::process("end a record")(io::Error::other("somebody still uses it"))
        })?;
        Ok((attached, finished))
    }

    pub(super) fn attached(&self) -> &Attached {
        &self.attached
    }
}

impl Post {
    /// Where questions at port 53 go, if the rules have names.
    pub(super) fn sockets(rules: &Rules) -> Result<Option<Sockets>, RunError> {
        let sockets = rules.numbered.names_hosts().then(Sockets::bind).transpose();
        sockets.map_err(RunError::process("bind the name server"))
    }

    /// The next policy, in a slot of its own.
    pub(super) fn draft(
        &self,
        before: &Attached,
        slot: u32,
        rules: Rules,
        begins: &Begins,
    ) -> Result<Draft, RunError> {
        let sockets = Self::sockets(&rules)?;
        let policy = policy_of(&rules, sockets.as_ref());
        let (attached, rings) = before.prepare(&self.objects, slot, &policy)?;
        let grants = grants_of(&rules, &attached)?;
        let log = self.log(begins)?;
        Ok(Draft {
            rules,
            attached,
            rings,
            log,
            sockets,
            grants,
        })
    }

    /// The next run, which has a name now, and no log yet.
    pub(super) fn begins(&self, rules: &Rules) -> Begins {
        let started = self.clock.time(Clock::boot_ns());
        let about = store::About {
            lasts_for_boot: this_boot(),
            ..said::about(
                &self.state.name,
                &rules.manifest.skill,
                &self.state.tier(),
                &rules.numbered,
                (self.clock, started),
            )
        };
        Begins { about, started }
    }

    /// Begins its log. What is kept of the cgroup names it already: whoever comes next finds it.
    pub(super) fn log(&self, begins: &Begins) -> Result<Log, RunError> {
        let writer = Writer::open(&self.state.store)?;
        let log = Log::begin(writer, &begins.about, begins.started);
        log.map_err(RunError::process("begin the log of a run"))
    }

    /// Records what decides now.
    pub(super) fn begin(&self, draft: Draft, running: Vec<Running>) -> Result<Chapter, RunError> {
        let Draft {
            rules,
            attached,
            rings,
            log,
            sockets,
            grants,
        } = draft;
        let attached = Arc::new(attached);
        let about = About {
            sandbox: self.state.name.clone(),
            clock: self.clock,
            rules: rules.numbered.rules().iter().map(RuleText::of).collect(),
            judge: None,
            names: Arc::clone(&grants),
            resumed: None,
            outlives_recorder: true,
            #[cfg(feature = "bpf-log")]
            log: self.objects.log(),
        };
        let mut sinks: Vec<(&'static str, Box<dyn Sink>)> = vec![("audit store", Box::new(log))];
        if self.watch {
            let stderr = io::stderr();
            let colour = Colour::of(&stderr);
            sinks.push(("watch", Box::new(Watch::new(stderr, colour))));
        }
        let (failing, failed) = mpsc::channel(1);
        let recorder = Recorder::start(about, rings, Arc::clone(&attached), sinks, failing)?;
        recorder.note(Note::Start(Start {
            skill_name: rules.manifest.skill.name.clone(),
            skill_version: rules.manifest.skill.version.clone(),
            program: rules.program.clone(),
            tier: self.state.tier().as_str().to_owned(),
            layers: self.state.layers.clone(),
        }));
        for process in running {
            recorder.note(Note::Running(process));
        }
        let names = sockets.map(|sockets| {
            let (upstream, missing) = Upstream::new(&self.state.resolvers)?;
            if let Some(missing) = missing {
                tracing::warn!("{missing}");
            }
            let grants = Arc::clone(&grants);
            let passes_all = rules.mode() == Mode::Audit;
            NameServer::start(sockets, grants, upstream, passes_all, recorder.noting())
                .map_err(RunError::process("start the name server"))
        });
        Ok(Chapter {
            attached,
            recorder,
            grants,
            names: names.transpose()?,
            failed,
            began: Instant::now(),
            records_max: RECORDS_MAX,
        })
    }

    /// Has the next policy decide, and ends the record of the one before.
    pub(super) fn switch(&self, before: Before, mut draft: Draft) -> Result<Chapter, RunError> {
        match before {
            Before::Here(chapter) => {
                let grants = Arc::clone(&draft.grants);
                chapter
                    .grants
                    .hand_over(&grants, || Ok::<_, GrantError>(draft.attached.take_over()?))?;
                let running = match chapter.finish() {
                    Ok((attached, finished)) => {
                        attached.retire()?;
                        told(&finished);
                        finished.running
                    }
                    // The next policy decides already: its record must begin.
                    Err(error) => {
                        tracing::error!(%error, "the record of the last policy is not complete");
                        Vec::new()
                    }
                };
                self.begin(draft, running)
            }
            Before::Left(attached) => {
                draft.attached.take_over()?;
                let running = complete(
                    &self.objects,
                    &self.place.id,
                    &self.state,
                    &self.state.policy,
                );
                attached.retire()?;
                self.begin(draft, running)
            }
        }
    }
}

/// Ends the record of a policy whose recorder is gone and by which no program decides any more; says what is running.
pub(super) fn complete(
    objects: &Objects,
    id: &str,
    state: &State,
    policy: &state::Policy,
) -> Vec<Running> {
    match try_complete(objects, id, state, policy) {
        Ok(Some(finished)) => {
            told(&finished);
            finished.running
        }
        // Its recorder was killed before the policy could decide, or after all of it was said.
        Ok(None) => Vec::new(),
        Err(error) => {
            tracing::error!(
                %error,
                run = policy.run,
                "the record of what was decided while nobody recorded cannot be completed"
            );
            Vec::new()
        }
    }
}

fn try_complete(
    objects: &Objects,
    id: &str,
    state: &State,
    policy: &state::Policy,
) -> Result<Option<Finished>, RunError> {
    let writer = Writer::open(&state.store)?;
    let (log, about, resumed) = match Log::resume(writer, &policy.run) {
        Err(ResumeError::Nothing) => return Ok(None),
        resumed => resumed
            .map_err(|error| RunError::process("go on with a log")(io::Error::other(error)))?,
    };
    let (attached, rings) = objects.reopen(id, policy.slot, state.cgroup_id)?;
    let about = About {
        sandbox: about.sandbox.clone(),
        clock: about.clock(),
        rules: about.rules,
        judge: None,
        names: Arc::new(Grants::new(RuleSet::default(), None, Vec::new())),
        resumed: Some(resumed),
        outlives_recorder: true,
        #[cfg(feature = "bpf-log")]
        log: None,
    };
    let (failing, _failed) = mpsc::channel(1);
    let sinks: Vec<(&'static str, Box<dyn Sink>)> = vec![("audit store", Box::new(log))];
    let recorder = Recorder::start(about, rings, Arc::new(attached), sinks, failing)?;
    recorder.finish(Ending::default()).map(Some)
}

/// What the kernel side is to hold.
pub(super) fn policy_of<'a>(rules: &'a Rules, sockets: Option<&Sockets>) -> Policy<'a> {
    Policy {
        tables: &rules.tables,
        rings: rules.rings(),
        flags: rules.flags(),
        name_server: sockets.map_or([0; 2], |sockets| sockets.ports),
    }
}

pub(super) fn grants_of(rules: &Rules, attached: &Attached) -> Result<Arc<Grants>, RunError> {
    let addresses = attached.address_rules()?;
    Ok(Arc::new(Grants::new(
        rules.numbered.clone(),
        Some(addresses),
        Vec::new(),
    )))
}

/// Says where a record is not complete.
pub(super) fn told(finished: &Finished) {
    let accounting = &finished.summary.accounting;
    if !accounting.balanced {
        tracing::error!(?accounting, "the record of a policy is not complete");
    }
}
