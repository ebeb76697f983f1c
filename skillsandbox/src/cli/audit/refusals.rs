//! `skillsandbox audit refusals`.

use std::{io::Write, path::Path, process::ExitCode};

use crate::{
    audit::{
        store::{Refusal, Store},
        text::{Escaped, Quoted},
    },
    cli::pager::Pager,
};

/// Lists the requests, the first one first.
pub(super) fn run(folder: &Path) -> anyhow::Result<ExitCode> {
    let (refusals, wrong) = Store::open(folder)?.refusals()?;
    let mut out = Pager::open();
    for (time, Refusal { pid, uid, gid, why }) in refusals {
        let time = Escaped(time.as_bytes());
        writeln!(
            out,
            "{time}  uid {uid} gid {gid} pid {pid}  {}",
            Quoted(why.as_bytes())
        )?;
    }
    if wrong > 0 {
        anyhow::bail!(
            "{wrong} lines of the ledger are not as they were written: see `audit verify`"
        );
    }
    Ok(ExitCode::SUCCESS)
}
