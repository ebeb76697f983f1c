//! `bpf-linker`, built against the compiler's own LLVM, so that no LLVM has to be installed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::Outcome;
use crate::{paths, process, rust_src};

const VERSION: &str = "0.13.0";
/// The LLVM of the compiler that `rust-toolchain.toml` names.
const LLVM_FEATURE: &str = "llvm-22";

/// Builds the linker where the build of the eBPF programs looks for it.
pub(crate) fn ensure() -> Result<Outcome> {
    let tools = paths::tools();
    if answers(&tools) {
        return Ok(Outcome::AlreadyThere);
    }
    let llvm = tools.join("llvm");
    link_llvm(&rust_src::sysroot()?.join("lib"), &llvm.join("lib64"))?;
    eprintln!("building bpf-linker {VERSION}, for a minute or two…");
    process::run(
        Command::new("cargo")
            .args([
                "install",
                "--quiet",
                "--locked",
                "--force",
                "bpf-linker",
                "--version",
                VERSION,
            ])
            .args([
                "--no-default-features",
                "--features",
                LLVM_FEATURE,
                "--root",
            ])
            .arg(&tools)
            .env("LLVM_PREFIX", &llvm)
            .current_dir(paths::project()),
    )?;
    Ok(Outcome::Done)
}

/// Whether the right version is there and finds its LLVM.
fn answers(tools: &Path) -> bool {
    let output = Command::new(tools.join("bin/bpf-linker"))
        .arg("--version")
        .output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(VERSION))
}

/// Makes `folder` look like an installed LLVM: the toolchain's library under its own name, which
/// the linker loads, and under the name that a linker's `-lLLVM` looks for.
fn link_llvm(toolchain: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    let library = fs::read_dir(toolchain)?
        .filter_map(Result::ok)
        .find(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("libLLVM.so.")
        })
        .with_context(|| format!("{} holds no libLLVM.so.*", toolchain.display()))?;
    for name in [library.file_name(), "libLLVM.so".into()] {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_ok() {
            fs::remove_file(&link)?;
        }
        symlink(library.path(), &link)
            .with_context(|| format!("could not create {}", link.display()))?;
    }
    Ok(())
}
