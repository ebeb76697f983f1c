//! `skillsandbox audit runs`.

use std::{
    io::{self, BufReader, Write},
    path::Path,
    process::ExitCode,
};

use crate::{
    audit::{
        store::{Replay, Store},
        text::{Escaped, Quoted},
    },
    cli::exit,
};

/// Lists the runs, the first one first.
pub(super) fn run(folder: &Path) -> anyhow::Result<ExitCode> {
    let store = Store::open(folder)?;
    let mut out = io::stdout().lock();
    let mut code = ExitCode::SUCCESS;
    for run in store.runs()?.0 {
        match Replay::open(BufReader::new(store.log(&run)?), &run) {
            Ok(replay) => {
                let about = replay.about();
                writeln!(
                    out,
                    "{}  {} {}  on {}, {} tier, {} rules",
                    Escaped(run.as_bytes()),
                    Quoted(about.skill_name.as_bytes()),
                    Quoted(about.skill_version.as_bytes()),
                    Quoted(about.host.as_bytes()),
                    Quoted(about.tier.as_bytes()),
                    about.rules.len(),
                )?;
            }
            Err(error) => {
                tracing::error!("runs/{}.log {error}", Escaped(run.as_bytes()));
                code = ExitCode::from(exit::RECORD);
            }
        }
    }
    Ok(code)
}
