//! `skillsandbox audit stats`.

use std::{
    io::{BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use clap::Args;

use super::asked::Asked;
use crate::{
    audit::{query::List, store::Store},
    cli::pager::Pager,
};

/// Exit code when no record is what was asked for.
const NOTHING: u8 = 1;

/// Count the records that are asked for: by kind and minute, and which denials, programs, hosts and
/// paths there were most.
///
/// The options are those of `audit query`.
/// Exit code 0 when there are such records, 1 when there are none, 123 when some could not be read.
#[derive(Args, Debug)]
pub(super) struct StatsArguments {
    #[command(flatten)]
    asked: Asked,
    /// Count only these lists, which takes less time.
    #[arg(long, value_enum, value_delimiter = ',')]
    list: Vec<List>,
    /// How many of each list.
    #[arg(long, value_name = "COUNT", default_value = "10")]
    top: usize,
}

pub(super) fn run(folder: &Path, arguments: &StatsArguments) -> anyhow::Result<ExitCode> {
    let store = Store::open(folder)?;
    let (stats, unread) = arguments.asked.tally(&store, &arguments.list)?;
    let mut out = BufWriter::new(Pager::open());
    stats.write(&mut out, arguments.top)?;
    out.flush()?;
    Ok(match unread {
        Some(code) => ExitCode::from(code),
        None if stats.is_empty() => ExitCode::from(NOTHING),
        None => ExitCode::SUCCESS,
    })
}
