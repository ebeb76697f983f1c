//! Where things are: the project, what it builds, and what many clones of it share.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The top folder of the project.
pub(crate) fn project() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// The folder of everything that is built.
pub(crate) fn target() -> PathBuf {
    project().join("target")
}

/// The folder of the tools that the build needs, laid out as cargo installs them.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// The folder of downloads that many clones share.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => env::home_dir()
            .context("no home folder: set HOME or XDG_CACHE_HOME")?
            .join(".cache"),
    };
    Ok(base.join("skillsandbox"))
}
