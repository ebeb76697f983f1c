//! What can be said about the code without running it.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::tools::Tool;
use crate::{build, paths, process};

/// The format and the compiler's lints.
pub(crate) fn quick() -> Result<()> {
    build::prepare()?;
    eprintln!("checking the format…");
    process::run(build::cargo("fmt").args(["--all", "--check"]))?;
    eprintln!("checking the lints…");
    process::run(
        build::cargo("clippy")
            .args([
                "--workspace",
                "--exclude",
                "skillsandbox-ebpf",
                "--all-targets",
                "--quiet",
            ])
            .args(["--", "-D", "warnings"]),
    )
}

/// All of it, even after something was found.
pub(crate) fn run() -> Result<()> {
    let mut found = 0;
    for check in [quick, origins, unused] {
        if let Err(error) = check() {
            eprintln!("error: {error:#}");
            found += 1;
        }
    }
    ensure!(found == 0, "{found} of the checks failed");
    Ok(())
}

/// Where dependencies come from, and on what terms.
fn origins() -> Result<()> {
    let deny = tool("cargo-deny", "0.20.2");
    deny.ensure()?;
    eprintln!("checking where dependencies come from and on what terms…");
    process::run(at_the_top(&deny).args(["check", "bans", "licenses", "sources"]))
}

/// Whether all dependencies are used.
fn unused() -> Result<()> {
    let machete = tool("cargo-machete", "0.9.2");
    machete.ensure()?;
    eprintln!("checking that all dependencies are used…");
    process::run(&mut at_the_top(&machete))
}

fn tool(name: &'static str, version: &'static str) -> Tool {
    Tool {
        name,
        version,
        features: "",
        profile: "dev",
        environment: Vec::new(),
    }
}

fn at_the_top(tool: &Tool) -> Command {
    let mut command = Command::new(tool.program());
    command.current_dir(paths::project());
    command
}
