//! The command line.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{build, setup, vm};

/// The project's own tasks.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
pub(crate) struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Bring everything that a fresh machine with rustup lacks
    Setup,
    /// Build everything
    Build(build::Options),
    /// Run a command under another kernel, with this machine's files
    Vm(vm::command::Options),
}

impl Cli {
    /// Does the task.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.task {
            Task::Setup => setup::run().map(|()| ExitCode::SUCCESS),
            Task::Build(options) => build::run(&options).map(|()| ExitCode::SUCCESS),
            Task::Vm(options) => vm::command::run(options),
        }
    }
}
