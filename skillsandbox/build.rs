//! Builds the eBPF programs with this very toolchain and puts their ELF where the crate embeds it.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, exit},
};

const REMEDY: &str = "run `cargo xtask setup` once, then build again";

fn main() {
    let root = variable("CARGO_MANIFEST_DIR").join("..");
    let linker = root.join("target/tools/bin/bpf-linker");
    println!(
        "cargo::rerun-if-changed={}",
        root.join("skillsandbox-ebpf").display()
    );
    println!(
        "cargo::rerun-if-changed={}",
        root.join("skillsandbox-common").display()
    );
    println!("cargo::rerun-if-changed={}", linker.display());

    let sysroot = sysroot();
    if !linker.is_file() {
        stop(&format!(
            "the eBPF linker is not at target/tools/bin/bpf-linker: {REMEDY}"
        ));
    }
    if !sysroot
        .join("lib/rustlib/src/rust/library/core/Cargo.toml")
        .is_file()
    {
        stop(&format!(
            "the source of Rust's core library is not installed: {REMEDY}"
        ));
    }
    let elf = build(&root, &linker, &sysroot);
    let target = variable("OUT_DIR").join("skillsandbox.bpf.o");
    if let Err(error) = fs::copy(&elf, &target) {
        stop(&format!(
            "cannot copy {} to {}: {error}",
            elf.display(),
            target.display()
        ));
    }
}

fn build(root: &Path, linker: &Path, sysroot: &Path) -> PathBuf {
    let target_dir = root.join("target/bpf");
    let mut flags =
        OsString::from("-Cdebuginfo=2\x1f-Ctarget-cpu=v3\x1f-Clink-arg=--btf\x1f-Clinker=");
    flags.push(linker);
    // `pt_regs` and the syscall numbers are those of the machine that is built for.
    flags.push(format!(
        "\x1f--cfg=bpf_target_arch=\"{}\"",
        env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default()
    ));

    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(root)
        .args([
            "build",
            "--package",
            "skillsandbox-ebpf",
            "--profile",
            "bpf",
            "--locked",
        ])
        .args([
            "--target",
            "bpfel-unknown-none",
            "-Z",
            "build-std=core",
            "--target-dir",
        ])
        .arg(&target_dir)
        // The same compiler as for the rest, with `-Z build-std` unlocked.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        // bpf-linker loads the toolchain's own LLVM.
        .env("LD_LIBRARY_PATH", sysroot.join("lib"))
        .env_remove("RUSTC")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    if env::var_os("CARGO_FEATURE_BPF_LOG").is_some() {
        cargo.args(["--features", "log"]);
    }
    let output = match cargo.output() {
        Ok(output) => output,
        Err(error) => stop(&format!(
            "cannot start cargo for the eBPF programs: {error}"
        )),
    };
    let messages = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{messages}");
        stop("the eBPF programs do not build; cargo's messages are above");
    }
    for line in messages
        .lines()
        .filter(|line| line.starts_with("warning: unused"))
    {
        println!("cargo::warning={line}");
    }
    target_dir.join("bpfel-unknown-none/bpf/skillsandbox-ebpf")
}

fn sysroot() -> PathBuf {
    match Command::new(variable("RUSTC"))
        .args(["--print", "sysroot"])
        .output()
    {
        Ok(output) if output.status.success() => {
            PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
        }
        _ => stop("rustc does not tell its sysroot"),
    }
}

fn variable(name: &str) -> PathBuf {
    match env::var_os(name) {
        Some(value) => value.into(),
        None => stop(&format!("cargo did not set {name}")),
    }
}

fn stop(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
