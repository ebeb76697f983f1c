//! What every question needs: the runs of a store, and their records, in logs and in segments.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufReader, Read},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{
    audit::{
        field, json,
        query::Filter,
        segment::{RunPart, Segment, SegmentError},
        store::{About, FrameError, Replay, ReplayError, Store, StoreError, Stored},
        text::Escaped,
    },
    cli::exit,
};

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
        for name in store.segments()? {
            match store.segment(&name) {
                Ok(segment) => records.segments.push((name, segment)),
                Err(error) => records.unread(&error.to_string()),
            }
        }
        Ok(records)
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
        self.each(&Filter::default(), Some(run), &|_| true, |_, record, _| {
            take(record)
        })
    }

    /// Hands out the records that are asked for, of one run or of those that are wanted, with the name of their run and
    /// as they were written out: first those in segments, then those in logs, each as they were recorded.
    pub(super) fn each(
        &mut self,
        filter: &Filter,
        only: Option<&str>,
        wanted: &dyn Fn(&About) -> bool,
        mut take: impl FnMut(&str, &Value, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut unread, mut lost) = (Vec::new(), 0);
        let is_it = |run: &str| only.is_none_or(|only| only == run);
        let mut asked = |run: &str, line: &[u8], lost: Option<&mut u64>| {
            let record = serde_json::from_slice(line)?;
            if let Some(lost) = lost {
                *lost += field::lost(&record);
            }
            if filter.matches(&record) {
                take(run, &record, line)?;
            }
            Ok(())
        };
        for (name, segment) in &self.segments {
            let wanted = |part: &RunPart| {
                let run = part.about.run.as_str();
                is_it(run) && !self.logs.contains(run) && wanted(&part.about)
            };
            lost += segment
                .runs()
                .iter()
                .filter(|part| wanted(part))
                .map(|part| part.lost)
                .sum::<u64>();
            match segment.each(filter, &wanted, |found| asked(found.run, found.line, None)) {
                Ok(()) => {}
                Err(SegmentError::Taker(error)) => return Err(error),
                Err(error) => unread.push(format!("segments/{name}: {error}")),
            }
        }
        for run in self.logs.iter().filter(|run| is_it(run)) {
            match log(self.store, run, wanted, |line| {
                asked(run, line, Some(&mut lost))
            }) {
                Ok(()) => {}
                Err(ReplayError::Taker(error)) => return Err(error),
                Err(error) => unread.push(format!("runs/{run}.log {error}")),
            }
        }
        self.lost += lost;
        for what in &unread {
            self.unread(what);
        }
        Ok(())
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

/// What a run's log says of the run.
pub(super) fn about(store: &Store, run: &str) -> Result<About, ReplayError> {
    let log = store.log(run).map_err(io::Error::other)?;
    Ok(Replay::open(BufReader::new(log), run)?.about().clone())
}

/// Hands out the records of a log.
fn log(
    store: &Store,
    run: &str,
    wanted: &dyn Fn(&About) -> bool,
    take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), ReplayError> {
    let log = store.log(run).map_err(io::Error::other)?;
    // A frame may be half there just now.
    let is_written = store.is_written(&log).map_err(io::Error::other)?;
    match all(log, run, wanted, take) {
        Err(ReplayError::NoAbout | ReplayError::Frame(FrameError::Cut { .. })) if is_written => {
            Ok(())
        }
        read => read,
    }
}

fn all(
    log: File,
    run: &str,
    wanted: &dyn Fn(&About) -> bool,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), ReplayError> {
    // Not what is written meanwhile: it could be written faster than it is read.
    let length = log.metadata()?.len();
    let mut replay = Replay::open(BufReader::new(log.take(length)), run)?;
    if !wanted(replay.about()) {
        return Ok(());
    }
    let mut written = Vec::new();
    replay.each(|stored| match stored {
        Stored::Event(record) => {
            written.clear();
            json::write(&mut written, record)?;
            take(&written)
        }
        Stored::Note(line) => take(line),
    })
}
