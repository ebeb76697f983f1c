//! `skillsandbox audit tree`.

use std::{path::Path, process::ExitCode};

use clap::Args;

use super::read::Records;
use crate::{
    audit::{query::Tree, store::Store},
    cli::pager::Pager,
};

/// Exit code of a run without processes.
const NOTHING: u8 = 1;

/// Draw the processes of a run: who started whom, how often each did what, and what it was denied.
///
/// Exit code 0 when there are processes, 1 when there are none, 123 when the records could not be read to its end.
#[derive(Args, Debug)]
pub(super) struct TreeArguments {
    /// The run: its name, that of its sandbox, `last`, or `last-1` for the one before.
    #[arg(default_value = "last")]
    run: String,
}

pub(super) fn run(folder: &Path, arguments: &TreeArguments) -> anyhow::Result<ExitCode> {
    let store = Store::open(folder)?;
    let mut records = Records::of(&store)?;
    let run = records.find(&arguments.run)?;
    let mut tree = Tree::default();
    records.each_of(&run, |record| {
        tree.add(record);
        Ok(())
    })?;
    tree.write(&mut Pager::open())?;
    Ok(match records.code() {
        Some(code) => ExitCode::from(code),
        None if tree.is_empty() => ExitCode::from(NOTHING),
        None => ExitCode::SUCCESS,
    })
}
