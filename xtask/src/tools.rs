//! Programs that cargo installs for the project alone.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::setup::Outcome;
use crate::{build, paths, process};

/// A program, and how to build it.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// The features that we need, and no others.
    pub(crate) features: &'static str,
    /// `release` for what runs often, `dev` for what is sooner built than run.
    pub(crate) profile: &'static str,
    pub(crate) environment: Vec<(&'static str, PathBuf)>,
}

impl Tool {
    /// The installed program.
    pub(crate) fn program(&self) -> PathBuf {
        paths::tools().join("bin").join(self.name)
    }

    /// Whether the right version is there and starts.
    fn is_there(&self) -> bool {
        let output = Command::new(self.program()).arg("--version").output();
        output.is_ok_and(|output| {
            output.status.success()
                && String::from_utf8_lossy(&output.stdout).contains(self.version)
        })
    }

    /// Builds the program unless it is there.
    pub(crate) fn ensure(&self) -> Result<Outcome> {
        if self.is_there() {
            return Ok(Outcome::AlreadyThere);
        }
        eprintln!(
            "building {} {}, once, for some minutes…",
            self.name, self.version
        );
        process::run(
            build::cargo("install")
                .args([
                    "--quiet",
                    "--locked",
                    "--force",
                    "--no-default-features",
                    "--profile",
                    self.profile,
                ])
                .args([
                    "--features",
                    self.features,
                    "--version",
                    self.version,
                    self.name,
                    "--root",
                ])
                .arg(paths::tools())
                .envs(self.environment.iter().map(|(name, value)| (name, value))),
        )?;
        Ok(Outcome::Done)
    }
}
