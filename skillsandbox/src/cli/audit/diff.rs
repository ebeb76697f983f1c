//! `skillsandbox audit diff`.

use std::{io::Write, path::Path, process::ExitCode};

use clap::Args;

use super::read::Records;
use crate::{
    audit::{query::Diff, store::Store},
    cli::pager::Pager,
};

/// Exit code of runs that did different things.
const DIFFERENT: u8 = 1;

/// Show what one run did that the other did not: a `+` is the second's alone, a `-` the first's.
///
/// The same is what was done to the same path or host by the same program with the same verdict, by
/// whichever process and however often.
/// Exit code 0 when there is no difference, 1 when there is one, 123 when records could not be read, or was too much to compare.
#[derive(Args, Debug)]
pub(super) struct DiffArguments {
    /// The first run: its name, that of its sandbox, `last`, or `last-1` for the one before.
    first: String,
    /// The second.
    second: String,
}

pub(super) fn run(folder: &Path, arguments: &DiffArguments) -> anyhow::Result<ExitCode> {
    let store = Store::open(folder)?;
    let mut diff = Diff::default();
    let mut records = Records::of(&store)?;
    for (is_second, meant) in [(false, &arguments.first), (true, &arguments.second)] {
        let run = records.find(meant)?;
        records.each_of(&run, |record| {
            diff.add(is_second, record);
            Ok(())
        })?;
    }
    let differences = diff.differences();
    let mut out = Pager::open();
    for one in &differences {
        let sign = if one.is_new { '+' } else { '-' };
        let times = if one.count > 1 {
            format!(" ({} times)", one.count)
        } else {
            String::new()
        };
        writeln!(out, "{sign} {}{times}", one.line)?;
    }
    if diff.left_out() > 0 {
        records.unread(&format!(
            "{} records were left out: these runs did too many different things",
            diff.left_out()
        ));
    }
    Ok(match records.code() {
        Some(code) => ExitCode::from(code),
        None if differences.is_empty() => ExitCode::SUCCESS,
        None => ExitCode::from(DIFFERENT),
    })
}
