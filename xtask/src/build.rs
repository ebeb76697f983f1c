//! Builds the programs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

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

/// Builds `skillsandbox` as users try it out, and returns the path of the program.
pub(crate) fn plain() -> Result<PathBuf> {
    process::run(cargo("build").args(["--package", "skillsandbox"]))?;
    Ok(paths::target().join("debug/skillsandbox"))
}

/// Builds `skillsandbox` so that it can leave out layers, which a release cannot, and returns the
/// path of the program. Everything else of it is what [`plain`] has too, and is not built again for that.
pub(crate) fn layered() -> Result<PathBuf> {
    process::run(cargo("build").args(["--package", "skillsandbox", "--features", "test-layers"]))?;
    // Before another build puts its program there.
    let folder = paths::target().join("layers");
    let program = folder.join("skillsandbox");
    let made = folder.join("skillsandbox.new");
    let copied = fs::create_dir_all(&folder)
        .and_then(|()| fs::copy(paths::target().join("debug/skillsandbox"), &made))
        // Who still executes the last one keeps it.
        .and_then(|_| fs::rename(&made, &program));
    copied.with_context(|| format!("cannot make {}", program.display()))?;
    Ok(program)
}

/// The same, as fast as a release: what is measured.
pub(crate) fn layered_release() -> Result<PathBuf> {
    let features = ["--no-default-features", "--features", "test-layers"];
    process::run(
        cargo("build")
            .args(["--package", "skillsandbox", "--profile", "measured"])
            .args(features),
    )?;
    Ok(paths::target().join("measured/skillsandbox"))
}

/// Builds the program that tries attacks and returns its path. Linked statically: what it can do is
/// not to depend on which libraries it finds.
pub(crate) fn attacker() -> Result<PathBuf> {
    // For this machine by name: what is said of a target is not said of what builds for it.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let variable = target.to_uppercase().replace('-', "_");
    process::run(
        cargo("build")
            .args(["--package", "skillsandbox-attacks", "--target", &target])
            .env(
                format!("CARGO_TARGET_{variable}_RUSTFLAGS"),
                "-C target-feature=+crt-static -C strip=symbols",
            ),
    )?;
    Ok(paths::target().join(target).join("debug/attacker"))
}

/// A cargo command at the top of the project.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.arg(subcommand).current_dir(paths::project());
    cargo
}
