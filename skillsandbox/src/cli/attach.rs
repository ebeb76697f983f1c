//! `skillsandbox attach`, `detach`, `reload` and `ps`.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use skillsandbox_common::rule::Access;

use super::{audit, exit, run};
use crate::{
    audit::text::{Escaped, Quoted},
    manifest::Mode,
    supervise::attach::{self, AttachRequest, Listed, OpenFile, Recorded, Told},
};

/// Files that stay open which are named one by one.
const OPEN_SHOWN_MAX: usize = 50;

/// Hold a policy in a cgroup that is there already, and record what happens in it.
///
/// The policy stays in force when this command ends, however it ends: what is recorded then waits in the kernel, as
/// long as there is room, for the next `attach` of this name, which needs no more than --name. `detach` takes the policy
/// away.
#[derive(Args)]
#[command(after_help = HELP)]
pub(super) struct AttachArguments {
    /// The cgroup, of version 2: /system.slice/agent.service, or its folder [default: what the manifest has as `cgroup`].
    #[arg(long, value_name = "PATH", requires = "manifest")]
    cgroup: Option<PathBuf>,
    /// The manifest.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The name that `detach`, `reload` and `ps` know it by, and the sandbox of its records.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Deny what the policy does not grant, or only record that [default: as the manifest says, or as it was].
    #[arg(long, value_enum, value_name = "MODE")]
    mode: Option<ModeName>,
    /// Attach also where the kernel lets no eBPF program decide on files and programs, or (before Linux 6.12) on the names of
    /// files: the other rules hold.
    #[arg(long)]
    accept_fallback: bool,
    /// Show every access on standard error as it happens.
    #[arg(long, short)]
    watch: bool,
    /// Keep every access in the audit store of this folder, made if it is not there.
    #[arg(long, value_name = "DIR", default_value = audit::FOLDER)]
    audit_dir: PathBuf,
    /// Look names up at this resolver, ADDRESS or ADDRESS:PORT [default: those of /etc/resolv.conf]. Can be given more
    /// than once.
    #[arg(long, value_name = "ADDRESS", value_parser = run::resolver)]
    resolver: Vec<SocketAddr>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeName {
    /// Deny.
    Enforce,
    /// Only record what would be denied.
    Audit,
}

const HELP: &str = "Exit codes:
  0    recording was ended by a signal, `detach`, or the end of the cgroup
  120  the manifest is refused, or asks for what is not enforced yet
  121  the host lacks what is needed: root, eBPF that decides on files
  122  it could not be attached, or gone on with
  123  something could not be kept: the policy is in force, and the next `attach` of the name goes on";

/// Take the policy of an attached cgroup away, and complete its record.
#[derive(Args)]
pub(super) struct DetachArguments {
    /// The name that it was attached under.
    #[arg(value_name = "NAME", required_unless_present = "all")]
    name: Option<String>,
    /// Detach every cgroup. What a daemon attached it attaches again, as long as it runs.
    #[arg(long, conflicts_with = "name")]
    all: bool,
}

/// Give an attached cgroup another policy: each access is decided by the one or the other.
#[derive(Args)]
pub(super) struct ReloadArguments {
    /// The name that it was attached under.
    #[arg(value_name = "NAME")]
    name: String,
    /// The manifest [default: the file that the last one came from].
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

/// List the cgroups that are attached.
#[derive(Args)]
pub(super) struct PsArguments {
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

pub(super) fn attach(arguments: &AttachArguments) -> anyhow::Result<ExitCode> {
    let request = AttachRequest {
        name: arguments.name.clone(),
        cgroup: arguments.cgroup.clone(),
        manifest: absolute(arguments.manifest.as_deref())?,
        store: std::path::absolute(&arguments.audit_dir)?,
        mode: arguments.mode.map(|mode| match mode {
            ModeName::Enforce => Mode::Enforce,
            ModeName::Audit => Mode::Audit,
        }),
        accept_fallback: arguments.accept_fallback,
        resolvers: arguments.resolver.clone(),
        watch: arguments.watch,
    };
    let recorded = super::block_on(async { Ok(attach::attach(&request, &say).await?) })?;
    let name = &arguments.name;
    say_line(&match recorded {
        Recorded::Left => format!(
            "{name} is not recorded any more; its policy stays in force: `skillsandbox attach --name {name}` records on, `skillsandbox detach {name}` takes it away"
        ),
        Recorded::Detached => format!("{name} is detached, and its record complete"),
        Recorded::Gone => format!("the cgroup of {name} is gone, and its record complete"),
        Recorded::Failed => format!(
            "{name} is not recorded any more: its policy stays in force, and what was not kept waits for the next `skillsandbox attach --name {name}`"
        ),
    });
    Ok(match recorded {
        Recorded::Failed => ExitCode::from(exit::RECORD),
        _ => ExitCode::SUCCESS,
    })
}

pub(super) fn detach(arguments: &DetachArguments) -> anyhow::Result<ExitCode> {
    let names = match &arguments.name {
        Some(name) => vec![name.clone()],
        None => attach::list()?.into_iter().map(|one| one.name).collect(),
    };
    let mut failed = 0;
    for name in &names {
        if let Err(error) = attach::detach(name) {
            if arguments.name.is_some() {
                return Err(error.into());
            }
            // The others are to be detached all the same.
            tracing::error!("{name}: {error}");
            failed += 1;
        }
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {} cgroups are still attached", names.len());
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn reload(arguments: &ReloadArguments) -> anyhow::Result<ExitCode> {
    attach::reload(&arguments.name, arguments.manifest.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn ps(arguments: &PsArguments) -> anyhow::Result<ExitCode> {
    let listed = attach::list()?;
    let mut out = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &listed)?;
        writeln!(out)?;
    } else {
        table(&mut out, &listed)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn absolute(path: Option<&Path>) -> io::Result<Option<PathBuf>> {
    path.map(std::path::absolute).transpose()
}

fn table(out: &mut impl Write, listed: &[Listed]) -> io::Result<()> {
    let width = |of: fn(&Listed) -> usize, least: usize| {
        listed.iter().map(of).max().unwrap_or_default().max(least)
    };
    let place = |one: &Listed| one.cgroup.as_ref().map_or(1, |path| path.as_os_str().len());
    let (name, cgroup) = (width(|one| one.name.len(), 4), width(place, 6));
    writeln!(
        out,
        "{:name$}  {:10}  {:8}  {:cgroup$}  {:>9}  {:>9}  {:>9}  {:>7}",
        "NAME", "STATE", "TIER", "CGROUP", "PROCESSES", "DECISIONS", "DENIED", "DROPPED"
    )?;
    for one in listed {
        let place = one.cgroup.as_ref().map_or_else(
            || "-".to_owned(),
            |path| Escaped(path.as_os_str().as_encoded_bytes()).to_string(),
        );
        writeln!(
            out,
            "{:name$}  {:10}  {:8}  {place:cgroup$}  {:>9}  {:>9}  {:>9}  {:>7}",
            one.name,
            one.state.as_str(),
            one.tier.unwrap_or("-"),
            one.processes,
            one.decisions,
            one.denied,
            one.dropped
        )?;
    }
    Ok(())
}

fn say(told: Told) {
    say_of("", told);
}

/// Says what is told, each line after this.
pub(super) fn say_of(before: &str, told: Told) {
    match told {
        Told::InForce(name, cgroup, unheld) => {
            let cgroup = Escaped(cgroup.as_os_str().as_encoded_bytes()).to_string();
            let but = unheld.map_or_else(String::new, |unheld| {
                format!(", and NOTHING DECIDES there on {unheld}")
            });
            say_line(&format!("{name}: the policy is in force in {cgroup}{but}"));
        }
        Told::StayOpen(files) => {
            for OpenFile {
                process,
                path,
                access,
            } in files.iter().take(OPEN_SHOWN_MAX)
            {
                let what = match access & Access::WRITE {
                    0 => "reading",
                    _ => "writing",
                };
                say_line(&format!(
                    "{before}process {process} keeps {} open for {what}, which the policy denies: it was opened before",
                    Quoted(path)
                ));
            }
            let more = files.len().saturating_sub(OPEN_SHOWN_MAX);
            if more > 0 {
                say_line(&format!(
                    "{before}and {more} files more stay open that the policy denies"
                ));
            }
        }
        Told::RunEnded(store) => {
            if let Err(error) = audit::seal_in_background(&store) {
                tracing::error!("the audit store's logs are not sealed: {error:#}");
            }
        }
    }
}

#[expect(clippy::print_stderr, reason = "the command's own voice")]
pub(super) fn say_line(text: &str) {
    eprintln!("{text}");
}
