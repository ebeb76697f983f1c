//! `skillsandbox audit findings`.

use std::{io::Write, path::Path, process::ExitCode};

use clap::Args;

use super::read::Records;
use crate::{
    audit::{
        query::{Findings, sentence},
        store::Store,
    },
    cli::pager::Pager,
};

/// Exit code of a run in which something was found.
const FOUND: u8 = 1;

/// Say what the accesses of a run amount to, in the terms of MITRE ATT&CK.
///
/// A finding is decided from accesses that happened. That there is none proves nothing.
/// Exit code 0 when nothing was found, 1 when something was, 123 when the records could not be read to their end.
#[derive(Args, Debug)]
pub(super) struct FindingsArguments {
    /// The run: its name, that of its sandbox, `last`, or `last-1` for the one before.
    #[arg(default_value = "last")]
    run: String,
}

pub(super) fn run(folder: &Path, arguments: &FindingsArguments) -> anyhow::Result<ExitCode> {
    let store = Store::open(folder)?;
    let mut records = Records::of(&store)?;
    let run = records.find(&arguments.run)?;
    let mut findings = Findings::default();
    records.each_of(&run, |record| {
        findings.add(record);
        Ok(())
    })?;
    let findings = findings.findings();
    let mut out = Pager::open();
    for found in &findings {
        let class = found.class;
        writeln!(
            out,
            "{} ({} {}, {}): {} accesses",
            class.title, class.technique, class.technique_name, class.tactic_name, found.count
        )?;
        for record in &found.evidence {
            writeln!(out, "    {}", sentence(record))?;
        }
    }
    Ok(match records.code() {
        Some(code) => ExitCode::from(code),
        None if findings.is_empty() => ExitCode::SUCCESS,
        None => ExitCode::from(FOUND),
    })
}
