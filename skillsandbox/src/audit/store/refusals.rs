//! Who asked for a run and was refused: no run, and so no log, only a line of the ledger.

use std::io;

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError, Writer,
    ledger::{self, What},
};

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Who asked: the process, its user and group, as the kernel told of whoever connected.
    pub pid: u32,
    /// See `pid`.
    pub uid: u32,
    /// See `pid`.
    pub gid: u32,
    /// Why. Parts of it may be of the caller's choice.
    pub why: String,
}

impl Writer {
    /// Says in the ledger that a request was refused.
    pub fn refuse(&self, refusal: Refusal) -> io::Result<()> {
        self.state_now("", What::Refused(refusal))
    }
}

impl Store {
    /// The requests that were refused, each with when (RFC 3339), the oldest first, and how many lines of the ledger are not as
    /// they were written.
    pub fn refusals(&self) -> Result<(Vec<(String, Refusal)>, usize), StoreError> {
        let (statements, wrong) = ledger::read(&self.ledger()?, &self.key()?);
        let refused = statements.into_iter().filter_map(|statement| {
            let What::Refused(refusal) = statement.what else {
                return None;
            };
            Some((statement.time, refusal))
        });
        Ok((refused.collect(), wrong.len()))
    }
}
