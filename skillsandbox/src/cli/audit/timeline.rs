//! `skillsandbox audit timeline`.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use clap::Args;
use serde_json::Value;

use super::read::{Records, Which};
use crate::{
    audit::{
        field::number,
        query::{Filter, Process, deed},
        store::Store,
    },
    cli::pager::Pager,
};

/// Exit code of a process that did nothing.
const NOTHING: u8 = 1;

/// Show what happened in a run, or what one process did, with the seconds since the first of it.
///
/// Exit code 0 when there are such records, 1 when there are none, 123 when the records could not be read to their end.
#[derive(Args, Debug)]
pub(super) struct TimelineArguments {
    /// The run: its name, that of its sandbox, `last`, or `last-1` for the one before.
    #[arg(default_value = "last")]
    run: String,
    /// Of the process of this id, or whose program's path or name is like this.
    #[arg(long, value_name = "ID|PATTERN")]
    process: Option<Process>,
}

pub(super) fn run(folder: &Path, arguments: &TimelineArguments) -> anyhow::Result<ExitCode> {
    let store = Store::open(folder)?;
    let mut records = Records::of(&store)?;
    let run = records.find(&arguments.run)?;
    let which = Which {
        lengths: None,
        filter: &Filter {
            process: arguments.process.clone(),
            ..Filter::default()
        },
        run: Some(&run),
        wanted: &|_| true,
    };
    let mut out = BufWriter::new(Pager::open());
    let mut clock = None;
    records.each(&which, &mut |_, record, _| {
        line(&mut out, record, &mut clock)
    })?;
    records.warn_of_losses();
    out.flush()?;
    Ok(match records.code() {
        Some(code) => ExitCode::from(code),
        None if clock.is_none() => ExitCode::from(NOTHING),
        None => ExitCode::SUCCESS,
    })
}

/// The time of the first record, and of the last.
type Times = (u64, u64);

fn line(out: &mut impl Write, record: &Value, clock: &mut Option<Times>) -> io::Result<()> {
    let now = number(record, "/boot_ns").unwrap_or_default();
    let (first, last) = *clock.get_or_insert((now, now));
    // Records of several processors can be a little out of order.
    let since = now.saturating_sub(first);
    let pause = now.saturating_sub(last);
    if pause >= 1_000_000_000 {
        writeln!(out, "{:>12}   … {} s", "", pause / 1_000_000_000)?;
    }
    writeln!(
        out,
        "{:>5}.{:06}   {}",
        since / 1_000_000_000,
        since % 1_000_000_000 / 1000,
        deed(record)
    )?;
    *clock = Some((first, now.max(last)));
    Ok(())
}
