//! Takes logs and segments away that are too old or too many. The ledger says so first, and keeps what it says of
//! them: what is gone for another reason is still named.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, SystemTime},
};

use super::{
    Store, StoreError, Writer,
    ledger::{self, What},
    seal::Stated,
    segments::Sealer,
};

/// What is to stay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep {
    /// Files that were last written less than this long ago.
    pub younger_than: Option<Duration>,
    /// The newest files, as long as all of them have no more bytes.
    pub bytes: Option<u64>,
}

/// A log or segment that was taken away, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Which.
    pub file: Kept,
    /// Its bytes.
    pub bytes: u64,
}

/// A file of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The log of this run.
    Log(String),
    /// The segment of this name.
    Segment(String),
}

impl Kept {
    /// Orders files by when the first run of each began, which is what its name begins with.
    fn began(&self) -> &str {
        match self {
            Self::Log(run) => run,
            Self::Segment(name) => name.split_once('/').map_or(name.as_str(), |(_, file)| file),
        }
    }
}

impl std::fmt::Display for Kept {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Log(run) => write!(out, "runs/{run}.log"),
            Self::Segment(name) => write!(out, "segments/{name}"),
        }
    }
}

/// What is looked at of a file.
struct Candidate {
    file: Kept,
    bytes: u64,
    /// When it was last written.
    written: SystemTime,
    is_written: bool,
}

impl Store {
    /// Logs and segments, the newest first.
    fn candidates(&self) -> Result<Vec<Candidate>, StoreError> {
        let mut all = Vec::new();
        let failed = self.failed("look at a file");
        let (statements, _) = ledger::read(&self.ledger()?, &self.key()?);
        let ends = Stated::of(&statements).ends;
        let has_no_end = |run: &str| matches!(ends.get(run), None | Some(What::Begin));
        let logs = self.runs()?.0.into_iter().map(Kept::Log);
        for file in logs.chain(self.segments()?.into_iter().map(Kept::Segment)) {
            let (opened, is_written) = match &file {
                Kept::Log(run) => {
                    let log = self.log(run)?;
                    let goes_on = has_no_end(run) && self.may_go_on(run)?;
                    let is_written = goes_on || self.is_written(&log)?;
                    (log, is_written)
                }
                Kept::Segment(name) => (self.segment_file(name)?, false),
            };
            let status = opened.metadata().map_err(&failed)?;
            all.push(Candidate {
                file,
                bytes: status.len(),
                written: status.modified().map_err(&failed)?,
                is_written,
            });
        }
        all.sort_by(|one, other| other.file.began().cmp(one.file.began()));
        Ok(all)
    }
}

impl Writer {
    /// Takes away what is not to stay, or with `dry` says what that is, the oldest first. Logs that are still
    /// written stay.
    pub fn prune(&self, keep: Keep, dry: bool) -> Result<Vec<Pruned>, StoreError> {
        let store = self.store();
        let now = SystemTime::now();
        let (mut bytes, mut pruned) = (0_u64, Vec::new());
        for one in store.candidates()? {
            bytes = bytes.saturating_add(one.bytes);
            let age = now.duration_since(one.written).unwrap_or_default();
            let is_old = keep.younger_than.is_some_and(|least| age >= least);
            let is_too_much = keep.bytes.is_some_and(|most| bytes > most);
            if (is_old || is_too_much) && !one.is_written {
                pruned.push(Pruned {
                    file: one.file,
                    bytes: one.bytes,
                });
            }
        }
        pruned.reverse();
        if dry || pruned.is_empty() {
            return Ok(pruned);
        }
        // Nobody seals meanwhile what goes.
        let Some(sealer) = Sealer::begin(self).map_err(store.cannot("take files away"))? else {
            return Err(store.failed("take files away")(io::Error::other(
                "somebody seals this store just now: try again when that is done",
            )));
        };
        let (statements, _) = ledger::read(&store.ledger()?, &store.key()?);
        let last: BTreeMap<&str, &What> = statements
            .iter()
            .map(|statement| (statement.run.as_str(), &statement.what))
            .collect();
        for Pruned { file, .. } in &pruned {
            let failed = |source: io::Error| store.failed("take a file away")(source);
            match file {
                Kept::Log(run) => {
                    // Said before, if the last time was interrupted.
                    if last.get(run.as_str()) != Some(&&What::Removed) {
                        self.state_now(run, What::Removed).map_err(failed)?;
                    }
                    self.remove(run).map_err(failed)?;
                }
                Kept::Segment(name) => {
                    let what = What::SegmentRemoved { file: name.clone() };
                    self.state_now("", what).map_err(failed)?;
                    sealer
                        .remove(name)
                        .map_err(store.cannot("take a segment away"))?;
                }
            }
        }
        Ok(pruned)
    }
}
