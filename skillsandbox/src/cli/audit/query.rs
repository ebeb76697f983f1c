//! `skillsandbox audit query`.

use std::{io::BufWriter, path::Path, process::ExitCode};

use clap::Args;

use super::asked::Asked;
use crate::{
    audit::{
        query::{Format, Output},
        store::Store,
    },
    cli::pager::Pager,
};

/// Exit code when no record is what was asked for.
const NOTHING: u8 = 1;

/// Show the records that are asked for: those for which everything given holds, the oldest first.
///
/// In patterns of paths `*` is anything but a slash and `**` any folders, in others `*` is anything. Times are `2h` (ago), `2026-11-27`,
/// `2026-11-27 18:00` or RFC 3339, in UTC.
/// Exit code 0 when there are such records, 1 when there are none, 123 when some could not be read.
#[derive(Args, Debug)]
pub(super) struct QueryArguments {
    #[command(flatten)]
    asked: Asked,
    /// How records are shown.
    #[arg(long, value_enum, default_value = "lines")]
    format: Format,
}

pub(super) fn run(folder: &Path, arguments: &QueryArguments) -> anyhow::Result<ExitCode> {
    let store = Store::open(folder)?;
    let mut output = Output::new(BufWriter::new(Pager::open()), arguments.format);
    let unread = arguments.asked.each(&store, |about, record, line| {
        output.record(&about.run, record, line)
    })?;
    let rows = output.rows();
    output.finish()?;
    Ok(match unread {
        Some(code) => ExitCode::from(code),
        None if rows == 0 => ExitCode::from(NOTHING),
        None => ExitCode::SUCCESS,
    })
}
