//! What every question of one run needs: the run, and its records.

use std::{
    fs::File,
    io::{self, BufReader, Read},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{
    audit::{
        json,
        store::{About, FrameError, Replay, ReplayError, Store, Stored},
        text::Escaped,
    },
    cli::exit,
};

/// The run that is meant: its name, that of its sandbox, or `last`, `last-1` and so on.
pub(super) fn find(store: &Store, meant: &str) -> anyhow::Result<String> {
    let (mut runs, _) = store.runs()?;
    let back = match meant.strip_prefix("last") {
        Some("") => Some(0),
        Some(back) => back.strip_prefix('-').and_then(|back| back.parse().ok()),
        None => None,
    };
    if let Some(back) = back {
        runs.reverse();
        return runs
            .into_iter()
            .nth(back)
            .context("there are not so many runs");
    }
    let end = format!("-{meant}");
    let mut found = runs
        .into_iter()
        .filter(|run| run == meant || run.ends_with(&end));
    match (found.next(), found.next()) {
        (Some(run), None) => Ok(run),
        (Some(_), Some(_)) => bail!(
            "{} is the end of several runs' names",
            Escaped(meant.as_bytes())
        ),
        _ => bail!(
            "{} is no run of {}: see `audit runs`",
            Escaped(meant.as_bytes()),
            store.path().display()
        ),
    }
}

/// Hands out every record of a run, in JSON as docs/events.md has it.
pub(super) fn each(
    store: &Store,
    run: &str,
    wanted: impl FnOnce(&About) -> bool,
    take: impl FnMut(&Value, &[u8]) -> io::Result<()>,
) -> Result<(), ReplayError> {
    let log = store.log(run).map_err(io::Error::other)?;
    // A frame may be half there just now.
    let is_written = store.is_written(&log).map_err(io::Error::other)?;
    let read = all(log, run, wanted, take);
    match read {
        Err(ReplayError::NoAbout | ReplayError::Frame(FrameError::Cut { .. })) if is_written => {
            Ok(())
        }
        read => read,
    }
}

fn all(
    log: File,
    run: &str,
    wanted: impl FnOnce(&About) -> bool,
    mut take: impl FnMut(&Value, &[u8]) -> io::Result<()>,
) -> Result<(), ReplayError> {
    // Not what is written meanwhile: it could be written faster than it is read.
    let length = log.metadata()?.len();
    let mut replay = Replay::open(BufReader::new(log.take(length)), run)?;
    if !wanted(replay.about()) {
        return Ok(());
    }
    let mut written = Vec::new();
    replay.each(|stored| {
        let line = match stored {
            Stored::Event(record) => {
                written.clear();
                json::write(&mut written, record)?;
                written.as_slice()
            }
            Stored::Note(line) => line,
        };
        take(&serde_json::from_slice(line)?, line)
    })
}

/// The exit code of a log that could not be read to its end, which is told; whoever takes the records may
/// fail with an error of its own.
pub(super) fn unread(run: &str, read: Result<(), ReplayError>) -> anyhow::Result<Option<u8>> {
    match read {
        Ok(()) => Ok(None),
        Err(ReplayError::Taker(error)) => Err(error.into()),
        Err(error) => {
            tracing::error!("runs/{}.log {error}", Escaped(run.as_bytes()));
            Ok(Some(exit::RECORD))
        }
    }
}
