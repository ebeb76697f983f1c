//! `skillsandbox audit seal`.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use crate::{
    audit::{store::Writer, text::Escaped},
    cli::exit,
};

/// How often it is said how far it is.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// Turns the logs of runs that are over into segments.
pub(super) fn run(folder: &Path) -> anyhow::Result<ExitCode> {
    let mut said = Instant::now();
    let sealed = Writer::of(folder)?.seal(|records| {
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            tracing::info!("at record {records}…");
        }
    })?;
    let Some(sealed) = sealed else {
        anyhow::bail!("somebody else seals this store just now");
    };
    for (run, why) in &sealed.left {
        tracing::error!(
            "runs/{}.log stays a log: it {}",
            Escaped(run.as_bytes()),
            Escaped(why.as_bytes())
        );
    }
    writeln!(
        io::stdout().lock(),
        "{} records of {} runs are in {} segments now: {} bytes of logs, {} of segments",
        sealed.rows,
        sealed.runs,
        sealed.segments,
        sealed.bytes_before,
        sealed.bytes,
    )?;
    Ok(if sealed.left.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::RECORD)
    })
}
