//! Running other programs.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::{Context, Result, ensure};

/// How often a waiting loop looks again.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// A child that is killed and reaped when this is dropped.
pub(crate) struct Guarded(pub(crate) Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command to its end; its output goes where ours does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| could_not_start(command))?;
    ensure!(status.success(), "{} ended with {status}", shown(command));
    Ok(())
}

/// Runs a command to its end and returns what it wrote to its standard output.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| could_not_start(command))?;
    ensure!(
        output.status.success(),
        "{} ended with {}",
        shown(command),
        output.status
    );
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} wrote something that is not UTF-8", shown(command)))
}

/// Runs a command to its end, shows its standard output as it comes and returns it too.
pub(crate) fn tee(command: &mut Command) -> Result<(ExitStatus, String)> {
    let mut child = Guarded(
        command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| could_not_start(command))?,
    );
    let mut seen = String::new();
    if let Some(pipe) = child.0.stdout.take() {
        for line in BufReader::new(pipe).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            writeln!(io::stdout(), "{line}")?;
            seen.push_str(&line);
            seen.push('\n');
        }
    }
    Ok((child.0.wait()?, seen))
}

/// Runs a command quietly and says whether it succeeded in time.
pub(crate) fn succeeds_within(command: &mut Command, limit: Duration) -> bool {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(child) = quiet.spawn() else {
        return false;
    };
    let mut child = Guarded(child);
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        match child.0.try_wait() {
            Ok(None) => thread::sleep(POLL),
            Ok(Some(status)) => return status.success(),
            Err(_) => return false,
        }
    }
    false
}

/// The command as a reader would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    format!("`{}`", words.join(" "))
}

fn could_not_start(command: &Command) -> String {
    format!(
        "could not start {} (is it installed? `cargo xtask setup`)",
        shown(command)
    )
}
