//! Takes logs away that are too old or too many. The ledger says so first, and keeps what it says of them:
//! what is gone for another reason is still named.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, SystemTime},
};

use super::{
    StoreError, Writer,
    ledger::{self, What},
};

/// What is to stay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep {
    /// Logs that were last written less than this long ago.
    pub younger_than: Option<Duration>,
    /// The newest logs, as long as all of them have no more bytes.
    pub bytes: Option<u64>,
}

/// A log that was taken away, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The run.
    pub run: String,
    /// Bytes of the log.
    pub bytes: u64,
}

impl Writer {
    /// Takes away what is not to stay, or with `dry` says what that is. Logs that are still written stay.
    pub fn prune(&self, keep: Keep, dry: bool) -> Result<Vec<Pruned>, StoreError> {
        let store = self.store();
        let now = SystemTime::now();
        // The newest first: these are counted.
        let (mut runs, _) = store.runs()?;
        runs.reverse();
        let (mut bytes, mut pruned) = (0_u64, Vec::new());
        for run in runs {
            let log = store.log(&run)?;
            let status = log.metadata().map_err(store.failed("look at a log"))?;
            bytes = bytes.saturating_add(status.len());
            let age = status
                .modified()
                .ok()
                .and_then(|written| now.duration_since(written).ok());
            let is_old = keep
                .younger_than
                .is_some_and(|least| age.is_some_and(|age| age >= least));
            let is_too_much = keep.bytes.is_some_and(|most| bytes > most);
            if (is_old || is_too_much) && !store.is_written(&log)? {
                pruned.push(Pruned {
                    run,
                    bytes: status.len(),
                });
            }
        }
        pruned.reverse();
        if dry || pruned.is_empty() {
            return Ok(pruned);
        }
        let (statements, _) = ledger::read(&store.ledger()?, &store.key()?);
        let last: BTreeMap<&str, &What> = statements
            .iter()
            .map(|statement| (statement.run.as_str(), &statement.what))
            .collect();
        for Pruned { run, .. } in &pruned {
            let failed = |source: io::Error| store.failed("take a log away")(source);
            // Said before, if the last time was interrupted.
            if last.get(run.as_str()) != Some(&&What::Removed) {
                let time = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
                self.state(run, time, What::Removed).map_err(failed)?;
            }
            self.remove(run).map_err(failed)?;
        }
        Ok(pruned)
    }
}
