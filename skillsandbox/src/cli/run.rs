//! `skillsandbox run`.

use std::{
    ffi::OsString,
    io::{self, Write},
    net::{AddrParseError, IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::exit;
use crate::{
    manifest::{FILE_NAME, Manifest, text::visible},
    policy::Tables,
    supervise::{
        self, Events, Options, Plan, Request, Streams,
        service::{self, SOCKET},
    },
};

/// Port of resolvers (RFC 1035, section 4.2).
const DNS: u16 = 53;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RequiredTier {
    /// eBPF must decide on every open and exec.
    Kernel,
}

/// Run a skill, or a command, in a sandbox of its own.
#[derive(Args)]
#[command(
    override_usage = "skillsandbox run [OPTIONS] SKILL_DIR [ARGS]...\n       \
                      skillsandbox run [OPTIONS] --manifest FILE -- COMMAND [ARGS]...",
    after_help = exit::HELP
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(super) struct RunArguments {
    /// The manifest [default: skillsandbox.yaml in `SKILL_DIR`].
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Execute nothing: show the compiled policy.
    #[arg(long)]
    dry_run: bool,
    /// Show every access on standard error as it happens.
    #[arg(long, short)]
    watch: bool,
    /// Write every access as JSON Lines to FILE, made anew, or `-` for standard output.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Keep every access in the audit store of this folder, made if it is not there; `skillsandbox audit`
    /// asks it [default: /var/lib/skillsandbox/audit, where that is there].
    #[arg(long, value_name = "DIR")]
    audit_dir: Option<PathBuf>,
    /// Write the trace of the whole run to FILE at its end.
    #[arg(long, value_name = "FILE")]
    trace_output: Option<PathBuf>,
    /// Refuse to start on less than this tier.
    #[arg(long, value_enum, value_name = "TIER")]
    require: Option<RequiredTier>,
    /// Run as this user [default: the caller behind sudo, else nobody]. Never root.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Give the skill our standard input [default: /dev/null].
    #[arg(long)]
    stdin: bool,
    /// On the kernel tier, record also the opens and execs that fail before eBPF is asked: paths
    /// that the sandbox does not have, file modes. Costs every process of the host a little.
    #[arg(long)]
    record_refused: bool,
    /// Look names up at this resolver, ADDRESS or ADDRESS:PORT [default: those of /etc/resolv.conf].
    /// Names of this host's /etc/hosts are answered from there. Can be given more than once.
    #[arg(long, value_name = "ADDRESS", value_parser = resolver)]
    resolver: Vec<SocketAddr>,
    /// Ask the daemon at this socket for the run, which needs no root [default, for who is not root:
    /// /run/skillsandbox.socket].
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Leave a layer out: ebpf, iptables, mounts, landlock, seccomp, namespaces. Only in builds for tests.
    #[cfg(feature = "test-layers")]
    #[arg(long, value_name = "LAYER", value_delimiter = ',', value_parser = layer)]
    without_layer: Vec<crate::isolate::report::Layer>,
    /// The skill's folder.
    #[arg(value_name = "SKILL_DIR", required_unless_present = "command")]
    skill_dir: Option<PathBuf>,
    /// Arguments after those of the manifest's entrypoint.
    #[arg(value_name = "ARGS")]
    arguments: Vec<OsString>,
    /// A command, in place of the manifest's entrypoint.
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<OsString>,
}

pub(super) fn run(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let (request, text) = request(arguments)?;
    if arguments.dry_run {
        let (plan, tables) = supervise::dry_run(&request)?;
        show(&plan, &tables).context("cannot write to standard output")?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(socket) = socket(arguments) {
        return ask(&socket, text, &request, arguments);
    }
    let options = options(arguments);
    let outcome = super::block_on(async { Ok(supervise::run(&request, &options).await?) })?;
    if let Some(folder) = &options.audit_dir
        && let Err(error) = super::audit::seal_in_background(folder)
    {
        tracing::error!("the audit store's logs are not sealed: {error:#}");
    }
    Ok(code(&request, outcome.exit_code, outcome.is_recorded()))
}

/// The daemon's socket, if the run is to be asked of it: root can make one itself.
fn socket(arguments: &RunArguments) -> Option<PathBuf> {
    let is_root = rustix::process::geteuid().is_root();
    let default = || (!is_root).then(|| PathBuf::from(SOCKET));
    arguments.socket.clone().or_else(default)
}

fn ask(
    socket: &Path,
    text: String,
    request: &Request,
    arguments: &RunArguments,
) -> anyhow::Result<ExitCode> {
    let options = Options {
        audit_dir: arguments.audit_dir.clone(),
        ..options(arguments)
    };
    let ended = service::ask(socket, text, request, &options)?;
    Ok(code(request, ended.exit_code, ended.recorded))
}

/// The exit code of a run that came to its end.
fn code(request: &Request, exit_code: Option<u8>, recorded: bool) -> ExitCode {
    if exit_code.is_none() {
        tracing::warn!(
            seconds = request.manifest.resources.max_runtime_seconds,
            "max_runtime_seconds is over: the skill was killed"
        );
    }
    if recorded {
        ExitCode::from(exit_code.unwrap_or(exit::DEADLINE))
    } else {
        ExitCode::from(exit::RECORD)
    }
}

pub(super) fn resolver(text: &str) -> Result<SocketAddr, AddrParseError> {
    let alone = text.parse::<IpAddr>();
    alone.map_or_else(|_| text.parse(), |address| Ok((address, DNS).into()))
}

#[cfg(feature = "test-layers")]
fn layer(name: &str) -> Result<crate::isolate::report::Layer, serde_json::Error> {
    serde_json::from_value(serde_json::Value::String(name.to_owned()))
}

/// The request, and the text of its manifest.
fn request(arguments: &RunArguments) -> anyhow::Result<(Request, String)> {
    let manifest_file = match (&arguments.manifest, &arguments.skill_dir) {
        (Some(file), _) => file.clone(),
        (None, Some(folder)) => folder.join(FILE_NAME),
        (None, None) => anyhow::bail!("a command needs --manifest FILE"),
    };
    let (manifest, text) = Manifest::load_with_text(&manifest_file)?;
    // What follows `--` is a command only when there is no skill to give arguments to.
    let (skill_dir, command, mut extra) = match &arguments.skill_dir {
        Some(folder) => (folder.clone(), None, arguments.arguments.clone()),
        None => (
            folder_of(&manifest_file),
            Some(arguments.command.clone()),
            Vec::new(),
        ),
    };
    if command.is_none() {
        extra.extend(arguments.command.iter().cloned());
    }
    let request = Request {
        manifest,
        manifest_file: manifest_file.to_string_lossy().into_owned(),
        skill_dir,
        command,
        extra_arguments: extra,
        environment: std::env::vars_os().collect(),
        caller: None,
    };
    Ok((request, text))
}

pub(super) fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn options(arguments: &RunArguments) -> Options {
    Options {
        watch: arguments.watch,
        events: arguments.events.clone().map(|file| {
            if file == Path::new("-") {
                Events::Stdout
            } else {
                Events::File(file)
            }
        }),
        audit_dir: arguments
            .audit_dir
            .clone()
            .or_else(|| super::audit::default_folder().map(Path::to_owned)),
        trace_output: arguments.trace_output.clone(),
        require_kernel: arguments.require == Some(RequiredTier::Kernel),
        user: arguments.user.clone(),
        stdin: arguments.stdin,
        record_refused: arguments.record_refused,
        streams: Streams::default(),
        resolvers: arguments.resolver.clone(),
        #[cfg(feature = "test-layers")]
        without: arguments.without_layer.clone(),
    }
}

fn show(plan: &Plan, tables: &Tables) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let arguments: Vec<String> = plan
        .arguments
        .iter()
        .skip(1)
        .map(|argument| visible(&argument.to_string_lossy()))
        .collect();
    writeln!(
        out,
        "program      {} {}",
        plan.program.path.display(),
        arguments.join(" ")
    )?;
    let names = |names: &[String]| {
        if names.is_empty() {
            "-".to_owned()
        } else {
            names.join(" ")
        }
    };
    writeln!(
        out,
        "environment  passed: {}",
        names(&plan.environment.passed)
    )?;
    writeln!(out, "             set: {}", names(&plan.set))?;
    writeln!(
        out,
        "             withheld: {} variables",
        plan.environment.withheld.len()
    )?;
    writeln!(
        out,
        "tables       {} path prefixes, {} address prefixes",
        tables.files.len(),
        tables.networks.len()
    )?;
    writeln!(out, "rules")?;
    for (number, rule) in (1..).zip(plan.rules.rules()) {
        let line = rule
            .line
            .map_or_else(|| "-".to_owned(), |line| format!("line {line}"));
        writeln!(
            out,
            "  {number:>4}  {line:<9}  {:<9}  {}",
            rule.subject.grants(),
            visible(&rule.text)
        )?;
    }
    writeln!(out, "nothing was executed")
}
