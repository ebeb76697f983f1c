//! A Debian package: the program, its unit, manual pages, completions, and example policies.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages::{self, Need};
use crate::{build, paths, process};

/// Files of the project, where they go, and with which mode.
const FILES: &[(&str, &str, u32)] = &[
    (
        "packaging/skillsandbox.service",
        "usr/lib/systemd/system/skillsandbox.service",
        0o644,
    ),
    ("packaging/postinst", "DEBIAN/postinst", 0o755),
    ("packaging/prerm", "DEBIAN/prerm", 0o755),
    ("packaging/postrm", "DEBIAN/postrm", 0o755),
];
/// Folders whose files all go to one place.
const FOLDERS: &[(&str, &str)] = &[
    ("docs", DOCUMENTATION),
    ("packaging/examples", "usr/share/doc/skillsandbox/examples"),
];
const DOCUMENTATION: &str = "usr/share/doc/skillsandbox";
/// Where completions go, by what they end with.
const COMPLETIONS: &[(&str, &str)] = &[
    (
        "skillsandbox.bash",
        "usr/share/bash-completion/completions/skillsandbox",
    ),
    (
        "skillsandbox.fish",
        "usr/share/fish/vendor_completions.d/skillsandbox.fish",
    ),
    (
        "_skillsandbox",
        "usr/share/zsh/vendor-completions/_skillsandbox",
    ),
];

const COPYRIGHT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: skillsandbox
Source: https://github.com/skillsandbox/skillsandbox

Files: *
Copyright: the authors of SkillSandbox
License: MIT or Apache-2.0
";

/// What to make.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The program that is packed, in place of a release that is built first
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Builds a release and makes its package.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = if let Some(program) = &options.program {
        program.clone()
    } else {
        build::run(&build::Options::release())?;
        paths::target().join("release/skillsandbox")
    };
    let package = of(&program)?;
    println!("{}", package.display());
    Ok(())
}

/// Makes a package of this program, and returns its path.
pub(crate) fn of(program: &Path) -> Result<PathBuf> {
    packages::ensure(&[Need::Package])?;
    eprintln!("making the package…");
    let folder = paths::target().join("package");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("cannot remove the last package")?;
    }
    let root = folder.join("root");
    copy(program, &root.join("usr/bin/skillsandbox"), 0o755)?;
    process::run(
        Command::new("strip")
            .arg("--strip-unneeded")
            .arg(root.join("usr/bin/skillsandbox")),
    )?;
    for (from, to, mode) in FILES {
        copy(&paths::project().join(from), &root.join(to), *mode)?;
    }
    for (from, to) in FOLDERS {
        for file in files(&paths::project().join(from))? {
            copy(&file, &root.join(to).join(name(&file)), 0o644)?;
        }
    }
    let documentation = root.join(DOCUMENTATION);
    copy(
        &paths::project().join("README.md"),
        &documentation.join("README.md"),
        0o644,
    )?;
    compressed(
        &paths::project().join("CHANGELOG.md"),
        &documentation.join("changelog.gz"),
    )?;
    write(&documentation.join("copyright"), COPYRIGHT)?;
    reference(&folder.join("reference"), &root)?;
    for kept in ["etc/skillsandbox", "etc/skillsandbox/policies"] {
        fs::create_dir_all(root.join(kept))?;
    }
    write(&root.join("DEBIAN/control"), &control(&folder, &root)?)?;
    for made in everything(&root)? {
        if made.is_dir() {
            fs::set_permissions(&made, fs::Permissions::from_mode(0o755))?;
        }
    }
    let package = folder.join(format!(
        "skillsandbox_{}_{}.deb",
        env!("CARGO_PKG_VERSION"),
        architecture()?
    ));
    process::run(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .args([&root, &package]),
    )?;
    Ok(package)
}

/// Manual pages and completions, which the program's own description of its command line becomes.
fn reference(folder: &Path, root: &Path) -> Result<()> {
    process::run(
        build::cargo("run")
            .args(["--quiet", "--package", "skillsandbox"])
            .args(["--example", "reference", "--"])
            .arg(folder),
    )?;
    for (from, to) in COMPLETIONS {
        copy(&folder.join(from), &root.join(to), 0o644)?;
    }
    for file in files(folder)? {
        if file.extension().is_some_and(|section| section == "1") {
            let to = format!("usr/share/man/man1/{}.gz", name(&file));
            compressed(&file, &root.join(to))?;
        }
    }
    Ok(())
}

/// What the package says of itself.
fn control(folder: &Path, root: &Path) -> Result<String> {
    let sizes = everything(root)?.into_iter().map(|path| path.metadata());
    let bytes: u64 = sizes.flatten().map(|found| found.len()).sum();
    Ok(format!(
        "Package: skillsandbox
Version: {version}
Architecture: {architecture}
Maintainer: the authors of SkillSandbox <skillsandbox@invalid>
Installed-Size: {size}
Depends: {libraries}, adduser
Recommends: iptables
Section: admin
Priority: optional
Homepage: https://github.com/skillsandbox/skillsandbox
Description: monitor and sandbox for the code that AI agents run
 A manifest says which hosts, files, programs and environment variables the code
 may use. eBPF programs attached to its cgroup decide on every connect, open and
 execve, and put every access, allowed or denied, on record.
",
        version = env!("CARGO_PKG_VERSION"),
        architecture = architecture()?,
        size = bytes.div_ceil(1024),
        libraries = libraries(folder, root)?,
    ))
}

/// The packages of the libraries that the program is linked to, in the versions that it needs.
fn libraries(folder: &Path, root: &Path) -> Result<String> {
    // It is told of a source package, and looks for nothing in it.
    write(
        &folder.join("debian/control"),
        "Source: skillsandbox\n\nPackage: skillsandbox\nArchitecture: any\n",
    )?;
    let said = process::stdout(
        Command::new("dpkg-shlibdeps")
            .arg("-O")
            .arg(root.join("usr/bin/skillsandbox"))
            .current_dir(folder),
    )?;
    let found = said.trim().strip_prefix("shlibs:Depends=");
    found
        .map(str::to_owned)
        .with_context(|| format!("dpkg-shlibdeps says {said:?}"))
}

fn architecture() -> Result<String> {
    let said = process::stdout(Command::new("dpkg").arg("--print-architecture"))?;
    Ok(said.trim().to_owned())
}

/// The files of a folder, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A folder and all that is in it.
fn everything(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(everything(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    make_folder_of(to)?;
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

fn write(to: &Path, content: &str) -> Result<()> {
    make_folder_of(to)?;
    fs::write(to, content).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(0o644))?)
}

fn compressed(from: &Path, to: &Path) -> Result<()> {
    make_folder_of(to)?;
    let file = fs::File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644))?;
    // Without name and time, so that the same content makes the same package.
    process::run(
        Command::new("gzip")
            .args(["-9", "-n", "-c"])
            .arg(from)
            .stdout(file),
    )
}

fn make_folder_of(file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}
