//! `skillsandbox audit show`.

use std::{collections::VecDeque, io::Write, path::Path, process::ExitCode};

use clap::Args;
use serde_json::Value;

use super::read::Records;
use crate::{
    audit::{field::number, query::sentence, store::Store, text::Escaped},
    cli::pager::Pager,
};

/// Exit code of a number that the run has no record of.
const NOTHING: u8 = 1;

/// Show everything that is known of one record, and what its process did before and after.
///
/// Exit code 0 when there is such a record, 1 when there is none, 123 when the records could not be read to its end.
#[derive(Args, Debug)]
pub(super) struct ShowArguments {
    /// The run: its name, that of its sandbox, `last`, or `last-1` for the one before.
    run: String,
    /// The record's `sequence`.
    sequence: u64,
    /// Records of the same process to show before it and after it.
    #[arg(long, value_name = "COUNT", default_value = "5")]
    context: usize,
}

pub(super) fn run(folder: &Path, arguments: &ShowArguments) -> anyhow::Result<ExitCode> {
    let store = Store::open(folder)?;
    let mut records = Records::of(&store)?;
    let run = records.find(&arguments.run)?;
    let process = |record: &Value| number(record, "/tgid");
    // What its process is, is known only when it comes: so the latest of every process are kept.
    let mut before: std::collections::HashMap<u64, VecDeque<String>> =
        std::collections::HashMap::new();
    let mut found: Option<Value> = None;
    let mut after = Vec::new();
    records.each_of(&run, |record| {
        let Some(id) = process(record) else {
            return Ok(());
        };
        match &found {
            None if number(record, "/sequence") == Some(arguments.sequence) => {
                found = Some(record.clone());
            }
            None => {
                let latest = before.entry(id).or_default();
                latest.push_back(sentence(record));
                if latest.len() > arguments.context {
                    latest.pop_front();
                }
            }
            Some(it) if process(it) == Some(id) && after.len() < arguments.context => {
                after.push(sentence(record));
            }
            Some(_) => {}
        }
        Ok(())
    })?;
    let mut out = Pager::open();
    if let Some(record) = &found {
        let before = process(record).and_then(|id| before.remove(&id));
        for line in before.into_iter().flatten() {
            writeln!(out, "  {line}")?;
        }
        writeln!(out, "> {}", sentence(record))?;
        for (field, value) in record.as_object().into_iter().flatten() {
            let shown = match value {
                Value::Null => continue,
                Value::String(text) => Escaped(text.as_bytes()).to_string(),
                other => Escaped(other.to_string().as_bytes()).to_string(),
            };
            writeln!(out, "    {field:<18} {shown}")?;
        }
        for line in after {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(match records.code() {
        Some(code) => ExitCode::from(code),
        None if found.is_none() => ExitCode::from(NOTHING),
        None => ExitCode::SUCCESS,
    })
}
