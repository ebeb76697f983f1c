//! What is found in a segment, on its way to whoever asked.

use std::io;

use serde_json::Value;

use super::read::Take;
use crate::audit::segment::{Found, RunPart};

/// Records that were found in a segment.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) lines: Vec<u8>,
    /// Of each its run's number, the end of its line, and the record.
    records: Vec<(usize, usize, Value)>,
}

impl Batch {
    /// Adds one.
    pub(super) fn push(&mut self, found: Found<'_>, record: Value) {
        self.lines.extend_from_slice(found.line);
        self.records.push((found.part, self.lines.len(), record));
    }

    /// Hands them out.
    pub(super) fn each(&self, runs: &[RunPart], take: &mut Take<'_>) -> io::Result<()> {
        let mut start = 0;
        for (part, end, record) in &self.records {
            let (part, line) = (runs.get(*part), self.lines.get(start..*end));
            if let (Some(part), Some(line)) = (part, line) {
                take(&part.about, record, line)?;
            }
            start = *end;
        }
        Ok(())
    }
}
