//! Questions to a store: which records, and how they are shown. Records are read as `docs/events.md` has
//! them, whatever they were made of.

mod diff;
mod filter;
mod finding;
mod show;
mod stats;
mod tree;

pub use diff::{Diff, Difference};
pub use filter::{Filter, Moment, Process, RuleIs};
pub(crate) use filter::{REPEAT, glob, path_glob};
pub use finding::{CLASSES, Class, Finding, Findings, Severity};
pub use show::{Format, Output, deed, sentence};
pub(crate) use stats::{Count, host};
pub use stats::{List, Stats};
pub use tree::Tree;
