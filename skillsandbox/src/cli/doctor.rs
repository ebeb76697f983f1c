//! `skillsandbox doctor`: what this host offers, found by running `true` in a sandbox.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use crate::{
    audit::record::Layer,
    manifest::Manifest,
    supervise::{self, Options, Outcome, Request, Tier},
};

/// Find out what this host offers, by trying it.
#[derive(Args)]
pub(super) struct DoctorArguments {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A skill that needs nothing.
const MANIFEST: &[u8] =
    b"skill: {name: doctor, version: \"1\"}\npermissions: {}\nentrypoint: {command: \"true\", workdir: /}\n";

/// Permissions, and the layers that can hold each: names of the layers of a run, by their start.
const PERMISSIONS: &[(&str, &[&str])] = &[
    (
        "network egress, IPv4",
        &["ebpf connect4", "ebpf sendmsg4", "ebpf egress", "iptables"],
    ),
    (
        "network egress, IPv6",
        &["ebpf connect6", "ebpf sendmsg6", "ebpf egress", "ip6tables"],
    ),
    (
        "addresses of its own, listening, accepting",
        &[
            "ebpf bind4",
            "ebpf bind6",
            "ebpf ingress",
            "seccomp",
            "landlock",
        ],
    ),
    (
        "unix sockets of the host",
        &["ebpf unix_connect", "seccomp"],
    ),
    ("other kinds of sockets", &["ebpf socket_create", "seccomp"]),
    ("files: open", &["ebpf file_open", "mounts", "landlock"]),
    ("files: names that others obey", &["ebpf file_open"]),
    ("files: unlink", &["ebpf path_unlink", "mounts", "landlock"]),
    ("files: rename", &["ebpf path_rename", "mounts", "landlock"]),
    ("files: link", &["ebpf path_link", "mounts", "landlock"]),
    (
        "files: folders and links made",
        &["ebpf path_mkdir", "ebpf path_symlink", "mounts", "landlock"],
    ),
    (
        "files: folders removed",
        &["ebpf path_rmdir", "mounts", "landlock"],
    ),
    (
        "files: mode and owner",
        &["ebpf path_chmod", "ebpf path_chown", "mounts"],
    ),
    // Landlock too from version 3 on (Linux 6.2), which its layer's name does not tell.
    ("files: truncate", &["ebpf path_truncate", "mounts"]),
    ("exec", &["ebpf bprm_check", "landlock"]),
    ("executable mappings", &["ebpf mmap_file", "mounts"]),
    (
        "other processes",
        &["ebpf ptrace_access", "namespaces", "landlock"],
    ),
    ("system calls", &["seccomp", "privileges"]),
    ("memory", &["cgroup memory.max", "limits"]),
    ("processes", &["cgroup pids.max", "limits"]),
];

#[derive(Serialize)]
struct Report<'a> {
    tier: &'a str,
    /// Why it is not the kernel tier.
    why: Option<&'a str>,
    /// What would make it the kernel tier.
    remedy: Option<String>,
    kernel: String,
    /// What a reader of the audit should know of this host.
    notes: Vec<&'static str>,
    permissions: Vec<Permission<'a>>,
    layers: &'a [Layer],
    /// Whether every record of the trial was accounted for.
    audit_balanced: bool,
}

#[derive(Serialize)]
struct Permission<'a> {
    #[serde(rename = "permission")]
    name: &'a str,
    held_by: Vec<&'a str>,
    missing: Vec<&'a str>,
}

pub(super) fn run(arguments: &DoctorArguments) -> anyhow::Result<ExitCode> {
    let request = Request {
        manifest: Manifest::parse("doctor", MANIFEST)?,
        manifest_file: "doctor".to_owned(),
        skill_dir: PathBuf::from("/usr/share"),
        command: None,
        extra_arguments: Vec::new(),
        environment: Vec::new(),
        caller: None,
    };
    let outcome =
        super::block_on(async { Ok(supervise::run(&request, &Options::default()).await?) })?;
    let report = report(&outcome);
    let mut out = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        show(&mut out, &report).context("cannot write to standard output")?;
    }
    anyhow::ensure!(
        outcome.exit_code == Some(0),
        "`true` did not run in the sandbox: it ended with {:?}",
        outcome.exit_code
    );
    Ok(ExitCode::SUCCESS)
}

fn report(outcome: &Outcome) -> Report<'_> {
    let why = match &outcome.tier {
        Tier::Kernel => None,
        Tier::Fallback(reason) => Some(reason.as_str()),
    };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Report {
        tier: outcome.tier.as_str(),
        why,
        remedy: why.map(|_| remedy()),
        kernel: release.trim().to_owned(),
        notes: notes(&outcome.tier),
        permissions: PERMISSIONS
            .iter()
            .map(|(permission, wanted)| {
                let achieved = |name: &&&str| {
                    outcome
                        .layers
                        .iter()
                        .any(|layer| layer.name == **name && layer.achieved)
                };
                let (held_by, missing) = wanted.iter().partition::<Vec<&&str>, _>(achieved);
                Permission {
                    name: permission,
                    held_by: held_by.into_iter().copied().collect(),
                    missing: missing.into_iter().copied().collect(),
                }
            })
            .collect(),
        layers: &outcome.layers,
        audit_balanced: outcome.summary.accounting.balanced,
    }
}

/// The security modules of this kernel in their order, if securityfs is mounted.
fn security_modules() -> String {
    let list = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    list.trim().to_owned()
}

fn notes(tier: &Tier) -> Vec<&'static str> {
    let mut notes = Vec::new();
    let list = security_modules();
    let place = |name| list.split(',').position(|module| module == name);
    if *tier == Tier::Kernel && place("landlock") < place("bpf") && place("landlock").is_some() {
        notes.push(
            "landlock stands before bpf in the lsm= list: what it refuses is on no record; put bpf first",
        );
    }
    notes
}

/// What to change for the kernel tier.
fn remedy() -> String {
    let list = security_modules();
    let list = list.as_str();
    if list.is_empty() {
        "mount securityfs at /sys/kernel/security and look whether its file lsm lists bpf; if not, \
         start the kernel (6.0 or later, CONFIG_BPF_LSM=y) with bpf first in its lsm= list"
            .to_owned()
    } else if list.split(',').any(|name| name == "bpf") {
        "the kernel lists bpf in /sys/kernel/security/lsm and refuses the programs all the same: \
         run on a host whose kernel allows BPF trampolines"
            .to_owned()
    } else {
        format!("start the kernel with lsm=bpf,{list}")
    }
}

fn show(out: &mut impl Write, report: &Report<'_>) -> io::Result<()> {
    writeln!(out, "tier    {} (Linux {})", report.tier, report.kernel)?;
    if let Some(why) = report.why {
        writeln!(out, "why     {why}")?;
    }
    if let Some(remedy) = &report.remedy {
        writeln!(out, "remedy  {remedy}")?;
    }
    for note in &report.notes {
        writeln!(out, "note    {note}")?;
    }
    writeln!(out, "\npermission                              held by")?;
    for permission in &report.permissions {
        let held = if permission.held_by.is_empty() {
            "nothing".to_owned()
        } else {
            permission.held_by.join(", ")
        };
        writeln!(out, "{:<38}  {held}", permission.name)?;
    }
    writeln!(out, "\nlayer")?;
    for layer in report.layers {
        let mark = if layer.achieved { "holds  " } else { "MISSING" };
        writeln!(
            out,
            "{mark}  {:<22}  {}",
            layer.name,
            layer.detail.as_deref().unwrap_or("")
        )?;
    }
    Ok(())
}
