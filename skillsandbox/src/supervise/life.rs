//! One run, once its sandbox is made: start, wait, end.

use std::{
    ffi::OsStr,
    iter,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    back_pressure::BackPressure,
    error::RunError,
    files::Files,
    interruptions::Interruptions,
    judge::ByRules,
    limits::Limits as MetLimits,
    output::{Budget, Pump},
    plan::{self, Plan, Request},
    recorder::{About, Recorder},
    run::{Options, Outcome},
    said::{ending_of, layer},
    sandbox::{Sandbox, Tier},
};
use crate::{
    audit::{
        clock::Clock,
        describe::RuleText,
        record::{Deadline, Ending, Layer, Note},
    },
    dns::{Grants, NameServer, Sockets, Upstream},
    isolate::{
        Ports,
        cgroup::Limit,
        firewall::Firewall,
        launch::{Launch, Private},
        limits::Limits,
        privileges::Identity,
        report::Ended,
        spawn::{Running, Streams, spawn},
    },
    kernel::{AddressRules, Attached, Rings},
    manifest::OnOverflow,
};

/// Why a run is to end.
enum Cause {
    Ended(Option<Ended>),
    Deadline,
    /// Its record cannot be written.
    Unrecorded,
    Signal(i32),
}

/// What looking names up takes.
pub(super) struct Names {
    pub(super) sockets: Sockets,
    pub(super) upstream: Upstream,
    /// What is to be told of the addresses.
    pub(super) firewalls: Vec<Firewall>,
}

/// One run, once its sandbox is made.
pub(super) struct Life<'a> {
    pub(super) request: &'a Request,
    pub(super) options: &'a Options,
    pub(super) plan: &'a Plan,
    pub(super) sandbox: &'a Sandbox,
    pub(super) identity: Identity,
}

impl Life<'_> {
    /// Runs the skill to its end.
    pub(super) async fn live(
        &self,
        names: Names,
        rings: Rings,
        skill_dir: &impl AsFd,
        mut files: Files,
        interruptions: &mut Interruptions,
    ) -> Result<Outcome, RunError> {
        let clock = Clock::capture();
        let started = clock.time(Clock::boot_ns());
        files.begin(&self.about(clock, started), started)?;
        let launch = self.launch();
        // Never our own descriptor: a socket would keep its own cgroup's rules, a folder would
        // lead out of the sandbox, a terminal can be written to.
        let stdin = if self.options.stdin {
            Stdio::piped()
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

        let attached = self.sandbox.attached();
        let Names {
            sockets,
            upstream,
            firewalls,
        } = names;
        let names = Arc::new(Grants::new(
            self.plan.rules.clone(),
            self.address_rules(&attached)?,
            firewalls,
        ));
        let about = About {
            sandbox: self.sandbox.id().to_owned(),
            clock,
            rules: self.plan.rules.rules().iter().map(RuleText::of).collect(),
            judge: Some(ByRules {
                rules: self.plan.rules.clone(),
                caller: self.request.caller,
            }),
            names: Arc::clone(&names),
            resumed: None,
            outlives_recorder: false,
            #[cfg(feature = "bpf-log")]
            log: self.sandbox.program_log(),
        };
        let sinks = files.sinks(self.options, self.trace_info(&layers, clock))?;
        let (failed, unrecorded) = mpsc::channel(1);
        let fill = rings.fill()?;
        let recorder = Recorder::start(about, rings, attached, sinks, failed)?;
        let back_pressure = BackPressure::start(fill, self.sandbox.cgroup().freezer()?)?;
        recorder.note(Note::Start(self.start(layers.clone())));
        recorder.note(Note::Environment(self.environment()));

        let name_server = NameServer::start(sockets, names, upstream, false, recorder.noting())
            .map_err(RunError::process("start the name server"))?;

        let cause = match started {
            Ok(_) => {
                let record = (&recorder, back_pressure, unrecorded);
                self.wait(running, record, interruptions).await
            }
            Err(error) => Err(error.into()),
        };
        self.sandbox.kill()?;
        drop(name_server);
        let ending = match &cause {
            Ok(Cause::Ended(Some(ended))) => ending_of(*ended),
            Ok(Cause::Deadline | Cause::Unrecorded | Cause::Signal(_) | Cause::Ended(None)) => {
                ending_of(Ended::Signal(libc::SIGKILL))
            }
            Err(_) => Ending::default(),
        };
        let summary = recorder.finish(ending)?.summary;
        if !summary.accounting.balanced {
            tracing::error!(accounting = ?summary.accounting, "the record of this run is not complete");
        }
        let exit_code = match cause? {
            Cause::Ended(Some(ended)) => Some(ended.exit_code()),
            Cause::Ended(None) | Cause::Unrecorded => Some(128 + libc::SIGKILL),
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
    async fn wait(
        &self,
        running: Running,
        (recorder, back_pressure, unrecorded): (&Recorder, BackPressure, mpsc::Receiver<()>),
        interruptions: &mut Interruptions,
    ) -> Result<Cause, RunError> {
        let Running {
            mut child,
            mut report,
            liveness,
        } = running;
        let resources = self.request.manifest.resources;
        let streams = &self.options.streams;
        if let Some(stdin) = child.stdin.take() {
            // Ends with our own standard input, or with this process.
            let _passing = Pump::start(streams.stdin()?, stdin, Budget::new(u64::MAX))?;
        }
        let budget = Budget::new(resources.max_output_bytes);
        let mut pumps = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let pump = Pump::start(stdout, streams.stdout()?, budget.clone())?;
            pumps.push(("standard output", pump));
        }
        if let Some(stderr) = child.stderr.take() {
            let pump = Pump::start(stderr, streams.stderr()?, budget)?;
            pumps.push(("standard error", pump));
        }
        let (tell, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("report".to_owned())
            .spawn(move || {
                // Nobody to tell means that the run is over already.
                let _over = tell.send(report.until_ended());
            })
            .map_err(RunError::process("start a thread"))?;

        let seconds = resources.max_runtime_seconds;
        let ring_kib = self.request.manifest.audit.run_ring_kib();
        let held = (ring_kib, back_pressure.held());
        let mut limits = MetLimits::new(self.sandbox, resources, held, recorder);
        let cause = tokio::select! {
            ended = ended => match ended {
                Ok(Ok(ended)) => Ok(Cause::Ended(ended)),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Ok(Cause::Ended(None)),
            },
            () = tokio::time::sleep(Duration::from_secs(seconds)) => Ok(Cause::Deadline),
            why = self.unrecorded(unrecorded) => {
                tracing::error!("the skill is ended: {why}");
                Ok(Cause::Unrecorded)
            }
            number = interruptions.next() => Ok(Cause::Signal(number)),
            never = limits.watch() => match never {},
        };
        drop(back_pressure);
        self.sandbox.kill()?;
        // Nothing waits for the recorder before the skill is ended.
        if matches!(cause, Ok(Cause::Deadline)) {
            recorder.note(Note::Deadline(Deadline { seconds }));
        }
        limits.tell();
        // Init goes too, and with it the namespaces.
        drop(liveness);
        child
            .wait()
            .map_err(RunError::process("wait for the launcher"))?;
        for (stream, pump) in pumps {
            limits.output(stream, pump.join(streams.patience()));
        }
        cause
    }

    /// Waits until nothing is recorded any more, or not everything, where nothing may happen then; and says which.
    async fn unrecorded(&self, mut failed: mpsc::Receiver<()>) -> &'static str {
        let all = self.request.manifest.audit.on_overflow.value == OnOverflow::Deny;
        while failed.recv().await.is_some() {
            if all {
                return "its accesses cannot be recorded, and `audit.on_overflow: deny` has none go unrecorded";
            }
        }
        "the recorder has ended"
    }

    /// The address rules in the kernel, where programs decide on addresses.
    #[cfg_attr(
        not(feature = "test-layers"),
        expect(clippy::unused_self, reason = "in a build for tests there may be none")
    )]
    fn address_rules(&self, attached: &Attached) -> Result<Option<AddressRules>, RunError> {
        #[cfg(feature = "test-layers")]
        if self
            .options
            .without
            .contains(&crate::isolate::report::Layer::Ebpf)
        {
            return Ok(None);
        }
        Ok(Some(attached.address_rules()?))
    }

    fn launch(&self) -> Launch {
        let manifest = &self.request.manifest;
        let resources = &manifest.resources;
        let held = |name: &str| {
            let mut limits = self.sandbox.limits.iter();
            limits.any(|(limit, state)| *limit == name && matches!(state, Limit::Set(_)))
        };
        let hostname = "skill";
        let rules = &self.plan.rules;
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
            as_caller: self.request.caller.is_some(),
            runtime: plan::launch_runtime(manifest.permissions.filesystem.runtime),
            grants: self.plan.grants.clone(),
            links: self.plan.links.clone(),
            unix_sockets: rules
                .unix_sockets()
                .map(|path| OsStr::from_bytes(path).to_owned())
                .collect(),
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
                etc(
                    "hosts",
                    format!("127.0.0.1 localhost {hostname}\n::1 localhost {hostname}\n"),
                ),
                // Whatever is asked at port 53 goes to the sandbox's own name server.
                etc("resolv.conf", "nameserver 127.0.0.1\n".to_owned()),
                etc(
                    "nsswitch.conf",
                    "passwd: files\ngroup: files\nhosts: files dns\n".to_owned(),
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
                // A port that the kernel chooses, and those to be called at, as eBPF decides.
                bind: Some(iter::once((0, 0)).chain(rules.called_ports()).collect()),
            },
            seccomp: self
                .request
                .manifest
                .permissions
                .syscalls
                .profile
                .value
                .into(),
            require_landlock: self.sandbox.tier != Tier::Kernel,
            #[cfg(feature = "test-layers")]
            without: self.options.without.clone(),
        }
    }

    fn workdir(&self) -> std::ffi::OsString {
        self.request.manifest.entrypoint.workdir.as_path().into()
    }
}
