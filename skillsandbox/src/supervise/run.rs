//! `run`: a skill in a sandbox of its own, until it ends.

use std::{
    fs::File,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::fs::{CWD, Mode, OFlags, openat};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::{
    error::RunError,
    names::Addresses,
    output::{Budget, Passed, Pump},
    plan::{self, Plan, Request},
    recorder::{About, Recorder},
    sandbox::{Sandbox, Tier, Wanted},
};
use crate::{
    audit::{
        clock::Clock,
        counts::Summary,
        json_lines::JsonLines,
        record::{self, Deadline, Ending, Layer, Limit as LimitNote, Note, Start},
        safe_file::{Owner, Place as FilePlace},
        sink::Sink,
        trace::{Trace, TraceInfo},
        watch::{Colour, Watch},
    },
    isolate::{
        Ports, Profile,
        cgroup::{Limit, Resources},
        launch::{Launch, Private},
        limits::Limits,
        privileges::{Identity, Wanted as WantedIdentity},
        report::{Ended, LayerReport, Status},
        spawn::{Running, Streams, spawn},
    },
    manifest::OnOverflow,
    policy::Tables,
};

/// Where events go as JSON Lines.
#[derive(Clone, Debug)]
pub enum Events {
    /// To standard output.
    Stdout,
    /// To this file, made anew.
    File(PathBuf),
}

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Show events on standard error as they happen.
    pub watch: bool,
    /// Write events as JSON Lines.
    pub events: Option<Events>,
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

/// Works out everything that a run would do, and does none of it.
pub async fn dry_run(request: &Request) -> Result<(Plan, Tables), RunError> {
    refuse_what_is_not_enforced(request)?;
    let addresses = Addresses::resolve(&request.manifest, &request.manifest_file).await?;
    let plan = Plan::make(request, &addresses)?;
    let tables = plan.rules.compile()?;
    Ok((plan, tables))
}

fn refuse_what_is_not_enforced(request: &Request) -> Result<(), RunError> {
    let fields = request.manifest.not_enforced_yet();
    if fields.is_empty() {
        return Ok(());
    }
    Err(RunError::NotEnforced {
        file: request.manifest_file.clone(),
        fields,
    })
}

/// Runs a skill to its end.
pub async fn run(request: &Request, options: &Options) -> Result<Outcome, RunError> {
    refuse_what_is_not_enforced(request)?;
    let addresses = Addresses::resolve(&request.manifest, &request.manifest_file).await?;
    let plan = Plan::make(request, &addresses)?;
    let tables = plan.rules.compile()?;
    let identity = identity(options)?;
    let files = Files::open(options)?;
    let skill_dir = openat(
        CWD,
        &request.skill_dir,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| RunError::state("open the folder", &request.skill_dir, error.into()))?;

    let resources = &request.manifest.resources;
    let wanted = Wanted {
        resources: Resources {
            memory_bytes: Some(resources.memory_mb << 20),
            processes: Some(resources.max_processes),
            cpu_shares: Some(resources.cpu_shares),
        },
        deny_on_overflow: request.manifest.audit.on_overflow == OnOverflow::Deny,
        record_refused: options.record_refused,
    };
    let (sandbox, rings) = Sandbox::make(&request.manifest.skill.name, &tables, wanted)?;
    let life = Life {
        request,
        options,
        plan: &plan,
        sandbox: &sandbox,
        identity,
    };
    let outcome = match life.check_tier() {
        Ok(()) => life.live(addresses, rings, &skill_dir, files).await,
        Err(error) => Err(error),
    };
    let taken_down = sandbox.take_down();
    let outcome = outcome?;
    taken_down?;
    Ok(outcome)
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

/// Output files, opened before the skill could plant a link.
struct Files {
    events: Option<File>,
    trace: Option<FilePlace>,
    owner: Option<Owner>,
}

impl Files {
    fn open(options: &Options) -> Result<Self, RunError> {
        let number = |name| {
            std::env::var(name)
                .ok()
                .and_then(|value| value.parse().ok())
        };
        let owner = match (number("SUDO_UID"), number("SUDO_GID")) {
            (Some(uid), Some(gid)) => Some(Owner { uid, gid }),
            _ => None,
        };
        let events = match &options.events {
            None => None,
            Some(Events::Stdout) => {
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                Some(
                    stdout
                        .map_err(RunError::process("use standard output"))?
                        .into(),
                )
            }
            Some(Events::File(path)) => Some(FilePlace::open(path)?.replace(owner)?),
        };
        let trace = options
            .trace_output
            .as_deref()
            .map(FilePlace::open)
            .transpose()?;
        Ok(Self {
            events,
            trace,
            owner,
        })
    }

    fn sinks(self, watch: bool, info: TraceInfo) -> Vec<(&'static str, Box<dyn Sink>)> {
        let mut sinks: Vec<(&'static str, Box<dyn Sink>)> = Vec::new();
        if let Some(file) = self.events {
            sinks.push(("events", Box::new(JsonLines::new(file))));
        }
        if watch {
            let stderr = io::stderr();
            let colour = Colour::of(&stderr);
            sinks.push(("watch", Box::new(Watch::new(stderr, colour))));
        }
        if let Some(place) = self.trace {
            sinks.push(("trace", Box::new(Trace::new(info, place, self.owner))));
        }
        sinks
    }
}

/// Why a run is to end.
enum Cause {
    Ended(Option<Ended>),
    Deadline,
    Signal(i32),
}

/// One run, once its sandbox is made.
struct Life<'a> {
    request: &'a Request,
    options: &'a Options,
    plan: &'a Plan,
    sandbox: &'a Sandbox,
    identity: Identity,
}

impl Life<'_> {
    /// Whether this host offers what the caller and the rules ask for.
    fn check_tier(&self) -> Result<(), RunError> {
        let Tier::Fallback(reason) = &self.sandbox.tier else {
            return Ok(());
        };
        if self.options.require_kernel {
            return Err(RunError::TierTooLow {
                reason: reason.clone(),
            });
        }
        if let Some(rule) = &self.plan.needs_kernel_tier {
            return Err(RunError::NotHere {
                file: self.request.manifest_file.clone(),
                line: rule.line,
                rule: rule.value.clone(),
                why: format!(
                    "only eBPF can deny a name in every folder ({reason}); name the paths instead"
                ),
            });
        }
        tracing::info!(%reason, "fallback tier: mounts, Landlock and seccomp decide on files");
        Ok(())
    }

    async fn live(
        &self,
        addresses: Addresses,
        rings: crate::kernel::Rings,
        skill_dir: &impl AsFd,
        files: Files,
    ) -> Result<Outcome, RunError> {
        let clock = Clock::capture();
        let launch = self.launch(&addresses);
        let stdin = if self.options.stdin {
            Stdio::inherit()
        } else {
            Stdio::null()
        };
        let streams = Streams {
            stdin,
            stdout: Stdio::piped(),
            stderr: Stdio::piped(),
        };
        let mut running = spawn(
            &launch,
            skill_dir.as_fd(),
            Some(self.sandbox.cgroup()),
            streams,
        )?;
        let started = running.report.until_started();
        let launched = started.as_deref().unwrap_or_default();
        let layers: Vec<Layer> = self
            .sandbox
            .layers()
            .into_iter()
            .chain(launched.iter().map(layer))
            .collect();

        let about = About {
            sandbox: self.sandbox.id().to_owned(),
            clock,
            rules: self.plan.rules.clone(),
            addresses,
        };
        let sinks = files.sinks(self.options.watch, self.trace_info(&layers, clock));
        let recorder = Recorder::start(about, rings, self.sandbox.attached(), sinks)?;
        recorder.note(Note::Start(self.start(layers.clone())));
        recorder.note(Note::Environment(self.environment()));

        let cause = match started {
            Ok(_) => self.wait(running, &recorder).await,
            Err(error) => Err(error.into()),
        };
        self.sandbox.kill()?;
        let ending = match &cause {
            Ok(Cause::Ended(Some(ended))) => ending_of(*ended),
            Ok(Cause::Deadline | Cause::Signal(_) | Cause::Ended(None)) => {
                ending_of(Ended::Signal(libc::SIGKILL))
            }
            Err(_) => Ending::default(),
        };
        let summary = recorder.finish(ending)?;
        if !summary.accounting.balanced {
            tracing::error!(accounting = ?summary.accounting, "the record of this run is not complete");
        }
        let exit_code = match cause? {
            Cause::Ended(Some(ended)) => Some(ended.exit_code()),
            Cause::Ended(None) => Some(128 + libc::SIGKILL),
            Cause::Signal(number) => Some(128 + number),
            Cause::Deadline => None,
        };
        let exit_code = exit_code.map(|code| u8::try_from(code).unwrap_or(u8::MAX));
        Ok(Outcome {
            exit_code,
            summary,
            tier: self.sandbox.tier.clone(),
            layers,
        })
    }

    /// Waits for the skill's end, the deadline, or a signal to us, and ends the sandbox.
    async fn wait(&self, running: Running, recorder: &Recorder) -> Result<Cause, RunError> {
        let Running {
            mut child,
            mut report,
            liveness,
        } = running;
        let limit = self.request.manifest.resources.max_output_bytes;
        let budget = Budget::new(limit);
        let mut pumps = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            pumps.push((
                "standard output",
                Pump::start(stdout, io::stdout(), budget.clone())?,
            ));
        }
        if let Some(stderr) = child.stderr.take() {
            pumps.push(("standard error", Pump::start(stderr, io::stderr(), budget)?));
        }
        let (tell, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("report".to_owned())
            .spawn(move || {
                // Nobody to tell means that the run is over already.
                let _over = tell.send(report.until_ended());
            })
            .map_err(RunError::process("start a thread"))?;

        let seconds = self.request.manifest.resources.max_runtime_seconds;
        let cause = tokio::select! {
            ended = ended => match ended {
                Ok(Ok(ended)) => Ok(Cause::Ended(ended)),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Ok(Cause::Ended(None)),
            },
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {
                recorder.note(Note::Deadline(Deadline { seconds }));
                Ok(Cause::Deadline)
            }
            number = interruption() => number.map(Cause::Signal),
        };
        self.sandbox.kill()?;
        // Init goes too, and with it the namespaces.
        drop(liveness);
        child
            .wait()
            .map_err(RunError::process("wait for the launcher"))?;
        for (stream, pump) in pumps {
            let Passed { dropped, .. } = pump.join();
            if dropped > 0 {
                tracing::warn!(
                    stream,
                    limit,
                    dropped,
                    "the skill wrote more than max_output_bytes"
                );
                recorder.note(Note::Limit(LimitNote {
                    resource: "output".to_owned(),
                    limit,
                    effect: format!("{dropped} bytes of {stream} were dropped"),
                }));
            }
        }
        cause
    }

    fn launch(&self, addresses: &Addresses) -> Launch {
        let manifest = &self.request.manifest;
        let resources = &manifest.resources;
        let held = |name: &str| {
            let mut limits = self.sandbox.limits.iter();
            limits.any(|(limit, state)| *limit == name && matches!(state, Limit::Set(_)))
        };
        let hostname = "skill";
        let Identity { uid, gid } = self.identity;
        let etc = |name: &str, content: String| (name.to_owned(), content);
        Launch {
            hostname: hostname.to_owned(),
            program: self.plan.program.path.clone().into(),
            arguments: self.plan.arguments.clone(),
            environment: self.plan.environment.variables.clone(),
            workdir: self.workdir(),
            uid,
            gid,
            runtime: plan::launch_runtime(manifest.permissions.filesystem.runtime),
            grants: self.plan.grants.clone(),
            links: self.plan.links.clone(),
            denies: self.plan.denies.clone(),
            private: Private::default(),
            etc_files: vec![
                etc(
                    "passwd",
                    format!(
                        "root:x:0:0::/:/usr/sbin/nologin\nskill:x:{uid}:{gid}::/home/skill:/usr/sbin/nologin\n"
                    ),
                ),
                etc("group", format!("root:x:0:\nskill:x:{gid}:\n")),
                etc("hosts", addresses.hosts_file(hostname)),
                // Port 53 is closed: every declared name is in `hosts`.
                etc("resolv.conf", String::new()),
                etc(
                    "nsswitch.conf",
                    "passwd: files\ngroup: files\nhosts: files\n".to_owned(),
                ),
            ],
            limits: Limits {
                open_files: Some(resources.max_open_files),
                file_bytes: None,
                memory_bytes: (!held("memory.max")).then_some(resources.memory_mb << 20),
                processes: (!held("pids.max")).then_some(resources.max_processes),
            },
            // Left to eBPF: Landlock would answer first, and its answer is on no record.
            ports: Ports {
                connect: None,
                bind: Some(Vec::new()),
            },
            seccomp: Profile::Default,
            require_landlock: self.sandbox.tier != Tier::Kernel,
            #[cfg(feature = "test-layers")]
            without: self.options.without.clone(),
        }
    }

    fn workdir(&self) -> std::ffi::OsString {
        self.request.manifest.entrypoint.workdir.as_path().into()
    }

    fn start(&self, layers: Vec<Layer>) -> Start {
        Start {
            skill_name: self.request.manifest.skill.name.clone(),
            skill_version: self.request.manifest.skill.version.clone(),
            program: self.plan.program.path.to_string_lossy().into_owned(),
            tier: self.sandbox.tier.as_str().to_owned(),
            layers,
        }
    }

    fn environment(&self) -> record::Environment {
        let environment = &self.plan.environment;
        record::Environment {
            passed: environment.passed.clone(),
            set: self.plan.set.clone(),
            withheld: environment.withheld.clone(),
        }
    }

    fn trace_info(&self, layers: &[Layer], clock: Clock) -> TraceInfo {
        TraceInfo {
            trace_id: self.sandbox.id().to_owned(),
            sandbox: self.sandbox.id().to_owned(),
            skill_name: self.request.manifest.skill.name.clone(),
            skill_version: self.request.manifest.skill.version.clone(),
            started: clock.time(Clock::boot_ns()),
            tier: self.sandbox.tier.as_str().to_owned(),
            layers: layers.to_vec(),
            environment: self.environment(),
        }
    }
}

fn ending_of(ended: Ended) -> Ending {
    match ended {
        Ended::Code(code) => Ending::from_wait_status((code & 0xff) << 8),
        Ended::Signal(number) => Ending::from_wait_status(number & 0x7f),
    }
}

fn layer(report: &LayerReport) -> Layer {
    Layer {
        name: format!("{:?}", report.layer).to_lowercase(),
        achieved: report.status == Status::Enforced,
        detail: Some(match report.status {
            Status::Partial => format!("in part: {}", report.detail),
            _ => report.detail.clone(),
        }),
    }
}

/// The number of the signal that asks us to end.
async fn interruption() -> Result<i32, RunError> {
    let listen = |kind| signal(kind).map_err(RunError::process("listen for signals"));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let mut quit = listen(SignalKind::quit())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => libc::SIGINT,
        _ = terminate.recv() => libc::SIGTERM,
        _ = hangup.recv() => libc::SIGHUP,
        _ = quit.recv() => libc::SIGQUIT,
    })
}
