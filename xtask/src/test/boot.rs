//! The package in machines that boot: a Debian with the unit enabled, and a unit that it confines.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Report;
use super::programs::Package;
use super::tally::Tally;
use crate::process;
use crate::roots::RELEASES;
use crate::vm::kernels::Series;
use crate::vm::{self, Echo, VmRequest};

/// What is put into the Debian, and where.
const FILES: [(&str, &str); 7] = [
    (
        "etc/systemd/system/demo.service",
        include_str!("../../../tests/boot/demo.service"),
    ),
    (
        "etc/systemd/system/check.service",
        include_str!("../../../tests/boot/check.service"),
    ),
    (
        "etc/skillsandbox/policies/demo.yaml",
        include_str!("../../../tests/boot/demo.yaml"),
    ),
    (
        "opt/demo.yaml",
        include_str!("../../../tests/boot/demo.yaml"),
    ),
    ("opt/demo.sh", include_str!("../../../tests/boot/demo.sh")),
    ("opt/check.sh", include_str!("../../../tests/boot/check.sh")),
    ("srv/agent/data", "data\n"),
];
/// An emulated machine boots in a minute, and what is waited for in it in two.
const PATIENCE: Duration = Duration::from_mins(15);
/// Boots of one Debian: what is set up in the first is there in the second.
const BOOTS: usize = 2;

/// A folder that goes when it is dropped.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is clutter.
        let _ = Command::new("rm").arg("-rf").arg(&self.0).status();
    }
}

/// Boots each release with the package in it, side by side.
pub(super) fn all(package: &Package) -> Result<Vec<Report>> {
    thread::scope(|scope| {
        let booted: Vec<_> = RELEASES
            .iter()
            .map(|release| scope.spawn(|| of(package, release)))
            .collect();
        booted
            .into_iter()
            .map(|booted| {
                booted
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

/// Boots this release with the package in it, under the kernel that Debian 13 has.
pub(super) fn of(package: &Package, release: &str) -> Result<Report> {
    let series = Series::V6_12;
    let place = format!("Debian {release} on Linux {series}");
    eprintln!("booting {place}…");
    let root = Folder(std::env::temp_dir().join(format!(
        "skillsandbox-boot-{release}-{}",
        std::process::id()
    )));
    fs::create_dir(&root.0).with_context(|| format!("cannot make {}", root.0.display()))?;
    install(package, release, &root.0)?;
    let mut tally = Tally::default();
    for _ in 0..BOOTS {
        let mut request = VmRequest::new(series, Vec::new());
        request.share = Some(root.0.clone());
        request.boots = true;
        request.timeout = PATIENCE;
        request.echo = Echo::Lines(format!("{place} | "));
        let outcome = vm::run(&request)?;
        if let Some(trouble) = outcome.trouble() {
            println!("error: {place}: {trouble}");
        }
        tally += Tally::of(&outcome.stdout).expect(1);
    }
    Ok(Report {
        place,
        tally,
        left_to: "nobody",
    })
}

fn install(package: &Package, release: &str, root: &Path) -> Result<()> {
    let archive = package.roots.join(format!("{release}.tar"));
    process::run(
        Command::new("tar")
            .arg("-C")
            .arg(root)
            .arg("-xf")
            .arg(archive),
    )?;
    fs::copy(&package.file, root.join("new.deb")).context("cannot copy the package")?;
    process::run(
        Command::new("chroot")
            .arg(root)
            .args(["dpkg", "-i", "/new.deb"])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    )?;
    for (path, content) in FILES {
        let file = root.join(path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    }
    fs::write(root.join("srv/secret"), "secret\n")?;
    process::run(
        Command::new("chroot")
            .arg(root)
            .args([
                "systemctl",
                "enable",
                "--quiet",
                "demo.service",
                "check.service",
            ])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    )
}
