//! The command line.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{attacks, bench, build, demo, fuzz, lint, package, setup, suite, test, vm};

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
    /// Show a skill that steals, alone and under SkillSandbox, here and in a virtual machine
    Demo(demo::Options),
    /// Run all tests, on this host and under each kernel
    Test(test::Options),
    /// Try the package in virtual machines that boot each Debian; `test` boots the newest
    Boot,
    /// Measure, against peers and by instruction count, and write BENCHMARKS.md
    Bench(bench::Options),
    /// Make a Debian package of a release
    Package(package::Options),
    /// Check the format, the lints and the dependencies
    Lint,
    /// Attack a sandbox, here and under each kernel, and write docs/attacks.md
    Attacks(attacks::Options),
    /// Try what reads bytes with bytes that nobody chose
    Fuzz(fuzz::Options),
    /// Run test programs here; `test` does so here and in virtual machines
    #[command(hide = true)]
    Suite(suite::Options),
    /// Run a command under another kernel, with this machine's files
    Vm(vm::command::Options),
}

impl Cli {
    /// Does the task.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.task {
            Task::Setup => setup::run().map(|()| ExitCode::SUCCESS),
            Task::Build(options) => build::run(&options).map(|()| ExitCode::SUCCESS),
            Task::Demo(options) => demo::run(&options),
            Task::Test(options) => test::run(&options),
            Task::Boot => test::boot(),
            Task::Bench(options) => bench::run(options).map(|()| ExitCode::SUCCESS),
            Task::Package(options) => package::run(&options).map(|()| ExitCode::SUCCESS),
            Task::Lint => lint::run().map(|()| ExitCode::SUCCESS),
            Task::Attacks(options) => attacks::run(&options),
            Task::Fuzz(options) => fuzz::run(&options),
            Task::Suite(options) => suite::run(&options),
            Task::Vm(options) => vm::command::run(options),
        }
    }
}
