//! The command line: one file per subcommand.

mod attach;
mod audit;
mod daemon;
mod doctor;
pub mod exit;
mod explain;
mod inspect;
mod pager;
mod run;
mod validate;
mod worker;

use std::{
    ffi::OsStr,
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::{
    isolate::{launcher, spawn::LAUNCHER},
    kernel::prove,
    supervise::service::{CLOSER, WORKER},
};

/// A kernel-level monitor and sandbox for the code that AI agents run.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    /// Say more of what is done; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::RunArguments>),
    Attach(Box<attach::AttachArguments>),
    Detach(attach::DetachArguments),
    Reload(attach::ReloadArguments),
    Ps(attach::PsArguments),
    Daemon(daemon::DaemonArguments),
    Validate(validate::ValidateArgs),
    Inspect(inspect::InspectArgs),
    Explain(explain::ExplainArguments),
    Audit(audit::AuditArguments),
    Doctor(doctor::DoctorArguments),
}

/// The command line, with all that is said of it.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Parses the command line, calls the subcommand, and turns its outcome into an exit code.
#[must_use]
pub fn main() -> ExitCode {
    // The launcher and the probe are this program too. They come before anything that could
    // start a thread or open a file.
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some(OsStr::new(LAUNCHER)) {
        return launcher::main(arguments.next().as_deref());
    }
    if first.as_deref() == Some(OsStr::new(prove::SUBCOMMAND)) {
        return match prove::child() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }

    if first.as_deref() == Some(OsStr::new(WORKER)) {
        log_to_stderr(0);
        return code(worker::run(std::env::args_os().skip(1)));
    }
    if first.as_deref() == Some(OsStr::new(CLOSER)) {
        return code(worker::close());
    }

    let arguments = Arguments::parse();
    log_to_stderr(arguments.verbose);
    let outcome = match &arguments.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Attach(arguments) => attach::attach(arguments),
        Command::Detach(arguments) => attach::detach(arguments),
        Command::Reload(arguments) => attach::reload(arguments),
        Command::Ps(arguments) => attach::ps(arguments),
        Command::Daemon(arguments) => daemon::run(arguments),
        Command::Validate(arguments) => validate::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Audit(arguments) => audit::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
    };
    code(outcome)
}

/// Tells of an error.
fn code(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        tell(&error);
        exit::code_of(&error)
    })
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("SKILLSANDBOX_LOG").unwrap_or_else(|_unset| level.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // Where standard error is closed it would print that there, and panic.
        .log_internal_errors(false)
        .without_time()
        .init();
}

/// Says how far a command is to whoever watches it.
#[expect(clippy::print_stderr, reason = "the command's own voice")]
fn progress(text: &str) {
    if io::stderr().is_terminal() {
        eprintln!("{text}");
    }
}

#[expect(clippy::print_stderr, reason = "the command's own voice")]
fn tell(error: &anyhow::Error) {
    eprintln!("skillsandbox: {error:#}");
}

/// A runtime for one command: the work is on threads of its own, this one only waits.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}
