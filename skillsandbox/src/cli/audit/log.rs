//! The records of a run that is not sealed.

use std::{
    fs::File,
    io::{self, BufReader, Read},
};

use crate::audit::{
    json,
    query::Filter,
    store::{About, FrameError, Replay, ReplayError, Store, Stored},
};

/// What a run's log says of the run.
pub(super) fn about(store: &Store, run: &str) -> Result<About, ReplayError> {
    let log = store.log(run).map_err(io::Error::other)?;
    Ok(Replay::open(BufReader::new(log), run)?.about().clone())
}

/// Hands out the records of a log, up to so many bytes, but for events that cannot be what is asked for.
pub(super) fn log(
    store: &Store,
    log: File,
    run: &str,
    most: u64,
    wanted: &dyn Fn(&About) -> bool,
    filter: &Filter,
    take: impl FnMut(&About, &[u8]) -> io::Result<()>,
) -> Result<(), ReplayError> {
    // A frame may be half there just now.
    let is_written = store.is_written(&log).map_err(io::Error::other)?;
    match all(log, run, most, wanted, filter, take) {
        Err(
            ReplayError::Empty | ReplayError::NoAbout | ReplayError::Frame(FrameError::Cut { .. }),
        ) if is_written || most < u64::MAX => Ok(()),
        read => read,
    }
}

fn all(
    log: File,
    run: &str,
    most: u64,
    wanted: &dyn Fn(&About) -> bool,
    filter: &Filter,
    mut take: impl FnMut(&About, &[u8]) -> io::Result<()>,
) -> Result<(), ReplayError> {
    // Not what is written meanwhile: it could be written faster than it is read.
    let length = log.metadata()?.len().min(most);
    let mut replay = Replay::open(BufReader::new(log.take(length)), run)?;
    if !wanted(replay.about()) {
        return Ok(());
    }
    let mut written = Vec::new();
    let about = replay.about().clone();
    replay.each(|stored| match stored {
        Stored::Event(record) if !filter.may_match(record) => Ok(()),
        Stored::Event(record) => {
            written.clear();
            json::write(&mut written, record)?;
            take(&about, &written)
        }
        Stored::Note(line) => take(&about, line),
    })
}
