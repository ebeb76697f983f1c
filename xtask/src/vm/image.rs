//! The first file system of a guest: busybox, the modules that find the host's files, and the job.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::VmRequest;
use super::cpio::Archive;
use super::kernels::{Kernel, load_order};

const BUSYBOX: &str = "/bin/busybox";
const INIT: &str = include_str!("init.sh");
/// What it takes to talk to the host and to lay memory over its files. Each is a module on some of
/// the kernels and a part of the image on others.
const MODULES: [&str; 4] = ["virtio_pci", "virtio_console", "virtiofs", "overlay"];

/// Folders that the guest has in memory, empty.
const HIDDEN: [&str; 2] = ["/tmp", "/run"];

/// Builds the archive. It takes less time than finding out whether an older one would still do.
pub(crate) fn build(kernel: &Kernel, request: &VmRequest) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "proc", "sys", "dev", "modules", "job"] {
        archive.folder(folder);
    }
    let busybox = fs::read(BUSYBOX).with_context(|| format!("could not read {BUSYBOX}"))?;
    archive.program("bin/busybox", &busybox);
    archive.program("init", INIT.as_bytes());
    add_modules(kernel, &mut archive)?;
    add_job(kernel, request, &mut archive)?;
    Ok(archive.finish())
}

fn add_modules(kernel: &Kernel, archive: &mut Archive) -> Result<()> {
    let folder = kernel.modules().join(&kernel.release);
    let index = folder.join("modules.dep");
    let index = fs::read_to_string(&index).with_context(|| {
        format!(
            "{} is gone: remove {}",
            index.display(),
            kernel.modules().display()
        )
    })?;
    let mut order = String::new();
    for (number, file) in load_order(&index, &MODULES).iter().enumerate() {
        archive.file(
            &format!("modules/{number}"),
            &read_module(&folder.join(file))?,
        );
        writeln!(order, "{number}")?;
    }
    archive.file("modules/order", order.as_bytes());
    Ok(())
}

/// Reads a module, which may be packed.
fn read_module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("could not read {}", path.display()));
    }
    let unpacked = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(path)
        .output()?;
    ensure!(
        unpacked.status.success(),
        "xz could not unpack {}",
        path.display()
    );
    Ok(unpacked.stdout)
}

fn add_job(kernel: &Kernel, request: &VmRequest, archive: &mut Archive) -> Result<()> {
    archive.file("job/command", script(request)?.as_bytes());
    archive.file("job/modules", line(&kernel.modules())?.as_bytes());
    let mut folders = String::new();
    for folder in request
        .folders
        .iter()
        .filter(|path| HIDDEN.iter().any(|top| path.starts_with(top)))
    {
        writeln!(folders, "{}", line(folder)?)?;
    }
    archive.file("job/folders", folders.as_bytes());
    if request.boots {
        archive.file("job/boots", &[]);
    }
    if request.share.is_some() {
        archive.file("job/share", &[]);
    }
    Ok(())
}

/// A path that fits on a line of its own.
fn line(path: &Path) -> Result<&str> {
    let text = path.to_str().filter(|text| !text.contains('\n'));
    text.with_context(|| format!("{} cannot be handed to a virtual machine", path.display()))
}

/// The shell script that sets the scene and becomes the command.
fn script(request: &VmRequest) -> Result<String> {
    let path: Vec<_> = request
        .programs
        .iter()
        .map(PathBuf::as_path)
        .map(line)
        .collect::<Result<_>>()?;
    let path = path
        .into_iter()
        .chain([super::PATH])
        .collect::<Vec<_>>()
        .join(":");
    let mut script = format!("cd {} || exit 125\n", quoted(line(&request.directory)?));
    let own = [
        ("PATH", path.as_str()),
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
    ];
    let given = request
        .environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in own.into_iter().chain(given) {
        writeln!(script, "export {name}={}", quoted(value))?;
    }
    let words: Vec<_> = request.command.iter().map(|word| quoted(word)).collect();
    writeln!(script, "exec {}", words.join(" "))?;
    Ok(script)
}

/// The text as one word of a shell script.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_stays_one_word() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's; $HOME"), r"'it'\''s; $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
