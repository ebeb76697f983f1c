//! Finished runs as tables: Parquet files (<https://parquet.apache.org/docs/file-format/>) with a column for
//! each field of a record, which other engines read as well. Not a log: a file without its end is nothing.
//!
//! [`row`] makes rows of records and records of rows, [`columns`] is what a row has, [`write`] and [`read`] are
//! about one file, [`condition`] is what is decided, and [`tally`] what is counted, without making a record.

mod columns;
mod condition;
mod json;
mod pages;
mod places;
mod read;
mod row;
mod tally;
mod write;

#[cfg(test)]
mod tests;

use parquet::errors::ParquetError;
use serde::{Deserialize, Serialize};

pub use read::{Found, Search, Segment};
pub use write::{SegmentWriter, Written};

use crate::audit::store::About;

/// The key in a file's metadata under which it says which runs are in it.
const RUNS: &str = "skillsandbox.runs";

/// A run in a segment, or its part in this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPart {
    /// What is known of the whole run, without its rules: they are in the rows.
    pub about: About,
    /// Records of it in this file.
    pub rows: u64,
    /// Events that were lost when they were to be recorded, as these records say.
    pub lost: u64,
    /// Time of its first and last record here, in nanoseconds since 1970.
    pub first: i64,
    /// The last.
    pub last: i64,
}

/// Why a segment cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The file is not one, or not whole.
    #[error("it is no segment that this version can read: {0}")]
    Parquet(#[from] ParquetError),
    /// The table is not one of ours.
    #[error("it is no segment that this version can read: {0}")]
    Table(#[from] arrow_schema::ArrowError),
    /// It does not say which runs are in it.
    #[error("it is no segment that this version can read: it does not say of which runs it is")]
    NoRuns,
    /// A row is no record.
    #[error("row {0} of a batch is no record that this version can read")]
    Row(usize),
    /// A record is no row.
    #[error("it holds a record that has no place in a table")]
    Record,
    /// Whoever takes the records failed.
    #[error(transparent)]
    Taker(#[from] std::io::Error),
}
