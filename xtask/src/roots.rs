//! Root file systems of Debian that the package is installed in, packed up, for tests.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages::{self, Need};
use crate::{apt, paths, process};

/// The releases that the package is for.
pub(crate) const RELEASES: [&str; 2] = ["bookworm", "trixie"];
/// What they have beside what every Debian has: what the package needs, so that it installs without a network, and what a host has.
const WITH: &str = "adduser,dbus,iptables,iproute2,libgcc-s1,python3-minimal,systemd-sysv";

/// The folder of `RELEASE.tar`; what is missing is brought.
pub(crate) fn ensure() -> Result<PathBuf> {
    let folder = paths::cache()?.join("roots");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for release in RELEASES {
        let finished = folder.join(format!("{release}.tar"));
        if finished.exists() {
            continue;
        }
        packages::ensure(&[Need::Package])?;
        eprintln!("bringing a root file system of Debian {release}, once, for a minute or two…");
        let made = folder.join(format!("{release}-{}.new.tar", std::process::id()));
        let made_of = process::run(
            Command::new("mmdebstrap")
                .args(["--quiet", "--variant=minbase", "--mode=root"])
                .arg(format!("--include={WITH}"))
                .arg(release)
                .arg(&made)
                .arg(apt::mirror()?),
        );
        if made_of.is_err() {
            // What there is of it is no root file system.
            let _ = fs::remove_file(&made);
        }
        made_of?;
        fs::rename(&made, &finished)?;
    }
    Ok(folder)
}
