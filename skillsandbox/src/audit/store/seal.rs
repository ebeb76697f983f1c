//! Turns the logs of runs that are over into segments: smaller, and faster to ask. A log goes when the
//! ledger says where its records are, and not before.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{self, BufReader},
};

use super::{
    FrameError, Report, Store, StoreError, Stored, Writer,
    frame::Frames,
    hex::Hex,
    ledger::{self, SealedRun, SealedSegment, Statement, What},
    segments::{SUFFIX, Sealer, UNFINISHED},
    verify::one,
};
use crate::audit::{
    clock::Time,
    field,
    segment::{RunPart, SegmentError, SegmentWriter},
};

/// Records of a segment; the next one begins with the next record.
const SEGMENT_ROWS: u64 = 1 << 20;
/// Runs that are sealed together: their names must have room in a line of the ledger.
const GROUP_RUNS: usize = 100;
/// Segments that one run may have, for the same reason.
const GROUP_SEGMENTS: usize = 4096;
/// Nanoseconds of a day.
const DAY: u64 = 24 * 60 * 60 * 1_000_000_000;

/// Logs of runs that are over which are not left to lie: so many bytes, or so many.
const WAITING_BYTES: u64 = 64 << 20;
const WAITING_RUNS: usize = 100;

/// What was sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Runs whose logs are segments now.
    pub runs: usize,
    /// Records of them.
    pub rows: u64,
    /// Bytes of the logs that went.
    pub bytes_before: u64,
    /// Segments that came.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Runs whose logs stay, and why.
    pub left: Vec<(String, String)>,
}

impl Store {
    /// Whether enough logs of runs that are over have come together to seal them.
    pub fn should_be_sealed(&self) -> Result<bool, StoreError> {
        let (mut bytes, mut runs) = (0_u64, 0);
        for run in self.runs()?.0 {
            let log = self.log(&run)?;
            if !self.is_written(&log)? {
                let status = log.metadata().map_err(self.failed("look at a log"))?;
                bytes = bytes.saturating_add(status.len());
                runs += 1;
            }
        }
        Ok((bytes >= WAITING_BYTES || runs >= WAITING_RUNS) && !self.is_sealed_now()?)
    }
}

impl Writer {
    /// Seals the logs of all runs that are over, and finishes what an interrupted sealing has left; says how many
    /// records it has come to. `None` while somebody else does. A log that is not as it was written stays as it is.
    pub fn seal(&self, mut progress: impl FnMut(u64)) -> Result<Option<Sealed>, StoreError> {
        let store = self.store();
        let Some(sealer) = Sealer::begin(self).map_err(store.cannot("make segments"))? else {
            return Ok(None);
        };
        let (statements, wrong) = ledger::read(&store.ledger()?, &store.key()?);
        if !wrong.is_empty() {
            return Err(store.failed("make segments")(io::Error::other(
                "the ledger is not as it was written: see `audit verify`",
            )));
        }
        let stated = Stated::of(&statements);
        sealer.clean(&stated)?;
        let mut done = Sealed::default();
        let mut runs: VecDeque<String> = store.runs()?.0.into();
        let mut group = Group::new(&sealer);
        while let Some(run) = runs.pop_front() {
            let end = match stated.ends.get(run.as_str()) {
                _ if store.is_written(&store.log(&run)?)? => continue,
                Some(end @ (What::End { .. } | What::Killed { .. })) => (*end).clone(),
                Some(What::Begin) => match self.end(&run)? {
                    Ok(Some(end)) => end,
                    Ok(None) => continue,
                    Err(why) => {
                        done.left.push((run, why));
                        continue;
                    }
                },
                _ => continue,
            };
            if let Err(why) = group.add(&run, &end)? {
                // The others of its group have rows in the same files: once more, without it.
                done.left.push((run, why));
                for earlier in group.runs.into_iter().rev() {
                    runs.push_front(earlier.run);
                }
                sealer.clean(&Stated::of(
                    &ledger::read(&store.ledger()?, &store.key()?).0,
                ))?;
                group = Group::new(&sealer);
                continue;
            }
            if group.rows >= SEGMENT_ROWS || group.runs.len() >= GROUP_RUNS {
                group.commit(&mut done)?;
                group = Group::new(&sealer);
            }
            progress(done.rows + group.rows);
        }
        group.commit(&mut done)?;
        Ok(Some(done))
    }
}

impl Writer {
    /// Says in the ledger where the log of a run ends that nobody writes any more, or why nobody can say that. `None` for
    /// a log that has nothing: it goes.
    fn end(&self, run: &str) -> Result<Result<Option<What>, String>, StoreError> {
        let store = self.store();
        // Who ended since the ledger was read has said so before the log was free.
        let (statements, _) = ledger::read(&store.ledger()?, &store.key()?);
        let said = statements.iter().rfind(|statement| statement.run == run);
        if let Some(end @ What::End { .. }) = said.map(|statement| &statement.what) {
            return Ok(Ok(Some(end.clone())));
        }
        if store.may_go_on(run)? {
            return Ok(Ok(None));
        }
        let mut frames = Frames::new(BufReader::new(store.log(run)?), run);
        loop {
            match frames.next() {
                Ok(Some(_)) => {}
                Ok(None) | Err(FrameError::Cut { .. }) => break,
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
        let failed = store.failed("say in the ledger that a recorder was killed");
        if frames.chain().frames() == 0 {
            self.state_now(run, What::Removed).map_err(&failed)?;
            self.remove(run).map_err(failed)?;
            return Ok(Ok(None));
        }
        let killed = What::killed(frames.chain());
        self.state_now(run, killed.clone()).map_err(failed)?;
        Ok(Ok(Some(killed)))
    }
}

/// What the ledger says of runs and segments.
pub(super) struct Stated<'s> {
    /// The last that is said of each run which has no segment.
    pub(super) ends: BTreeMap<&'s str, &'s What>,
    /// Runs in segments, with their records.
    pub(super) sealed: BTreeMap<&'s str, u64>,
    /// Segments that should be there.
    pub(super) segments: BTreeMap<&'s str, &'s SealedSegment>,
    /// Those that were taken away.
    pub(super) removed: BTreeSet<&'s str>,
}

impl<'s> Stated<'s> {
    pub(super) fn of(statements: &'s [Statement]) -> Self {
        let mut stated = Self {
            ends: BTreeMap::new(),
            sealed: BTreeMap::new(),
            segments: BTreeMap::new(),
            removed: BTreeSet::new(),
        };
        for statement in statements {
            match &statement.what {
                What::Sealed { runs, segments } => {
                    for SealedRun { run, rows } in runs {
                        stated.ends.remove(run.as_str());
                        stated.sealed.insert(run, *rows);
                    }
                    for segment in segments {
                        stated.segments.insert(&segment.file, segment);
                    }
                }
                What::SegmentRemoved { file } => {
                    stated.segments.remove(file.as_str());
                    stated.removed.insert(file);
                }
                What::Shipped { .. } | What::Refused(_) => {}
                what => {
                    stated.ends.insert(&statement.run, what);
                }
            }
        }
        stated
    }
}

impl Sealer<'_> {
    /// Takes away what a sealing that was interrupted has left: files that were not written to their end or that
    /// the ledger was not told of, and logs whose records are in segments. Anything else stays: it may be the only
    /// place where its records are.
    fn clean(&self, stated: &Stated<'_>) -> Result<(), StoreError> {
        let store = self.writer().store();
        let logs = store.runs()?.0;
        let files = store.segment_files();
        for name in files.map_err(store.cannot("list the segments"))? {
            let is_left = || {
                let segment = store.segment(&name);
                let has_log = |part: &RunPart| logs.binary_search(&part.about.run).is_ok();
                segment.is_ok_and(|segment| segment.runs().iter().all(has_log))
            };
            if !stated.segments.contains_key(name.as_str())
                && (name.ends_with(UNFINISHED) || name.ends_with(SUFFIX) && is_left())
            {
                self.remove(&name)
                    .map_err(store.cannot("take an unfinished segment away"))?;
            }
        }
        for run in logs {
            if stated.sealed.contains_key(run.as_str()) {
                let removed = self.writer().remove(&run);
                removed.map_err(store.failed("take away a log that is sealed"))?;
            }
        }
        Ok(())
    }
}

/// Runs that are sealed together.
struct Group<'s, 'w> {
    sealer: &'s Sealer<'w>,
    runs: Vec<SealedRun>,
    bytes_before: u64,
    rows: u64,
    /// The segments that are written, by the number of their day since 1970.
    open: BTreeMap<u64, (String, SegmentWriter)>,
    names: usize,
    done: Vec<SealedSegment>,
    bytes: u64,
}

impl<'s, 'w> Group<'s, 'w> {
    fn new(sealer: &'s Sealer<'w>) -> Self {
        Self {
            sealer,
            runs: Vec::new(),
            bytes_before: 0,
            rows: 0,
            open: BTreeMap::new(),
            names: 0,
            done: Vec::new(),
            bytes: 0,
        }
    }

    fn store(&self) -> &'w Store {
        self.sealer.writer().store()
    }

    /// Adds all records of a run, or says why they are not to be sealed. Then some of them may have been added.
    fn add(&mut self, run: &str, end: &What) -> Result<Result<(), String>, StoreError> {
        let store = self.store();
        let log = store.log(run)?.metadata();
        let length = log.map_err(store.failed("look at a log"))?.len();
        let mut report = Report::default();
        one(
            store,
            run,
            Some(end),
            false,
            &mut report,
            |about, stored| {
                let time = match &stored {
                    Stored::Event(record) => record.time,
                    Stored::Note(line) => about.clock().time(since_boot(line)?),
                };
                let writer = self.writer(time, run).map_err(io::Error::other)?;
                let added = match stored {
                    Stored::Event(record) => writer.event(about, record),
                    Stored::Note(line) => writer.note(about, line),
                };
                added.map_err(io::Error::other)
            },
        )?;
        if let Some(trouble) = report.troubles.pop() {
            return Ok(Err(trouble.what));
        }
        self.rows += report.records;
        self.bytes_before += length;
        self.runs.push(SealedRun {
            run: run.to_owned(),
            rows: report.records,
        });
        Ok(Ok(()))
    }

    /// The segment that a record of this time has its place in.
    fn writer(&mut self, time: Time, run: &str) -> Result<&mut SegmentWriter, StoreError> {
        let day = time.unix_ns() / DAY;
        let full = |(_, writer): &(String, SegmentWriter)| writer.rows() >= SEGMENT_ROWS;
        if self.open.get(&day).is_some_and(full)
            && let Some((name, writer)) = self.open.remove(&day)
        {
            self.finish(name, writer)?;
        }
        if !self.open.contains_key(&day) {
            let date = time.to_string();
            let date = date.get(..10).unwrap_or(&date);
            let store = self.store();
            if self.names == GROUP_SEGMENTS {
                return Err(store.failed("make a segment")(io::Error::other(
                    "the run has more records than can be sealed",
                )));
            }
            let name = format!("date={date}/{run}.{:03}.parquet", self.names);
            self.names += 1;
            let created = self.sealer.create(&name);
            let file = created.map_err(store.cannot("make a segment"))?;
            let writer = SegmentWriter::new(file).map_err(segment(store))?;
            self.open.insert(day, (name, writer));
        }
        let open = self.open.get_mut(&day).map(|(_, writer)| writer);
        open.ok_or_else(|| {
            self.sealer.writer().store().failed("make a segment")(io::Error::other(
                "it is not there",
            ))
        })
    }

    fn finish(&mut self, name: String, writer: SegmentWriter) -> Result<(), StoreError> {
        let store = self.store();
        let written = writer.finish().map_err(segment(store))?;
        let status = written.file.metadata();
        self.bytes += status.map_err(store.failed("look at a segment"))?.len();
        self.done.push(SealedSegment {
            file: name,
            rows: written.rows,
            hash: Hex(&written.hash).to_string(),
        });
        Ok(())
    }

    /// Says in the ledger that the segments are these runs, and takes the logs away.
    fn commit(mut self, sealed: &mut Sealed) -> Result<(), StoreError> {
        if self.runs.is_empty() {
            return Ok(());
        }
        let store = self.store();
        while let Some((_, (name, writer))) = self.open.pop_first() {
            self.finish(name, writer)?;
        }
        for segment in &self.done {
            let published = self.sealer.publish(&segment.file);
            published.map_err(store.cannot("give a segment its name"))?;
        }
        sealed.runs += self.runs.len();
        sealed.rows += self.rows;
        sealed.bytes_before += self.bytes_before;
        sealed.segments += self.done.len();
        sealed.bytes += self.bytes;
        let names: Vec<String> = self.runs.iter().map(|run| run.run.clone()).collect();
        let what = What::Sealed {
            runs: self.runs,
            segments: self.done,
        };
        let writer = self.sealer.writer();
        writer
            .state_now("", what)
            .map_err(store.failed("say in the ledger what is sealed"))?;
        for run in names {
            let removed = writer.remove(&run);
            removed.map_err(store.failed("take away a log that is sealed"))?;
        }
        Ok(())
    }
}

fn segment(store: &Store) -> impl Fn(SegmentError) -> StoreError {
    let path = store.path().to_owned();
    move |source| StoreError::Segment {
        path: path.clone(),
        source,
    }
}

/// Nanoseconds since boot of a record of userspace's own.
fn since_boot(line: &[u8]) -> io::Result<u64> {
    let note = serde_json::from_slice(line)?;
    field::number(&note, "/boot_ns").ok_or_else(|| io::Error::other("a record has no time"))
}
