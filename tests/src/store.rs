//! An audit store, filled by runs and asked by commands.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::{
    sandbox::{Run, skillsandbox},
    scene::Scene,
};

/// Asks a store.
#[must_use]
pub fn audit(store: &Path, arguments: &[&str]) -> Output {
    let mut command = skillsandbox();
    command
        .args(["audit", "--audit-dir"])
        .arg(store)
        .args(arguments);
    command
        .stdin(Stdio::null())
        .output()
        .expect("skillsandbox starts")
}

/// What was answered, with this exit code.
#[track_caller]
pub fn told(output: &Output, code: i32) -> String {
    let (out, words) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
    let out = String::from_utf8_lossy(out).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words}\n{out}");
    out
}

/// A run whose records are kept in a store.
#[must_use]
pub fn kept(run: Run, store: &Path) -> Run {
    run.option("--audit-dir").option(store)
}

/// Has the C library's calls answered by these functions instead, in C: a disk that does what disks do.
pub fn on_a_disk(scene: &Scene, run: &mut Run, functions: &str) {
    let (source, library) = (scene.path("disk.c"), scene.path("disk.so"));
    fs::write(&source, functions).expect("a file");
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source);
    assert!(gcc.status().expect("gcc starts").success());
    run.command().env("LD_PRELOAD", &library);
}
