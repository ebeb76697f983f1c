//! [`Collector`]: event bytes from the rings, in order, accounted for, to every sink.
//!
//! The supervisor drains the rings of events, then the ring of denials, pushes every event, and
//! ends the batch. In that order: the rings share one sequence, and a denial that was made
//! before the last event drained is then in the same batch, where sorting puts it in its place.

use std::{cell::LazyCell, io, ops::Range};

use bytes::BytesMut;
use skillsandbox_common::{event::PathSource, header::EventPrefix, slot::SlotCounters};
use thiserror::Error;

use super::{
    clock::Clock,
    code::Code,
    counts::{Accounting, Counts, Dropped, Summary, Tally},
    decode::{self, Body, decode},
    describe::Knowledge,
    process::{Executable, Processes},
    record::{End, Ending, Lost, Note, Record, Running},
    repeat::{Like, Repeats},
    said::Said,
    sequence::Sequences,
    sink::{Seen, Sink},
    store::Known,
};

/// A batch that grows past this many bytes ends by itself.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A sink failed. It gets no more records, the others do; this is said once.
#[derive(Debug, Error)]
#[error("audit: {sink} cannot be written: {source}; its record of this run is not complete")]
pub struct SinkError {
    /// The name that the sink was added under.
    pub sink: &'static str,
    /// Why.
    pub source: io::Error,
}

/// Orders, counts and hands out the records of one sandbox.
pub struct Collector<'a> {
    knowledge: Knowledge<'a>,
    sinks: Sinks<'a>,
    batch: Batch,
    /// The highest number before which nothing is to come any more; what comes after it waits for the next batch.
    settled: u64,
    processes: Processes,
    sequences: Sequences,
    tally: Tally,
    undecodable: u64,
    skipped: u64,
    /// By the collector that this one goes on for.
    skipped_before: u64,
    repeats: Repeats,
    /// What the last note of lost records covered: dropped, undecodable, skipped.
    told: (Dropped, u64, u64),
    /// When it was last looked, in nanoseconds since boot.
    looked: u64,
    /// The highest number that an earlier collector of the same run has kept. What it took from a ring without having
    /// given the room back is there once more.
    kept_to: u64,
}

/// What a collector had come to that ended before its run.
#[derive(Debug, Default)]
pub struct Resumed {
    /// What it knew.
    pub(crate) known: Known,
    /// What it had said was lost.
    pub(crate) told: (Dropped, u64, u64),
    /// When it last said so, or the run began, in nanoseconds since boot.
    pub(crate) looked: u64,
}

impl<'a> Collector<'a> {
    /// A collector without sinks.
    #[must_use]
    pub fn new(knowledge: Knowledge<'a>) -> Self {
        Self {
            knowledge,
            sinks: Sinks::default(),
            batch: Batch::default(),
            settled: u64::MAX,
            processes: Processes::default(),
            sequences: Sequences::default(),
            tally: Tally::default(),
            undecodable: 0,
            skipped: 0,
            skipped_before: 0,
            repeats: Repeats::default(),
            told: Default::default(),
            looked: Clock::boot_ns(),
            kept_to: 0,
        }
    }

    /// A collector without sinks that goes on where another one of the same run ended.
    #[must_use]
    pub fn resume(knowledge: Knowledge<'a>, resumed: Resumed) -> Self {
        let Resumed {
            known,
            told,
            looked,
        } = resumed;
        let (_, undecodable, skipped) = told;
        Self {
            kept_to: known.sequences.highest(),
            processes: known.processes,
            sequences: known.sequences,
            tally: known.tally,
            undecodable,
            skipped,
            skipped_before: skipped,
            told,
            looked,
            ..Self::new(knowledge)
        }
    }

    /// Adds a sink under a name for error messages.
    pub fn add(&mut self, name: &'static str, sink: Box<dyn Sink + 'a>) {
        self.sinks.working.push((name, sink));
    }

    /// Takes the bytes of one event, as a ring gave them.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.batch.push(bytes);
        if self.batch.bytes.len() > BATCH_BYTES_MAX {
            self.settle(u64::MAX);
            return self.end_batch();
        }
        Ok(())
    }

    /// Of what was pushed so far, nothing up to this number is missing but what never comes. What was made later waits for
    /// the next batch, also where it is pushed in this one. To be said for each batch, or never.
    pub fn settle(&mut self, to: u64) {
        self.settled = to.min(self.batch.pushed_to);
    }

    /// The rings are drained: sorts what was pushed and hands it to the sinks.
    pub fn end_batch(&mut self) -> Result<(), SinkError> {
        let batch = std::mem::take(&mut self.batch).sorted();
        let settled = batch.up_to(self.settled);
        for bytes in batch.events().take(settled) {
            let Ok(event) = decode(bytes) else {
                self.undecodable += 1;
                continue;
            };
            let number = event.prefix.actor.sequence;
            if number <= self.kept_to && self.sequences.complete(number, number) {
                continue;
            }
            self.sequences.insert(number);
            let said = self.knowledge.say(&event);
            self.tally.add(event.kind, said.verdict, 1);
            let describe = || {
                self.knowledge
                    .describe(&event, &said, &self.processes, &self.sequences)
            };
            let seen = Seen {
                bytes,
                said: &said,
                record: LazyCell::new(&describe),
            };
            self.sinks.each(|sink| sink.event(&seen));
            learn(&event, &said, &mut self.processes, &self.sequences);
        }
        self.batch = batch.after(settled);
        self.sinks.each(|sink| sink.end_batch());
        self.sinks.failure()
    }

    /// Says something of userspace's own, after everything that is settled.
    pub fn note(&mut self, note: &Note) -> Result<(), SinkError> {
        let pushed = self.end_batch();
        if let Note::Running(running) = note {
            self.processes.were(running);
        }
        self.sinks.record(&self.knowledge.note(note));
        self.sinks.each(|sink| sink.end_batch());
        pushed.and(self.sinks.failure())
    }

    /// So many events of the host were skipped since this collector was made, this sandbox's perhaps among them.
    pub fn skipped(&mut self, skipped: u64) {
        self.skipped = self.skipped_before + skipped;
    }

    /// What is running, as far as that is known.
    #[must_use]
    pub fn running(&self) -> Vec<Running> {
        self.processes.running(&self.sequences)
    }

    /// Says what was counted with earlier accesses since the last time. To be called from time to time with all counts of
    /// the kernel side.
    pub fn repeats(&mut self, counted: &[(Like, u64)]) -> Result<(), SinkError> {
        self.end_batch()?;
        let mut notes = Vec::new();
        let tally = &mut self.tally;
        self.repeats
            .new_ones(counted, &self.knowledge, |kind, count, repeat| {
                tally.add(kind, repeat.verdict, count);
                notes.push(Note::Repeat(repeat));
            });
        for note in &notes {
            self.sinks.record(&self.knowledge.note(note));
        }
        // One batch of them all: each is a frame of a log.
        self.sinks.each(|sink| sink.end_batch());
        self.sinks.failure()
    }

    /// Accesses like this are not counted any more.
    pub fn forget(&mut self, like: &Like) {
        self.repeats.forget(like);
    }

    /// Says what was lost since the last time, if anything was. To be called from time to time
    /// with the kernel side's counters.
    pub fn counters(&mut self, counters: &SlotCounters) -> Result<(), SinkError> {
        self.end_batch()?;
        let (told, told_undecodable, told_skipped) = self.told;
        let now = Dropped::of(counters);
        let lost = Lost {
            from_boot_ns: std::mem::replace(&mut self.looked, Clock::boot_ns()),
            dropped: now.since(&told),
            undecodable: self.undecodable - told_undecodable,
            skipped: self.skipped - told_skipped,
        };
        if lost.dropped.sum() == 0 && lost.undecodable == 0 && lost.skipped == 0 {
            return Ok(());
        }
        self.told = (now, self.undecodable, self.skipped);
        self.note(&Note::Lost(lost))
    }

    /// Ends the run. The rings must be drained, and `counters` read after the cgroup was empty.
    /// The second value is every sink that failed here and was not reported before.
    #[must_use]
    pub fn finish(mut self, counters: &SlotCounters, ending: Ending) -> (Summary, Vec<SinkError>) {
        let mut errors = Vec::new();
        self.settle(u64::MAX);
        errors.extend(self.counters(counters).err());
        let counts = Counts::new(self.tally, self.undecodable, self.repeats.sum(), counters);
        let accounting = Accounting {
            skipped: self.skipped,
            ..Accounting::new(&counts, counters, &self.sequences)
        };
        let end = Note::End(End {
            ending,
            counts,
            balanced: accounting.balanced,
        });
        errors.extend(self.note(&end).err());
        while let Err(error) = self.sinks.failure() {
            errors.push(error);
        }
        let mut summary = Summary {
            completed: self.knowledge.clock.time(Clock::boot_ns()),
            ending,
            counts,
            accounting,
            failed_sinks: self.sinks.failed.clone(),
        };
        self.sinks.each(|sink| sink.finish(&summary));
        while let Err(error) = self.sinks.failure() {
            errors.push(error);
        }
        summary.failed_sinks = self.sinks.failed;
        (summary, errors)
    }
}

/// What an event says of a process, after its own record was made.
pub(super) fn learn(
    event: &decode::Event<'_>,
    said: &Said<'_>,
    processes: &mut Processes,
    sequences: &Sequences,
) {
    let actor = &event.prefix.actor;
    match event.body {
        // Seen after the fact, a call that failed executed nothing.
        Body::Exec(path) if said.is_allowed() && path.body.result >= 0 => {
            let program = Executable {
                path: path.path.into(),
                source: Code::<PathSource>::path_source(path.body.source),
                since: actor.sequence,
            };
            processes.exec(actor.tgid, program, sequences);
        }
        Body::Fork(fork) => processes.fork(actor.tgid, fork.child, actor.sequence, sequences),
        Body::Exit(_) => processes.exit(actor.pid),
        _ => {}
    }
}

/// Bytes of events, one after the other, and where each is.
#[derive(Default)]
struct Batch {
    bytes: BytesMut,
    /// By sequence number.
    places: Vec<(u64, Range<usize>)>,
    /// The highest number that was ever pushed.
    pushed_to: u64,
}

impl Batch {
    fn push(&mut self, event: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(event);
        let number = EventPrefix::sequence_of(event);
        self.places.push((number, start..self.bytes.len()));
        self.pushed_to = self.pushed_to.max(number);
    }

    /// With its events in the order of their numbers.
    fn sorted(mut self) -> Self {
        self.places.sort_by_key(|(number, _)| *number);
        self
    }

    /// Of a sorted one, how many events come up to this number.
    fn up_to(&self, last: u64) -> usize {
        self.places.partition_point(|(number, _)| *number <= last)
    }

    fn events(&self) -> impl Iterator<Item = &[u8]> {
        let places = self.places.iter();
        places.filter_map(|(_, place)| self.bytes.get(place.clone()))
    }

    /// The same memory without the first so many.
    fn after(mut self, done: usize) -> Self {
        let mut rest = Self::default();
        self.events().skip(done).for_each(|event| rest.push(event));
        self.bytes.clear();
        self.bytes.extend_from_slice(&rest.bytes);
        self.places.clear();
        self.places.append(&mut rest.places);
        self
    }
}

/// The sinks that work, and the names of those that failed.
#[derive(Default)]
struct Sinks<'a> {
    working: Vec<(&'static str, Box<dyn Sink + 'a>)>,
    failed: Vec<String>,
    unreported: Vec<SinkError>,
}

impl Sinks<'_> {
    fn record(&mut self, record: &Record<'_>) {
        self.each(|sink| sink.record(record));
    }

    fn each(&mut self, mut call: impl FnMut(&mut dyn Sink) -> io::Result<()>) {
        self.working.retain_mut(|(name, sink)| {
            let Err(source) = call(sink.as_mut()) else {
                return true;
            };
            self.failed.push(format!("{name}: {source}"));
            self.unreported.push(SinkError { sink: name, source });
            false
        });
    }

    fn failure(&mut self) -> Result<(), SinkError> {
        match self.unreported.pop() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
