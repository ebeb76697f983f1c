//! The source of `core`, from which the eBPF programs' own `core` is built.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::apt::{Suite, Unfinished};
use crate::setup::Outcome;
use crate::{paths, process, version};

/// rustup waits for ever where its servers are out of reach.
const RUSTUP_PATIENCE: Duration = Duration::from_secs(30);
/// Suites that have had the compiler's sources, the likeliest first.
const SUITES: [&str; 3] = ["trixie-backports", "sid", "trixie"];

/// Puts the source where cargo looks for it.
pub(crate) fn ensure() -> Result<Outcome> {
    let place = sysroot()?.join("lib/rustlib/src/rust");
    if is_source(&place) {
        return Ok(Outcome::AlreadyThere);
    }
    let rustc = rustc_version()?;
    let cached = paths::cache()?.join("rust-src").join(&rustc);
    if is_source(&cached) {
        link(&cached, &place)?;
        return Ok(Outcome::Done);
    }
    eprintln!(
        "fetching rust-src with rustup, for {} s at most…",
        RUSTUP_PATIENCE.as_secs()
    );
    let rustup = &mut Command::new("rustup");
    rustup
        .args(["component", "add", "rust-src"])
        .current_dir(paths::project());
    if process::succeeds_within(rustup, RUSTUP_PATIENCE) && is_source(&place) {
        return Ok(Outcome::Done);
    }
    eprintln!("rustup could not; taking Debian's package of the same version");
    fetch_from_debian(&rustc, &cached)?;
    link(&cached, &place)?;
    Ok(Outcome::Done)
}

/// The folder of the compiler that builds this project.
pub(crate) fn sysroot() -> Result<PathBuf> {
    let sysroot = process::stdout(rustc().args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(sysroot.trim_end()))
}

/// The version of that compiler, such as `1.95.0`.
pub(crate) fn rustc_version() -> Result<String> {
    let text = process::stdout(rustc().arg("--version"))?;
    let version = text.split_whitespace().nth(1);
    Ok(version
        .with_context(|| format!("rustc calls itself {text:?}"))?
        .to_owned())
}

fn rustc() -> Command {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(paths::project());
    rustc
}

fn is_source(folder: &Path) -> bool {
    folder.join("library/Cargo.lock").exists()
}

/// Downloads the source of this compiler version.
fn fetch_from_debian(rustc: &str, finished: &Path) -> Result<()> {
    for name in SUITES {
        let suite = Suite::open(name)?;
        suite.refresh()?;
        if let Some(version) = newest_package(rustc, suite.versions("rust-src")?) {
            let unfinished = Unfinished::start(finished)?;
            suite.unpack(&format!("rust-src={version}"), unfinished.path())?;
            let content = unfinished.path().join(format!("usr/src/rustc-{rustc}"));
            return unfinished.finish(&content);
        }
    }
    bail!("Debian has no rust-src {rustc}: try again when rustup's servers are in reach")
}

/// The newest of the packages that hold this very compiler's source.
fn newest_package(rustc: &str, versions: Vec<String>) -> Option<String> {
    let same = |version: &String| {
        version
            .strip_prefix(rustc)
            .is_some_and(|rest| rest.starts_with(['+', '-', '~']))
    };
    versions
        .into_iter()
        .filter(same)
        .max_by(|left, right| version::compare(left, right))
}

/// Links `place` to `source`, in place of a link that leads nowhere.
fn link(source: &Path, place: &Path) -> Result<()> {
    match fs::symlink_metadata(place) {
        Ok(found) if found.is_symlink() => fs::remove_file(place)?,
        Ok(_) => bail!("{} holds no complete source: remove it", place.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).context(place.display().to_string()),
    }
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    symlink(source, place).with_context(|| format!("could not create {}", place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_compiler_will_do() {
        let versions = [
            "1.96.0+dfsg1-1",
            "1.95.0+dfsg1-1",
            "1.95.0+dfsg1-2~bpo13+1",
            "1.95.01-1",
        ];
        let versions = versions.map(str::to_owned).to_vec();
        let newest = newest_package("1.95.0", versions.clone());
        assert_eq!(newest.as_deref(), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(newest_package("1.94.0", versions), None);
    }
}
