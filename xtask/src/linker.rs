//! `bpf-linker`, built against the compiler's own LLVM, so that no LLVM has to be installed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};

use crate::setup::Outcome;
use crate::tools::Tool;
use crate::{paths, rust_src};

/// Builds the linker where the build of the eBPF programs looks for it.
pub(crate) fn ensure() -> Result<Outcome> {
    let llvm = paths::tools().join("llvm");
    let linker = Tool {
        name: "bpf-linker",
        version: "0.13.0",
        // The LLVM of the compiler that `rust-toolchain.toml` names.
        features: "llvm-22",
        profile: "release",
        environment: vec![("LLVM_PREFIX", llvm.clone())],
    };
    // First, as the linker does not even start where the toolchain has moved since.
    link_llvm(&rust_src::sysroot()?.join("lib"), &llvm.join("lib64"))?;
    linker.ensure()
}

/// Makes `folder` look like an installed LLVM: the toolchain's library under its own name, which
/// the linker loads, and under the name that `-lLLVM` means.
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
        if fs::read_link(&link).is_ok_and(|target| target == library.path()) {
            continue;
        }
        if fs::symlink_metadata(&link).is_ok() {
            fs::remove_file(&link)?;
        }
        symlink(library.path(), &link)
            .with_context(|| format!("could not create {}", link.display()))?;
    }
    Ok(())
}
