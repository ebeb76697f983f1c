//! Runs test programs one after the other, on the host as in a virtual machine.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::paths;

/// Which programs to run, and which of their tests.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out the tests whose paths contain this
    #[arg(long)]
    skip: String,
    /// Run one test at a time
    #[arg(long)]
    serial: bool,
    /// The test programs
    #[arg(last = true, required = true)]
    programs: Vec<PathBuf>,
}

/// Runs all programs, even after one has failed.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut ending = ExitCode::SUCCESS;
    for program in &options.programs {
        println!("\n{}", name(program));
        let mut test = Command::new(program);
        test.args(["--skip", &options.skip])
            .current_dir(paths::project().join("tests"));
        if options.serial {
            test.arg("--test-threads=1");
        }
        let status = test
            .status()
            .with_context(|| format!("could not start {test:?}"))?;
        if !status.success() {
            println!("{} ended with {status}", name(program));
            ending = ExitCode::FAILURE;
        }
    }
    Ok(ending)
}

/// The name of the test's source file: cargo adds a hash.
pub(crate) fn name(program: &Path) -> String {
    let stem = program.file_stem().unwrap_or_default().to_string_lossy();
    stem.rsplit_once('-')
        .map_or(stem.as_ref(), |(name, _)| name)
        .to_owned()
}
