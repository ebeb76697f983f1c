//! Python packages that the tests alone need: another engine that reads our tables, the published schema that
//! our export is held to, and a server of S3.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{paths, process};

/// What is installed, by version: whatever they need themselves is here, too.
const PACKAGES: [&str; 35] = [
    "attrs==26.1.0",
    "blinker==1.9.0",
    "boto3==1.44.8",
    "botocore==1.44.8",
    "certifi==2026.10.19.post1",
    "cffi==2.1.1",
    "charset-normalizer==3.5.3",
    "click==8.5.1",
    "cryptography==50.0.2",
    "duckdb==2.0.1",
    "flask==3.1.3",
    "flask-cors==6.0.5",
    "idna==3.20",
    "itsdangerous==2.2.0",
    "jinja2==3.1.6",
    "jmespath==1.1.0",
    "jsonschema==4.26.0",
    "jsonschema-specifications==2025.9.1",
    "markupsafe==3.0.4",
    "moto==5.2.5",
    "ocsf-json-schema==1.2.0",
    "py-partiql-parser==0.6.3",
    "pycparser==3.12",
    "python-dateutil==2.9.0.post0",
    "pyyaml==6.0.4",
    "referencing==0.37.0",
    "requests==2.34.2",
    "responses==0.26.3",
    "rpds-py==2026.9.1",
    "s3transfer==0.19.3",
    "six==1.17.0",
    "typing-extensions==4.16.0",
    "urllib3==2.8.0",
    "werkzeug==3.1.9",
    "xmltodict==1.0.4",
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
