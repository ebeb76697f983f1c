//! `trace.json`: one file that sums a run up, with the top-level names of the original.
//!
//! What is kept is bounded; what is left out is counted in the file.

use std::io::{self, Write};

use serde::Serialize;

use super::{
    clock::Time,
    counts::Summary,
    json,
    record::{Environment, Layer, Record},
    safe_file::{Owner, Place},
    sink::{Seen, Sink},
    violations::Violations,
};

/// Most records in `events`, and most in `policy_violations`.
pub const RECORDS_MAX: u64 = 10_000;

/// Most bytes of each of the two: paths can be long.
pub const BYTES_MAX: usize = 16 * 1024 * 1024;

/// What the caller knows of the run.
#[derive(Clone, Debug)]
pub struct TraceInfo {
    /// Id of the trace.
    pub trace_id: String,
    /// Id of the sandbox.
    pub sandbox: String,
    /// Name of the skill.
    pub skill_name: String,
    /// Version of the skill.
    pub skill_version: String,
    /// When the run began.
    pub started: Time,
    /// `kernel` or `fallback`.
    pub tier: String,
    /// What was asked for and what was achieved.
    pub layers: Vec<Layer>,
    /// Names of environment variables.
    pub environment: Environment,
}

/// Keeps the first records and writes the file at the end of the run.
pub struct Trace {
    info: TraceInfo,
    place: Place,
    owner: Option<Owner>,
    kept: Kept,
}

/// What is remembered of the records.
#[derive(Debug, Default)]
struct Kept {
    events: Section,
    denials: Section,
    violations: Violations,
}

impl Trace {
    /// A trace to be written to `place` for `owner`.
    #[must_use]
    pub fn new(info: TraceInfo, place: Place, owner: Option<Owner>) -> Self {
        Self {
            info,
            place,
            owner,
            kept: Kept::default(),
        }
    }
}

impl Sink for Trace {
    fn record(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.kept.add(record)
    }

    fn event(&mut self, event: &Seen<'_>) -> io::Result<()> {
        if self.kept.events.is_full() && !event.said.is_denial() {
            self.kept.events.left_out += 1;
            return Ok(());
        }
        self.kept.add(&event.record)
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        self.place
            .write(self.owner, |out| {
                write_document(out, &self.info, &self.kept, summary)
            })
            .map_err(io::Error::other)
    }
}

impl Kept {
    fn add(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.events.add(record)?;
        if record.is_denial() {
            self.denials.add(record)?;
        }
        self.violations.add(record);
        Ok(())
    }
}

/// The first records, as the JSON that goes into the file.
#[derive(Debug, Default)]
struct Section {
    json: Vec<u8>,
    kept: u64,
    left_out: u64,
}

impl Section {
    /// Once one is left out all later ones are: what is kept is a beginning without holes.
    fn is_full(&self) -> bool {
        self.left_out > 0 || self.kept == RECORDS_MAX || self.json.len() > BYTES_MAX
    }

    fn add(&mut self, record: &Record<'_>) -> io::Result<()> {
        if self.is_full() {
            self.left_out += 1;
            return Ok(());
        }
        if self.kept > 0 {
            self.json.extend_from_slice(b",\n");
        }
        self.kept += 1;
        json::write(&mut self.json, record)
    }
}

fn write_document(
    out: &mut impl Write,
    info: &TraceInfo,
    kept: &Kept,
    summary: &Summary,
) -> io::Result<()> {
    let mut object = Object { out, first: true };
    object.field("v", &super::record::RECORD_VERSION)?;
    object.field("trace_id", &info.trace_id)?;
    object.field("sandbox", &info.sandbox)?;
    object.field("skill_name", &info.skill_name)?;
    object.field("skill_version", &info.skill_version)?;
    object.field("started_at", &info.started)?;
    object.field("completed_at", &summary.completed)?;
    object.field("exit_code", &summary.ending.exit_code)?;
    object.field("signal", &summary.ending.signal)?;
    object.field("tier", &info.tier)?;
    object.field("layers", &info.layers)?;
    object.field("environment", &info.environment)?;
    object.field("counts", &summary.counts)?;
    object.field("accounting", &summary.accounting)?;
    object.field("failed_sinks", &summary.failed_sinks)?;
    object.field("violation_summary", &kept.violations.summary())?;
    object.field("policy_violations_left_out", &kept.denials.left_out)?;
    object.array("policy_violations", &kept.denials.json)?;
    object.field("events_left_out", &kept.events.left_out)?;
    object.array("events", &kept.events.json)?;
    object.out.write_all(b"\n}\n")
}

/// A JSON object, one field per line.
struct Object<'a, W: Write> {
    out: &'a mut W,
    first: bool,
}

impl<W: Write> Object<'_, W> {
    fn name(&mut self, name: &str) -> io::Result<()> {
        let separator = if std::mem::take(&mut self.first) {
            "{\n"
        } else {
            ",\n"
        };
        write!(self.out, "{separator}\"{name}\": ")
    }

    fn field(&mut self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.name(name)?;
        json::write(&mut *self.out, value)
    }

    /// Elements that are JSON already, with their commas.
    fn array(&mut self, name: &str, elements: &[u8]) -> io::Result<()> {
        self.name(name)?;
        self.out.write_all(b"[\n")?;
        self.out.write_all(elements)?;
        self.out.write_all(b"\n]")
    }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
