//! `run`: a skill in a sandbox of its own, until it ends.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{
    error::RunError,
    files::Files,
    firewall,
    interruptions::Interruptions,
    life::{Life, Names},
    plan::{Plan, Request},
    ready::Ready,
    sandbox::{Tier, Wanted},
    streams::Streams,
};
use crate::{
    audit::{counts::Summary, record::Layer},
    dns::Upstream,
    isolate::{
        cgroup::Resources,
        privileges::{Identity, Wanted as WantedIdentity},
        reach::as_caller,
    },
    kernel::WantedRings,
    manifest::{By, OnOverflow},
    policy::Tables,
};

/// Where events go as JSON Lines.
#[derive(Clone, Debug)]
pub enum Events {
    /// To standard output.
    Stdout,
    /// To this file, made anew.
    File(PathBuf),
    /// To whoever reads the other end.
    Pipe(Arc<File>),
}

/// How to run.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Options {
    /// Show events on standard error as they happen.
    pub watch: bool,
    /// Write events as JSON Lines.
    pub events: Option<Events>,
    /// Keep the record of the run in the audit store of this folder.
    pub audit_dir: Option<PathBuf>,
    /// Write the trace of the run here at its end.
    pub trace_output: Option<PathBuf>,
    /// Refuse to start on less than the kernel tier.
    pub require_kernel: bool,
    /// Run as this user.
    pub user: Option<String>,
    /// Give the skill our standard input.
    pub stdin: bool,
    /// On the kernel tier, also record calls that failed before an eBPF program was asked.
    pub record_refused: bool,
    /// Where the skill's streams, and what is watched, come from and go.
    pub streams: Streams,
    /// Resolvers that the sandbox's name server asks, in place of this host's.
    pub resolvers: Vec<SocketAddr>,
    /// Layers to leave out.
    #[cfg(feature = "test-layers")]
    pub without: Vec<crate::isolate::report::Layer>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit code to pass on; `None` when the deadline ended it.
    pub exit_code: Option<u8>,
    /// What was recorded.
    pub summary: Summary,
    /// How much of the enforcement was eBPF's.
    pub tier: Tier,
    /// Every layer, and what it achieved.
    pub layers: Vec<Layer>,
}

impl Outcome {
    /// Whether its record is complete, and was written everywhere.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.summary.failed_sinks.is_empty() && self.summary.accounting.balanced
    }
}

/// Works out everything that a run would do, and does none of it.
pub fn dry_run(request: &Request) -> Result<(Plan, Tables), RunError> {
    refuse_what_is_not_enforced(request)?;
    let plan = Plan::make(request)?;
    let tables = plan.rules.compile()?;
    Ok((plan, tables))
}

fn refuse_what_is_not_enforced(request: &Request) -> Result<(), RunError> {
    if let Some(cgroup) = &request.manifest.cgroup {
        return Err(RunError::ForOthers {
            file: request.manifest_file.clone(),
            line: cgroup.line,
        });
    }
    let fields = request.manifest.not_enforced_yet(By::Run);
    if fields.is_empty() {
        return Ok(());
    }
    Err(RunError::NotEnforced {
        file: request.manifest_file.clone(),
        fields,
    })
}

/// Whether a sandbox of this tier offers what the caller and the rules ask for.
fn check_tier(
    tier: &Tier,
    request: &Request,
    options: &Options,
    plan: &Plan,
) -> Result<(), RunError> {
    let Tier::Fallback(reason) = tier else {
        return Ok(());
    };
    if options.require_kernel {
        return Err(RunError::TierTooLow {
            reason: reason.clone(),
        });
    }
    let not_here = |line, rule: &str, why: &str| RunError::NotHere {
        file: request.manifest_file.clone(),
        line,
        rule: rule.to_owned(),
        why: format!("{why} ({reason})"),
    };
    if let Some(rule) = &plan.needs_kernel_tier {
        return Err(not_here(rule.line, &rule.rule, rule.why));
    }
    if request.manifest.audit.on_overflow.value == OnOverflow::Deny {
        let why = "only eBPF can deny an open that finds no room on the ring";
        return Err(not_here(0, "audit.on_overflow: deny", why));
    }
    Ok(())
}

/// Runs a skill to its end.
pub async fn run(request: &Request, options: &Options) -> Result<Outcome, RunError> {
    let interruptions = &mut Interruptions::listen()?;
    run_in(&mut None, request, options.clone(), interruptions, |_| ()).await
}

/// How long it is enough that chains of iptables were seen. Planning a run may take longer, where its files are far away.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Runs a skill to its end, or until one of these comes: in the sandbox that was made ahead, if it suits. That is taken
/// unless the run is refused before. What the run came to is told before its sandbox is taken down.
pub(super) async fn run_in(
    ahead: &mut Option<Ready>,
    request: &Request,
    options: Options,
    interruptions: &mut Interruptions,
    tell: impl FnOnce(&Outcome),
) -> Result<Outcome, RunError> {
    refuse_what_is_not_enforced(request)?;
    // They were seen to refuse a packet, but that is some time ago.
    let chains = ahead.as_ref().map(|ready| ready.firewalls.as_slice());
    let chains = chains.unwrap_or_default();
    let (planned, looked) = thread::scope(|scope| {
        let looks = scope.spawn(|| firewall::are_closed(chains).then(Instant::now));
        let plan = || {
            let plan = Plan::make(request)?;
            let tables = plan.rules.compile()?;
            Ok::<_, RunError>((plan, tables))
        };
        (plan(), looks.join().unwrap_or_default())
    });
    let (plan, tables) = planned?;
    let identity = match request.caller {
        Some(caller) => caller,
        None => identity(&options)?,
    };
    let files = Files::open(&options)?;
    let skill_dir = as_caller(request.caller, || {
        openat(
            CWD,
            &request.skill_dir,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    })?
    .map_err(|error| RunError::state("open the folder", &request.skill_dir, error.into()))?;

    let (upstream, missing) = Upstream::new(&options.resolvers)?;
    if let Some(missing) = missing
        && plan.rules.names_hosts()
    {
        tracing::warn!("{missing}");
    }
    let will_do = |tier: &Tier| check_tier(tier, request, &options, &plan);
    let Ready {
        sandbox,
        rings,
        firewalls,
        sockets,
    } = Ready::fit_or_make(
        ahead.take(),
        &request.manifest.skill.name,
        &tables,
        wanted(request, &options),
        |tier| will_do(tier).is_ok(),
        |chains| looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN || firewall::are_closed(chains)),
    )?;
    if let Tier::Fallback(reason) = &sandbox.tier {
        tracing::info!(%reason, "fallback tier: mounts, Landlock and seccomp decide on files");
    }
    let life = Life {
        request,
        options: &options,
        plan: &plan,
        sandbox: &sandbox,
        identity,
    };
    let outcome = match will_do(&sandbox.tier) {
        Ok(()) => {
            let names = Names {
                sockets,
                upstream,
                firewalls,
            };
            life.live(names, rings, &skill_dir, files, interruptions)
                .await
        }
        Err(error) => Err(error),
    };
    // Whoever reads a stream of the run reads its end now.
    drop(options);
    if let Ok(outcome) = &outcome {
        tell(outcome);
    }
    let taken_down = sandbox.take_down();
    let outcome = outcome?;
    taken_down?;
    Ok(outcome)
}

/// What a run wants of its sandbox, beside its rules.
fn wanted(request: &Request, options: &Options) -> Wanted {
    let resources = &request.manifest.resources;
    Wanted {
        resources: Resources {
            memory_bytes: Some(resources.memory_mb << 20),
            processes: Some(resources.max_processes),
            cpu_shares: Some(resources.cpu_shares),
        },
        rings: WantedRings {
            bytes: request.manifest.audit.run_ring_kib() << 10,
            several: true,
            aggregate: request.manifest.audit.aggregate.value,
        },
        deny_on_overflow: request.manifest.audit.on_overflow.value == OnOverflow::Deny,
        record_refused: options.record_refused,
        #[cfg(feature = "test-layers")]
        without_programs: options
            .without
            .contains(&crate::isolate::report::Layer::Ebpf),
        #[cfg(feature = "test-layers")]
        without_firewalls: options
            .without
            .contains(&crate::isolate::report::Layer::Iptables),
    }
}

fn identity(options: &Options) -> Result<Identity, RunError> {
    let passwd = Path::new("/etc/passwd");
    let content =
        std::fs::read_to_string(passwd).map_err(|error| RunError::state("read", passwd, error))?;
    let sudo = std::env::var("SUDO_UID")
        .ok()
        .zip(std::env::var("SUDO_GID").ok());
    Ok(WantedIdentity {
        user: options.user.clone(),
        sudo,
    }
    .resolve(&content)?)
}
