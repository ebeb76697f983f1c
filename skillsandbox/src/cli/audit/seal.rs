//! `skillsandbox audit seal`.

use std::{
    fs,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, setpriority_process};

use crate::{
    audit::{
        store::{Store, Writer},
        text::Escaped,
    },
    cli::{exit, progress},
};

/// How often it is looked whether another process still seals.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Turns the logs of runs that are over into segments.
pub(super) fn run(folder: &Path) -> anyhow::Result<ExitCode> {
    let writer = Writer::of(folder)?;
    let mut how_far = super::seldom(|records: u64| progress(&format!("at record {records}…")));
    let mut waits = false;
    let sealed = loop {
        if let Some(sealed) = writer.seal(&mut how_far)? {
            break sealed;
        }
        if !std::mem::replace(&mut waits, true) {
            progress("another process seals this store: waiting for it…");
        }
        thread::sleep(LOOK_EVERY);
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

/// The least that a process can have of the processors (`setpriority(2)`).
const NICE: i32 = 19;

/// Has a process of its own seal what has come together in a store, if that is enough.
pub(in crate::cli) fn in_background(folder: &Path) -> anyhow::Result<()> {
    if Store::open(folder)?.should_be_sealed()? {
        start(folder)?;
    }
    Ok(())
}

/// Has a process of its own seal what is over, however little: it goes on when we have ended. What interrupts it is mended by
/// the next.
pub(in crate::cli) fn start(folder: &Path) -> anyhow::Result<()> {
    // The very program that runs, wherever its file is by now.
    let mut command = Command::new("/proc/self/exe");
    command.args(["audit", "seal", "--audit-dir"]);
    command.arg(fs::canonicalize(folder)?).current_dir("/");
    command.env_clear().process_group(0);
    for stream in [Command::stdin, Command::stdout, Command::stderr] {
        stream(&mut command, Stdio::null());
    }
    let mut child = command.spawn()?;
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // At another's pace it does the same.
    let _at_its_pace = setpriority_process(id, NICE);
    tracing::info!("process {} seals the audit store's logs", child.id());
    // Who lives on has its children's ends seen to.
    thread::Builder::new()
        .name("seal".to_owned())
        .spawn(move || child.wait())?;
    Ok(())
}
