//! The Debian packages that the machine itself must have.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::setup::Outcome;

/// What a package is needed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Building the programs.
    Build,
    /// Starting virtual machines.
    Vm,
    /// The demo, on the host and in its machine.
    Demo,
    /// The behaviour tests, on the host and, through its file system, in the machines.
    Test,
    /// Measuring, against peers.
    Bench,
    /// Fuzzing.
    Fuzz,
    /// Making a package, and trying it.
    Package,
}

/// Each package, what needs it, and why.
const PACKAGES: &[(&str, Need, &str)] = &[
    (
        "gcc",
        Need::Build,
        "links programs and compiles the one C file in the bpf-linker's sources",
    ),
    ("libc6-dev", Need::Build, "what gcc links against"),
    (
        "debian-archive-keyring",
        Need::Build,
        "the keys of the Debian suites that we download from",
    ),
    (
        "qemu-system-x86",
        Need::Vm,
        "the virtual machines; brings virtiofsd, which shows them our files",
    ),
    (
        "busybox-static",
        Need::Vm,
        "the first programs of a virtual machine",
    ),
    (
        "kmod",
        Need::Vm,
        "depmod for the kernels' modules, modprobe in the machines",
    ),
    (
        "xz-utils",
        Need::Vm,
        "unpacks the modules that a machine starts with",
    ),
    (
        "python3",
        Need::Demo,
        "the example skills are written in it",
    ),
    ("curl", Need::Demo, "the stealer's way around Python"),
    (
        "iptables",
        Need::Test,
        "the second layer of the network rules",
    ),
    (
        "iproute2",
        Need::Test,
        "addresses and links of the tests' networks",
    ),
    ("strace", Need::Test, "an attacker's ptrace"),
    ("crun", Need::Test, "a container to attach a policy to"),
    (
        "dnsmasq-base",
        Need::Test,
        "the name server of the tests' networks",
    ),
    (
        "bind9-dnsutils",
        Need::Test,
        "dig, which asks name servers by hand",
    ),
    (
        "python3-pip",
        Need::Test,
        "brings the engines that read our segments and the schema of OCSF",
    ),
    ("curl", Need::Test, "an honest program"),
    ("git", Need::Test, "an honest program"),
    ("jq", Need::Test, "an honest program"),
    ("make", Need::Test, "an honest program"),
    (
        "musl-tools",
        Need::Test,
        "compiles an honest program that is linked statically",
    ),
    ("nodejs", Need::Test, "an honest program"),
    ("ripgrep", Need::Test, "an honest program"),
    ("sqlite3", Need::Test, "an honest program"),
    (
        "bpftrace",
        Need::Test,
        "an independent witness of what the kernel did",
    ),
    ("binutils", Need::Package, "takes the debugging symbols out"),
    (
        "dpkg-dev",
        Need::Package,
        "which packages the libraries of a program are of",
    ),
    (
        "mmdebstrap",
        Need::Package,
        "makes the root file systems that the package is tried in",
    ),
    (
        "g++",
        Need::Fuzz,
        "compiles the fuzzer, which is written in C++",
    ),
    ("strace", Need::Bench, "a peer"),
    ("bpftrace", Need::Bench, "a peer"),
    ("libbpf-tools", Need::Bench, "a peer"),
    ("python3-pip", Need::Bench, "brings a peer"),
    ("time", Need::Bench, "measures processor time and memory"),
    ("bubblewrap", Need::Bench, "a peer"),
    ("firejail", Need::Bench, "a peer"),
    ("nodejs", Need::Bench, "runs a peer"),
    ("ripgrep", Need::Bench, "what a peer needs"),
    ("socat", Need::Bench, "what a peer needs"),
    ("iptables", Need::Bench, "what we tell our rules to"),
    ("dnsmasq-base", Need::Bench, "a peer"),
    ("time", Need::Bench, "the most memory that a run had"),
    (
        "bpftool",
        Need::Bench,
        "what the kernel says that each eBPF program took",
    ),
];

/// Installs the packages that these needs call for and that are missing.
pub(crate) fn ensure(needs: &[Need]) -> Result<Outcome> {
    let wanted = PACKAGES.iter().filter(|(_, need, _)| needs.contains(need));
    let installed = installed()?;
    let missing: Vec<_> = wanted
        .filter(|(name, ..)| !installed.contains(*name))
        .collect();
    if missing.is_empty() {
        return Ok(Outcome::AlreadyThere);
    }
    let names: Vec<_> = missing.iter().map(|(name, ..)| *name).collect();
    if fs::metadata("/proc/self")
        .context("/proc is not mounted")?
        .uid()
        != 0
    {
        let names = names.join(" ");
        bail!("packages are missing: run `sudo apt-get install --no-install-recommends {names}`");
    }
    for (name, _, reason) in missing {
        eprintln!("{name} is missing: {reason}");
    }
    eprintln!("installing {}…", names.join(" "));
    process::run(apt_get().arg("update"))?;
    process::run(
        apt_get()
            .args(["install", "-y", "--no-install-recommends"])
            .args(names),
    )?;
    Ok(Outcome::Done)
}

/// The names of all installed packages.
fn installed() -> Result<BTreeSet<String>> {
    let table = process::stdout(Command::new("dpkg-query").args([
        "-W",
        "-f",
        "${db:Status-Status} ${Package}\n",
    ]))?;
    let names = table
        .lines()
        .filter_map(|line| line.strip_prefix("installed "));
    Ok(names.map(str::to_owned).collect())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-q", "-q", "-o", "Dpkg::Use-Pty=0"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}
