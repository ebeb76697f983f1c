//! The programs that behaviour tests consist of, and those that they test.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{build, package, process, python, roots};

/// Built programs.
pub(crate) struct Programs {
    /// The test programs, one per file.
    pub(crate) tests: Vec<String>,
    /// The tested program, as users have it.
    plain: PathBuf,
    /// The tested program, which can also leave out layers.
    layered: PathBuf,
    /// What attacks it.
    attacker: PathBuf,
    /// Where Python finds what the tests need of it.
    python: PathBuf,
    /// The package, and the folder of root file systems to install it in.
    pub(crate) package: Option<Package>,
}

/// A package, and where it is tried.
pub(crate) struct Package {
    pub(crate) file: PathBuf,
    /// The folder of root file systems.
    pub(crate) roots: PathBuf,
}

impl Package {
    /// Packs this program.
    pub(crate) fn of(program: &Path) -> Result<Self> {
        Ok(Self {
            file: package::of(program)?,
            roots: roots::ensure()?,
        })
    }
}

impl Programs {
    /// Builds all of them.
    pub(crate) fn build() -> Result<Self> {
        eprintln!("building the programs and their tests…");
        let layered = build::layered()?;
        Ok(Self {
            layered,
            // After that one, in whose place it is put.
            plain: build::plain()?,
            package: None,
            attacker: build::attacker()?,
            tests: tests()?,
            python: python::packages()?,
        })
    }

    /// Makes a package of the tested program. What is tested of it is the same without the minutes that a release takes.
    pub(crate) fn packaged(self) -> Result<Self> {
        let package = Some(Package::of(&self.plain)?);
        Ok(Self { package, ..self })
    }

    /// Where the tests find the programs that they test.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut variables = vec![
            ("SKILLSANDBOX_BIN".to_owned(), text(&self.layered)),
            ("SKILLSANDBOX_PLAIN_BIN".to_owned(), text(&self.plain)),
            ("ATTACKER_BIN".to_owned(), text(&self.attacker)),
            ("PYTHON_PACKAGES".to_owned(), text(&self.python)),
        ];
        if let Some(Package { file, roots }) = &self.package {
            variables.push(("PACKAGE".to_owned(), text(file)));
            variables.push(("ROOTS".to_owned(), text(roots)));
        }
        variables
    }
}

/// The arguments with which we run test programs one after the other, without those programs.
pub(crate) fn suite(skip: &str) -> [String; 5] {
    // In parallel the tests would count each other's cgroups, rules and programs.
    ["suite", "--serial", "--skip", skip, "--"].map(str::to_owned)
}

/// Builds the behaviour tests and returns their paths.
fn tests() -> Result<Vec<String>> {
    let mut cargo = build::cargo("test");
    cargo.args(["--package", "skillsandbox-tests", "--tests", "--no-run"]);
    let messages = process::stdout(cargo.arg("--message-format=json-render-diagnostics"))?;
    let mut tests = executables(&messages)?;
    tests.sort();
    Ok(tests)
}

/// The integration tests among the artifacts that cargo reports.
fn executables(messages: &str) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("cargo reports no JSON")?;
        let kind = message.pointer("/target/kind/0").and_then(Value::as_str);
        let executable = message.get("executable").and_then(Value::as_str);
        if let (Some("test"), Some(path)) = (kind, executable) {
            paths.push(path.to_owned());
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_integration_tests_are_test_programs() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"]},"executable":"/t/lib-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["test"]},"executable":"/t/files-2"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"]},"executable":null}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executables(messages).expect("valid JSON"), ["/t/files-2"]);
        assert!(executables("error: no").is_err());
    }
}
