//! `skillsandbox audit verify`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;

use crate::audit::{
    store::{Store, verify},
    text::Escaped,
};

/// Exit code of a store that is not as it was written.
const TROUBLE: u8 = 1;

/// Find out whether any record was changed, removed or put elsewhere.
///
/// Whoever has the host's key, as root has, can write a store anew that has no trouble: take `key.pub` and
/// the ledger's last line off the host to compare them.
/// Exit code 0 when everything is as it was written, 1 when something is not.
#[derive(Args, Debug)]
pub(super) struct VerifyArguments {
    /// The host's public key, taken off the host before [default: the `key.pub` of the store].
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A line of the ledger that was taken off the host before: `audit ship` puts one into checkpoints/.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

pub(super) fn run(folder: &Path, arguments: &VerifyArguments) -> anyhow::Result<ExitCode> {
    let key = match &arguments.key {
        Some(file) => {
            let key = std::fs::read_to_string(file);
            Some(key.with_context(|| format!("cannot read {}", file.display()))?)
        }
        None => None,
    };
    let store = Store::open(folder)?;
    let mut report = verify(&store, key.as_deref())?;
    if let Some(file) = &arguments.checkpoint {
        let line = std::fs::read(file);
        let line = line.with_context(|| format!("cannot read {}", file.display()))?;
        report.checkpoint(&store, &line)?;
    }
    let mut out = io::stdout().lock();
    for trouble in &report.troubles {
        writeln!(
            out,
            "{} {}",
            Escaped(trouble.file.as_bytes()),
            Escaped(trouble.what.as_bytes())
        )?;
    }
    writeln!(
        out,
        "{} runs, {} of them running, {} ended when their recorder was killed, {} sealed, {} taken away; {} records in {} frames and {} segments as they were written; {} lost when they were recorded; {} troubles",
        report.runs,
        report.running,
        report.killed,
        report.sealed,
        report.removed,
        report.records,
        report.frames,
        report.segments,
        report.lost,
        report.troubles.len()
    )?;
    Ok(if report.troubles.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(TROUBLE)
    })
}
