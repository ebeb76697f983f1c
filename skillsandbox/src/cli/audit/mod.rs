//! `skillsandbox audit`: what was recorded.

mod query;
mod runs;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};

/// Where records are kept.
const FOLDER: &str = "/var/lib/skillsandbox/audit";

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
    Query(Box<query::QueryArguments>),
    Verify(verify::VerifyArguments),
}

pub(super) fn run(arguments: &AuditArguments) -> anyhow::Result<ExitCode> {
    let folder = &arguments.audit_dir;
    match &arguments.command {
        Command::Runs => runs::run(folder),
        Command::Query(arguments) => query::run(folder, arguments),
        Command::Verify(arguments) => verify::run(folder, arguments),
    }
}
