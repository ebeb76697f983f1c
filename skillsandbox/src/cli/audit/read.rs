//! What every question needs: the runs of a store, and their records, in logs and in segments.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    num::NonZero,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use anyhow::{Context, bail};
use serde_json::Value;

use super::{batch::Batch, in_order::in_order, log::log};
use crate::{
    audit::{
        field,
        query::{Filter, List, Stats},
        segment::{RunPart, Segment},
        store::{About, ReplayError, Store, StoreError},
        text::Escaped,
    },
    cli::exit,
};

/// Takes a record, with what is known of its run and as it was written out.
pub(super) type Take<'t> = dyn FnMut(&About, &Value, &[u8]) -> io::Result<()> + 't;

/// Which records are asked for.
pub(super) struct Which<'a> {
    /// Those for which this holds …
    pub(super) filter: &'a Filter,
    /// … of this run, if it is one, …
    pub(super) run: Option<&'a str>,
    /// … and of runs for which this does.
    pub(super) wanted: &'a (dyn Fn(&About) -> bool + Sync),
    /// How much is read of the logs of these runs; of others nothing. `None` for all that there is.
    pub(super) lengths: Option<&'a BTreeMap<String, u64>>,
}

/// Segments that are looked at together.
const SEARCHED: usize = 32;
/// Rows of a segment that one processor looks at while another looks at the next.
const PIECE: usize = 512 * 1024;
/// Bytes of lines that are handed over together.
const BATCH_BYTES: usize = 256 * 1024;

/// The records of a store, as they are just now.
pub(super) struct Records<'s> {
    store: &'s Store,
    logs: BTreeSet<String>,
    segments: Vec<(String, Segment)>,
    unread: Option<u8>,
    lost: u64,
}

impl<'s> Records<'s> {
    /// Looks at what there is, and says what cannot be read.
    pub(super) fn of(store: &'s Store) -> Result<Self, StoreError> {
        // First the logs: one that is sealed meanwhile is in a segment then.
        let logs = store.runs()?.0.into_iter().collect();
        let mut records = Self {
            store,
            logs,
            segments: Vec::new(),
            unread: None,
            lost: 0,
        };
        records.open(&store.segments()?)?;
        Ok(records)
    }

    /// Adds segments, and says which cannot be read.
    fn open(&mut self, names: &[String]) -> Result<(), StoreError> {
        let store = self.store;
        let open = |name: &String, tell: &mut dyn FnMut(_) -> io::Result<()>| {
            let _gone = tell(store.segment(name));
        };
        let opened = in_order(names, open, |name, segment| {
            match segment {
                Ok(segment) => self.segments.push((name.clone(), segment)),
                Err(error) => self.unread(&error.to_string()),
            }
            Ok(())
        });
        opened.map_err(store.failed("read the segments"))
    }

    /// The runs whose records were taken from logs.
    pub(super) fn not_sealed(&self) -> &BTreeSet<String> {
        &self.logs
    }

    /// The runs: those in segments, and those with a log, of which `None` says nothing yet. In the order in
    /// which they began.
    pub(super) fn runs(&self) -> BTreeMap<&str, Option<&About>> {
        let sealed = self.segments.iter().flat_map(|(_, segment)| segment.runs());
        let sealed = sealed.map(|part| (part.about.run.as_str(), Some(&part.about)));
        // A log counts before what is sealed of it.
        sealed
            .chain(self.logs.iter().map(|run| (run.as_str(), None)))
            .collect()
    }

    /// The run that is meant: its name, that of its sandbox, or `last`, `last-1` and so on.
    pub(super) fn find(&self, meant: &str) -> anyhow::Result<String> {
        let runs = self.runs();
        let back = match meant.strip_prefix("last") {
            Some("") => Some(0),
            Some(back) => back.strip_prefix('-').and_then(|back| back.parse().ok()),
            None => None,
        };
        if let Some(back) = back {
            let run = runs.keys().rev().nth(back);
            return Ok((*run.context("there are not so many runs")?).to_owned());
        }
        let end = format!("-{meant}");
        let mut found = runs
            .keys()
            .filter(|run| **run == meant || run.ends_with(&end));
        match (found.next(), found.next()) {
            (Some(run), None) => Ok((*run).to_owned()),
            (Some(_), Some(_)) => bail!(
                "{} is the end of several runs' names",
                Escaped(meant.as_bytes())
            ),
            _ => bail!(
                "{} is no run of {}: see `audit runs`",
                Escaped(meant.as_bytes()),
                self.store.path().display()
            ),
        }
    }

    /// Hands out every record of a run, in JSON as docs/events.md has it.
    pub(super) fn each_of(
        &mut self,
        run: &str,
        mut take: impl FnMut(&Value) -> io::Result<()>,
    ) -> io::Result<()> {
        let which = Which {
            filter: &Filter::default(),
            run: Some(run),
            wanted: &|_| true,
            lengths: None,
        };
        self.each(&which, &mut |_, record, _| take(record))
    }

    /// Hands out the records that are asked for, of one run or of those that are wanted, with what is known of their run and
    /// as they were written out: first those in segments, then those in logs, each as they were recorded.
    pub(super) fn each(&mut self, which: &Which<'_>, take: &mut Take<'_>) -> io::Result<()> {
        let all: Vec<usize> = (0..self.segments.len()).collect();
        self.segments(&all, which, take)?;
        self.logs(which, take)
    }

    /// Counts the records that are asked for: of segments without making records, and on all processors.
    pub(super) fn tally(&mut self, which: &Which<'_>, lists: &[List]) -> io::Result<Stats> {
        let next = AtomicUsize::new(0);
        let work = || {
            let (mut stats, mut left) = (Stats::of(lists.to_vec()), Vec::new());
            loop {
                let at = next.fetch_add(1, Relaxed);
                let Some((_, segment)) = self.segments.get(at) else {
                    return (stats, left);
                };
                let is_it = |part: &RunPart| self.is_in_segment(part, which);
                match segment.tally(which.filter, &is_it, &mut stats) {
                    Ok(true) => {}
                    Ok(false) => left.push((at, None)),
                    Err(error) => left.push((at, Some(error))),
                }
            }
        };
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        let done: Vec<_> = thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let joined = workers.into_iter().map(thread::ScopedJoinHandle::join);
            joined
                .map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        let mut stats = Stats::of(lists.to_vec());
        let mut left = BTreeMap::new();
        for (counted, not_counted) in done {
            stats.merge(counted);
            left.extend(not_counted);
        }
        let mut add = |_: &About, record: &Value, _: &[u8]| {
            stats.add(record);
            Ok(())
        };
        for at in 0..self.segments.len() {
            match left.remove(&at) {
                // Columns alone do not say which records these are.
                Some(None) => self.segments(&[at], which, &mut add)?,
                counted => {
                    if let Some((name, segment)) = self.segments.get(at) {
                        self.lost += self.lost_in(segment, which);
                        let unread = counted.flatten();
                        let unread = unread.map(|error| format!("segments/{name}: {error}"));
                        unread.inspect(|unread| self.unread(unread));
                    }
                }
            }
        }
        self.logs(which, &mut add)?;
        Ok(stats)
    }

    /// Whether a run that is asked for is to be taken from a segment.
    fn is_in_segment(&self, part: &RunPart, which: &Which<'_>) -> bool {
        let run = part.about.run.as_str();
        which.run.is_none_or(|only| only == run)
            && !self.logs.contains(run)
            && (which.wanted)(&part.about)
    }

    fn lost_in(&self, segment: &Segment, which: &Which<'_>) -> u64 {
        let parts = segment.runs().iter();
        let asked = parts.filter(|part| self.is_in_segment(part, which));
        asked.map(|part| part.lost).sum()
    }

    /// Hands out the records of these segments that are asked for, in order. They are looked for on all processors.
    fn segments(
        &mut self,
        all: &[usize],
        which: &Which<'_>,
        take: &mut Take<'_>,
    ) -> io::Result<()> {
        for some in all.chunks(SEARCHED) {
            let mut unread = Vec::new();
            self.some_segments(some, which, take, &mut unread)?;
            for what in unread {
                self.unread(&what);
            }
        }
        Ok(())
    }

    fn some_segments(
        &mut self,
        some: &[usize],
        which: &Which<'_>,
        take: &mut Take<'_>,
        unread: &mut Vec<String>,
    ) -> io::Result<()> {
        let mut cannot = |name: &str, error| unread.push(format!("segments/{name}: {error}"));
        let (mut searches, mut lost) = (Vec::new(), 0);
        let some: Vec<_> = some
            .iter()
            .filter_map(|at| self.segments.get(*at))
            .collect();
        in_order(
            &some,
            |(_, segment), tell| {
                let is_it = |part: &RunPart| self.is_in_segment(part, which);
                let _gone = tell(segment.search(which.filter, &is_it, PIECE));
            },
            |(name, segment), search| {
                lost += self.lost_in(segment, which);
                match search {
                    Ok(search) => searches.extend(search.map(|search| (name, segment, search))),
                    Err(error) => cannot(name, error),
                }
                Ok(())
            },
        )?;
        let pieces: Vec<_> = searches
            .iter()
            .flat_map(|search| (0..search.2.pieces()).map(move |piece| (search, piece)))
            .collect();
        in_order(
            &pieces,
            |((_, _, search), piece), tell| {
                let mut batch = Batch::default();
                let read = search.each(*piece, |found| {
                    let record = serde_json::from_slice(found.line)?;
                    if which.filter.matches(&record) {
                        batch.push(found, record);
                    }
                    if batch.lines.len() >= BATCH_BYTES {
                        tell(Ok(std::mem::take(&mut batch)))?;
                    }
                    Ok(())
                });
                // Who is gone needs no answer.
                let _gone = tell(Ok(batch)).and_then(|()| match read {
                    Ok(()) => Ok(()),
                    Err(error) => tell(Err(error)),
                });
            },
            |((name, segment, _), _), told| match told {
                Ok(batch) => batch.each(segment.runs(), take),
                Err(error) => {
                    cannot(name, error);
                    Ok(())
                }
            },
        )?;
        self.lost += lost;
        Ok(())
    }

    fn logs(&mut self, which: &Which<'_>, take: &mut Take<'_>) -> io::Result<()> {
        let (mut unread, mut gone) = (Vec::new(), Vec::new());
        for run in &self.logs {
            if which.run.is_some_and(|only| only != run) {
                continue;
            }
            let most = match which.lengths {
                None => u64::MAX,
                Some(lengths) => lengths.get(run).copied().unwrap_or_default(),
            };
            let opened = match self.store.log(run) {
                Ok(opened) => opened,
                Err(StoreError::System { source, .. })
                    if source.kind() == io::ErrorKind::NotFound =>
                {
                    gone.push(run.clone());
                    continue;
                }
                Err(error) => {
                    unread.push(error.to_string());
                    continue;
                }
            };
            let read = log(
                self.store,
                opened,
                run,
                most,
                which.wanted,
                which.filter,
                |about, line| {
                    let record = serde_json::from_slice(line)?;
                    self.lost += field::lost(&record);
                    if which.filter.matches(&record) {
                        take(about, &record, line)?;
                    }
                    Ok(())
                },
            );
            match read {
                Ok(()) => {}
                Err(ReplayError::Taker(error)) => return Err(error),
                Err(error) => unread.push(format!("runs/{run}.log {error}")),
            }
        }
        for what in &unread {
            self.unread(what);
        }
        if gone.is_empty() {
            return Ok(());
        }
        self.sealed_meanwhile(&gone, which, take)
    }

    /// Takes runs from segments whose logs were there when we looked first.
    fn sealed_meanwhile(
        &mut self,
        gone: &[String],
        which: &Which<'_>,
        take: &mut Take<'_>,
    ) -> io::Result<()> {
        for run in gone {
            self.logs.remove(run);
        }
        let known = self.segments.len();
        let mut new = self.store.segments().map_err(io::Error::other)?;
        new.retain(|name| self.segments.iter().all(|(known, _)| known != name));
        self.open(&new).map_err(io::Error::other)?;
        let new: Vec<usize> = (known..self.segments.len()).collect();
        self.segments(&new, which, take)
    }

    /// Says what could not be read.
    pub(super) fn unread(&mut self, what: &str) {
        tracing::error!("{}", Escaped(what.as_bytes()));
        self.unread = Some(exit::RECORD);
    }

    /// The exit code of what could not be read.
    pub(super) fn code(&self) -> Option<u8> {
        self.unread
    }

    /// Says whether anything was lost when these records were made.
    pub(super) fn warn_of_losses(&self) {
        if self.lost > 0 {
            tracing::warn!(
                "{} events of these runs were lost when they were recorded: see `audit query --kind lost`",
                self.lost
            );
        }
    }
}
