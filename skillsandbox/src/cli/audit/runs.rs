//! `skillsandbox audit runs`.

use std::{io::Write, path::Path, process::ExitCode};

use super::{log, read::Records};
use crate::{
    audit::{
        store::Store,
        text::{Escaped, Quoted},
    },
    cli::pager::Pager,
};

/// Lists the runs, the first one first.
pub(super) fn run(folder: &Path) -> anyhow::Result<ExitCode> {
    let store = Store::open(folder)?;
    let mut records = Records::of(&store)?;
    let mut out = Pager::open();
    let mut unread = Vec::new();
    for (run, about) in records.runs() {
        let (about, place) = match about {
            Some(about) => (about.clone(), "sealed"),
            None => match log::about(&store, run) {
                Ok(about) => (about, "log"),
                Err(error) => {
                    unread.push(format!("runs/{run}.log {error}"));
                    continue;
                }
            },
        };
        writeln!(
            out,
            "{}  {} {}  on {}, {} tier, {place}",
            Escaped(run.as_bytes()),
            Quoted(about.skill_name.as_bytes()),
            Quoted(about.skill_version.as_bytes()),
            Quoted(about.host.as_bytes()),
            Quoted(about.tier.as_bytes()),
        )?;
    }
    for what in &unread {
        records.unread(what);
    }
    Ok(records.code().map_or(ExitCode::SUCCESS, ExitCode::from))
}
