//! Puts every limit that a sandbox meets on record.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use super::{
    back_pressure::{Held, HeldSoFar},
    output::Passed,
    recorder::Recorder,
    sandbox::Sandbox,
};
use crate::{
    audit::record::{Limit, Note},
    isolate::met::Met,
    manifest::Resources,
};

/// How often the counters are looked at while the skill runs.
const EVERY: Duration = Duration::from_secs(1);

/// The limits of one run, and how often they were met.
pub(super) struct Limits<'a> {
    sandbox: &'a Sandbox,
    resources: Resources,
    /// KiB of the ring, and how often the skill was held back for it.
    ring_kib: u32,
    held: HeldSoFar,
    recorder: &'a Recorder,
    /// What there are notes of.
    told: Met,
    told_held: Held,
    /// Notes that are not on record yet.
    untold: VecDeque<Box<Note>>,
}

impl<'a> Limits<'a> {
    pub(super) fn new(
        sandbox: &'a Sandbox,
        resources: Resources,
        (ring_kib, held): (u32, HeldSoFar),
        recorder: &'a Recorder,
    ) -> Self {
        Self {
            sandbox,
            resources,
            ring_kib,
            held,
            recorder,
            told: Met::default(),
            told_held: Held::default(),
            untold: VecDeque::new(),
        }
    }

    /// Looks at the counters from time to time: a note tells of all that came since the last one,
    /// so that a skill that goes on meeting a limit fills no record. Waits for nobody, as a deadline may come meanwhile.
    pub(super) async fn watch(&mut self) -> Infallible {
        loop {
            tokio::time::sleep(EVERY).await;
            if self.untold.is_empty() {
                self.look();
            }
            while let Some(note) = self.untold.pop_front() {
                if let Err(note) = self.recorder.offer(note) {
                    self.untold.push_front(note);
                    break;
                }
            }
        }
    }

    /// Puts what was met since the last time on record.
    pub(super) fn tell(&mut self) {
        self.look();
        for note in self.untold.drain(..) {
            self.recorder.note(*note);
        }
    }

    /// Makes notes of what was met since the last time.
    fn look(&mut self) {
        let held = self.held.get();
        let since = held.since(std::mem::replace(&mut self.told_held, held));
        let mut limits = notes_of_held(since, self.ring_kib);
        match self.sandbox.cgroup().met() {
            Ok(met) => {
                limits.extend(notes(&met.since(&self.told), &self.resources));
                self.told = met;
            }
            Err(error) => tracing::warn!("limits that were met are not on record: {error}"),
        }
        self.untold
            .extend(limits.into_iter().map(Note::Limit).map(Box::new));
    }

    /// Puts on record what one stream wrote over the limit.
    pub(super) fn output(&self, stream: &'static str, passed: Passed) {
        let Passed { dropped, .. } = passed;
        let limit = self.resources.max_output_bytes;
        if dropped == 0 {
            return;
        }
        tracing::warn!(
            stream,
            limit,
            dropped,
            "the skill wrote more than max_output_bytes"
        );
        let effect = format!("bytes of {stream} were dropped");
        self.recorder
            .note(Note::Limit(note("output", limit, dropped, &effect)));
    }
}

fn notes(met: &Met, resources: &Resources) -> Vec<Limit> {
    let memory = resources.memory_mb << 20;
    let mut notes = Vec::new();
    if met.killed > 0 {
        notes.push(note("memory", memory, met.killed, "processes were killed"));
    } else if met.memory > 0 {
        let effect = "times usage was about to go over it";
        notes.push(note("memory", memory, met.memory, effect));
    }
    if met.refused > 0 {
        let effect = "new processes or threads were refused";
        notes.push(note(
            "processes",
            resources.max_processes,
            met.refused,
            effect,
        ));
    }
    notes
}

fn notes_of_held(held: Held, ring_kib: u32) -> Vec<Limit> {
    let mut notes = Vec::new();
    if held.times > 0 {
        let effect = format!(
            "times the skill was held back for its records, {} ms in all",
            held.microseconds.div_ceil(1000)
        );
        notes.push(note("audit", ring_kib.into(), held.times, &effect));
    }
    if held.in_vain > 0 {
        let effect = "times it went on before they were kept";
        notes.push(note("audit", ring_kib.into(), held.in_vain, effect));
    }
    notes
}

fn note(resource: &str, limit: u64, count: u64, effect: &str) -> Limit {
    Limit {
        resource: resource.to_owned(),
        limit,
        count,
        effect: effect.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_told_by_what_came_of_it() {
        let told = |memory, killed, refused| {
            let met = Met {
                memory,
                killed,
                refused,
            };
            notes(&met, &Resources::default())
                .iter()
                .map(|note| {
                    let Limit {
                        resource,
                        limit,
                        count,
                        effect,
                    } = note;
                    format!("{resource} {limit}: {count} {effect}")
                })
                .collect::<Vec<_>>()
        };
        assert!(told(0, 0, 0).is_empty());
        assert_eq!(
            told(5, 0, 3),
            [
                "memory 268435456: 5 times usage was about to go over it",
                "processes 64: 3 new processes or threads were refused"
            ]
        );
        assert_eq!(told(5, 2, 0), ["memory 268435456: 2 processes were killed"]);
    }

    #[test]
    fn being_held_back_is_told_once() {
        let before = Held {
            times: 2,
            microseconds: 3000,
            in_vain: 0,
        };
        let now = Held {
            times: 5,
            microseconds: 10_000_500,
            in_vain: 1,
        };
        let told: Vec<_> = notes_of_held(now.since(before), 64)
            .into_iter()
            .map(|limit| (limit.resource, limit.limit, limit.count, limit.effect))
            .collect();
        let effect = "times the skill was held back for its records, 9998 ms in all";
        let in_vain = "times it went on before they were kept";
        assert_eq!(
            told,
            [
                ("audit".to_owned(), 64, 3, effect.to_owned()),
                ("audit".to_owned(), 64, 1, in_vain.to_owned())
            ]
        );
        assert!(notes_of_held(now.since(now), 64).is_empty());
    }
}
