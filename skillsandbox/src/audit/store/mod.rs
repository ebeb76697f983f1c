//! Records that are kept: a folder with a log for each run and a ledger of all runs.
//!
//! | path | what |
//! | --- | --- |
//! | `runs/RUN.log` | [`frame`]s of [`entry`]s: everything that was recorded of one run, in order |
//! | `segments/date=DAY/RUN.N.parquet` | [`segment`](super::segment)s: the same of runs that are over, from this run on |
//! | `ledger` | [`ledger`]: a signed line for each beginning and end of a run |
//! | `key`, `key.pub` | [`key`]: this host's key, which signs the ledger's lines |
//!
//! [`log`] writes, [`replay`] makes records of what was written, [`seal`] makes segments of logs, [`verify`] finds what is not as it was
//! written.

mod about;
mod entry;
mod folder;
mod frame;
mod hex;
mod key;
mod ledger;
mod log;
mod prune;
mod refusals;
mod replay;
mod seal;
mod segments;
mod ship;
mod sync;
mod verify;

#[cfg(test)]
mod tests;

use std::{io, path::PathBuf};

pub(crate) use about::this_boot;
pub use about::{About, FORMAT};
pub use entry::EntryError;
pub(crate) use folder::group_of;
pub use folder::{Store, Writer};
pub use frame::FrameError;
pub use log::{Log, ResumeError};
pub use prune::{Keep, Kept, Pruned};
pub use refusals::Refusal;
pub(crate) use replay::Known;
pub use replay::{Replay, ReplayError, Stored};
pub use seal::Sealed;
pub use ship::{Destination, ShipError, Shipped};
pub use verify::{Report, Trouble, verify};

/// Why records cannot be kept, or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder's owner or mode lets others write there.
    #[error(
        "{} is not kept from others: the folder of an audit store, and those above it, must belong to root or to you, and nobody else may write to them", path.display()
    )]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing to read.
    #[error("{} has no audit store: `skillsandbox run --audit-dir` makes one", path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// A segment cannot be read or written.
    #[error("{}: {source}", path.display())]
    Segment {
        /// The file.
        path: PathBuf,
        /// Why.
        source: crate::audit::segment::SegmentError,
    },
    /// The system refused.
    #[error("{}: cannot {what}: {source}", path.display())]
    System {
        /// The folder or file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}
