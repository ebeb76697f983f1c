//! Python packages that the tests alone need: another engine that reads our tables, and the published schema
//! that our export is held to.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{paths, process};

/// What is installed, by version: whatever they need themselves is here, too.
const PACKAGES: [&str; 8] = [
    "attrs==26.1.0",
    "duckdb==2.0.1",
    "jsonschema==4.26.0",
    "jsonschema-specifications==2025.9.1",
    "ocsf-json-schema==1.2.0",
    "referencing==0.37.0",
    "rpds-py==2026.9.1",
    "typing-extensions==4.16.0",
];

/// The folder of the packages, which are brought if they are not there.
pub(crate) fn packages() -> Result<PathBuf> {
    let folder = paths::tools().join("python");
    let (list, wanted) = (folder.join("installed"), PACKAGES.join("\n"));
    if fs::read_to_string(&list).is_ok_and(|there| there == wanted) {
        return Ok(folder);
    }
    eprintln!("bringing Python packages for the tests, once…");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("cannot remove the old packages")?;
    }
    process::run(
        Command::new("/usr/bin/python3")
            .args(["-m", "pip", "install", "--quiet", "--no-deps"])
            .args(["--disable-pip-version-check", "--root-user-action=ignore"])
            .arg("--target")
            .arg(&folder)
            .args(PACKAGES),
    )?;
    fs::write(&list, wanted).context("cannot write down what is installed")?;
    Ok(folder)
}
