//! `skillsandbox audit`: what was recorded.

mod asked;
mod batch;
mod diff;
mod export;
mod findings;
mod in_order;
mod log;
mod prune;
mod query;
mod read;
mod refusals;
mod runs;
mod seal;
mod ship;
mod show;
mod stats;
mod tail;
mod timeline;
mod tree;
mod verify;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};

pub(super) use seal::{in_background as seal_in_background, start as start_sealing};

/// Where records are kept.
pub(super) const FOLDER: &str = "/var/lib/skillsandbox/audit";

/// Ask what was recorded, and whether it is as it was recorded.
#[derive(Args)]
pub(super) struct AuditArguments {
    /// The folder that `run --audit-dir` recorded to.
    #[arg(long, global = true, value_name = "DIR", default_value = FOLDER)]
    audit_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the runs.
    Runs,
    /// List the requests for runs that the daemon refused.
    Refusals,
    Query(Box<query::QueryArguments>),
    Stats(Box<stats::StatsArguments>),
    Tree(tree::TreeArguments),
    Timeline(timeline::TimelineArguments),
    Tail(Box<tail::TailArguments>),
    Diff(diff::DiffArguments),
    Show(show::ShowArguments),
    Findings(findings::FindingsArguments),
    Export(Box<export::ExportArguments>),
    Verify(verify::VerifyArguments),
    /// Turn the logs of runs that are over into Parquet segments, which are smaller and faster to ask.
    ///
    /// Exit code 0 when all are sealed, 123 when some log is not as it was written: it stays as it is.
    Seal,
    Ship(ship::ShipArguments),
    Prune(prune::PruneArguments),
}

/// The store that every run is kept in, where somebody has made its folder. One that cannot be looked at is there: a run that
/// should be kept is not to go unkept.
pub(super) fn default_folder() -> Option<&'static Path> {
    let folder = Path::new(FOLDER);
    folder.try_exists().unwrap_or(true).then_some(folder)
}

/// Says how far it is, every two seconds at the most.
fn seldom<T>(mut say: impl FnMut(T)) -> impl FnMut(T) {
    const SAY_EVERY: Duration = Duration::from_secs(2);
    let mut said = Instant::now();
    move |how_far| {
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            say(how_far);
        }
    }
}

pub(super) fn run(arguments: &AuditArguments) -> anyhow::Result<ExitCode> {
    let folder = &arguments.audit_dir;
    let outcome = match &arguments.command {
        Command::Runs => runs::run(folder),
        Command::Refusals => refusals::run(folder),
        Command::Query(arguments) => query::run(folder, arguments),
        Command::Stats(arguments) => stats::run(folder, arguments),
        Command::Timeline(arguments) => timeline::run(folder, arguments),
        Command::Tail(arguments) => tail::run(folder, arguments),
        Command::Tree(arguments) => tree::run(folder, arguments),
        Command::Diff(arguments) => diff::run(folder, arguments),
        Command::Show(arguments) => show::run(folder, arguments),
        Command::Findings(arguments) => findings::run(folder, arguments),
        Command::Export(arguments) => export::run(folder, arguments),
        Command::Verify(arguments) => verify::run(folder, arguments),
        Command::Seal => seal::run(folder),
        Command::Ship(arguments) => ship::run(folder, arguments),
        Command::Prune(arguments) => prune::run(folder, arguments),
    };
    match outcome {
        // Whoever reads has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        outcome => outcome,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
