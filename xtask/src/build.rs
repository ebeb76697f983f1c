//! Builds the programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::packages::Need;
use crate::{linker, packages, paths, process, rust_src};

/// How to build.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Optimise
    #[arg(long)]
    release: bool,
    /// Features of `skillsandbox`, separated by commas
    #[arg(long, value_name = "FEATURES")]
    features: Option<String>,
}

impl Options {
    /// Optimised, as users have it.
    pub(crate) fn release() -> Self {
        Self {
            release: true,
            features: None,
        }
    }
}

/// Brings what the eBPF programs' build needs.
pub(crate) fn prepare() -> Result<()> {
    packages::ensure(&[Need::Build])?;
    rust_src::ensure()?;
    linker::ensure()?;
    Ok(())
}

/// Builds the whole workspace.
pub(crate) fn run(options: &Options) -> Result<()> {
    prepare()?;
    let mut cargo = cargo("build");
    if options.release {
        cargo.arg("--release");
    }
    if let Some(features) = &options.features {
        let features = features
            .split(',')
            .map(|feature| format!("skillsandbox/{feature}"));
        cargo
            .arg("--features")
            .arg(features.collect::<Vec<_>>().join(","));
    }
    process::run(&mut cargo)
}

/// Builds `skillsandbox` in a target folder of its own, so that builds with other features are
/// not in each other's way, and returns the path of the program.
pub(crate) fn skillsandbox(target: &Path, features: &[&str]) -> Result<PathBuf> {
    let mut cargo = cargo("build");
    cargo.args([
        "--package",
        "skillsandbox",
        "--features",
        &features.join(","),
    ]);
    process::run(cargo.arg("--target-dir").arg(target))?;
    Ok(target.join("debug/skillsandbox"))
}

/// A cargo command at the top of the project.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.arg(subcommand).current_dir(paths::project());
    cargo
}
