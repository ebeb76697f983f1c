//! One connection's worker: a process of its own, which hears what is asked, runs it, and answers.
//!
//! A caller may make whoever closes what they send wait (`SO_LINGER`, socket(7)), and not read what they are sent. So nothing here
//! is waited for without a limit, and what is to be closed is closed by the end of the process, which waits for nothing.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    pipe::{PipeFlags, pipe_with},
    process::{Signal, getpid, kill_process},
    stdio::{dup2_stdin, dup2_stdout},
};

use super::{
    pool,
    protocol::{Answer, Asked, AskedRun, Connection, Peer, ServiceError},
};
use crate::{
    audit::{
        store::{Refusal, Writer},
        text::Escaped,
    },
    isolate::{paths, privileges::Identity, reach::as_caller},
    manifest::{Manifest, RUN_RING_KIB},
    supervise::{
        Events, Options, Outcome, Request, Streams, error::RunError, interruptions::Interruptions,
        ready::Ready, run::run_in,
    },
};

/// First argument of this program when it is to be a worker. Its standard input is the connection, or what leads to the
/// daemon that hands one over; it closes its standard output when it answers its caller.
pub const WORKER: &str = "__worker";
/// How a worker exits whose caller was refused.
pub const REFUSED: u8 = 3;

/// How long a caller may take to say what they ask for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long everything before a run may take.
const LIMIT: Duration = Duration::from_secs(15);
/// Bytes of a reason, without control characters.
const WHY_MAX: usize = 1024;

/// A worker, and what the daemon tells it.
#[derive(Debug)]
pub struct Worker {
    /// Where its records are kept.
    pub store: PathBuf,
    /// Whom the name server asks; this host's own resolvers if there is none.
    pub resolvers: Vec<SocketAddr>,
    /// The daemon's socket, which no skill is granted.
    pub socket: PathBuf,
    /// The exit code of `run` for an error.
    pub code_of: fn(&RunError) -> u8,
}

/// What came to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// A run.
    Run,
    /// A request that did not become one.
    Refused,
    /// Nothing: the daemon let go of it.
    Nobody,
}

/// The ends of pipes that the caller gets, in the order of the protocol.
type Handed = Vec<OwnedFd>;

impl Worker {
    /// Serves the connection that is this process's standard input, to its end.
    pub fn serve(&self) -> Result<Served, RunError> {
        self.serve_in(&mut None, take_input()?)
    }

    /// Makes a sandbox, and serves the connection that then comes from the daemon, at the other end of standard input.
    pub fn serve_ahead(&self) -> Result<Served, RunError> {
        let line = take_input()?;
        let mut ahead = Some(Ready::make_ahead()?);
        let served = match pool::wait_for_connection(&line) {
            Ok(Some(stream)) => self.serve_in(&mut ahead, stream),
            Ok(None) => Ok(Served::Nobody),
            Err(error) => Err(ServiceError::from(error).into()),
        };
        if let Some(unused) = ahead {
            unused.take_down();
        }
        served
    }

    fn serve_in(&self, ahead: &mut Option<Ready>, stream: UnixStream) -> Result<Served, RunError> {
        // Closed, the daemon knows that the caller is answered, or is about to be.
        let mut unanswered = Some(take_output()?);
        let connection = Arc::new(Connection::of(stream));
        let peer = connection.peer()?;
        connection.say_within(PATIENCE)?;
        let limit = self.limit(peer, "it was not heard, or not begun, in time")?;
        let mut has_ended = false;
        let ran = self.run(ahead, &connection, peer, limit, |outcome| {
            tracing::info!(
                uid = peer.uid,
                pid = peer.pid,
                tier = outcome.tier.as_str(),
                exit_code = outcome.exit_code,
                records = outcome.summary.accounting.records,
                "a run has ended"
            );
            has_ended = true;
            drop(unanswered.take());
            // Who has gone does not want it, and who does not listen is not waited for long.
            let _gone = connection.say(
                &Answer::Ended {
                    exit_code: outcome.exit_code,
                    recorded: outcome.is_recorded(),
                },
                &[],
            );
        });
        let served = match ran {
            Ok(_) => Served::Run,
            Err(error) if has_ended => {
                tracing::error!(
                    "its sandbox could not be taken down, the next start tries again: {error}"
                );
                Served::Run
            }
            Err(error) => {
                let code = (self.code_of)(&error);
                let why = shown(&error.to_string());
                self.refuse(peer, &why);
                drop(unanswered);
                let _gone = connection.say(&Answer::Refused { code, why }, &[]);
                Served::Refused
            }
        };
        // Closed by the end of this process.
        std::mem::forget(connection);
        Ok(served)
    }

    fn refuse(&self, peer: Peer, why: &str) {
        let line = Escaped(why.as_bytes());
        tracing::warn!(uid = peer.uid, pid = peer.pid, "refused: {line}");
        if let Err(error) = record(&self.store, peer, why) {
            tracing::error!(%error, "that is not recorded");
        }
    }

    /// Has this process end if it is not told otherwise in time, by an end of what this returns.
    fn limit(&self, peer: Peer, why: &'static str) -> Result<Sender<()>, RunError> {
        let (in_time, waiting) = channel::<()>();
        let store = self.store.clone();
        let watch = move || {
            if waiting.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                tracing::error!(uid = peer.uid, pid = peer.pid, "{why}");
                if let Err(error) = record(&store, peer, why) {
                    tracing::error!(%error, "that is not recorded");
                }
                let _always = kill_process(getpid(), Signal::KILL);
            }
        };
        start_thread("limit", watch)?;
        Ok(in_time)
    }

    fn run(
        &self,
        ahead: &mut Option<Ready>,
        connection: &Arc<Connection>,
        peer: Peer,
        limit: Sender<()>,
        tell: impl FnOnce(&Outcome),
    ) -> Result<Outcome, RunError> {
        let (message, descriptors) = connection.hear(Some(Instant::now() + PATIENCE))?;
        // Nothing is asked by these. Closed by the end of this process.
        std::mem::forget(descriptors);
        let Asked { run: asked, .. } = Asked::parse(&message)?;
        if peer.uid != 0 && peer.gid == 0 {
            let field = ServiceError::Field {
                field: "the caller's group",
                problem: "is root's, as which no skill runs: ask from another, `newgrp`",
            };
            return Err(field.into());
        }
        let caller = (peer.uid != 0).then_some(Identity {
            uid: peer.uid,
            gid: peer.gid,
        });
        let manifest = Manifest::parse(&asked.manifest_file, asked.manifest.as_bytes())?;
        self.refuse_what_only_root_grants(&manifest, &asked.manifest_file, caller)?;
        let (options, handed) = self.options(&asked)?;
        let request = Request {
            manifest,
            skill_dir: folder_of(&asked.skill_dir, caller)?,
            manifest_file: asked.manifest_file,
            command: asked
                .command
                .map(|words| words.into_iter().map(Into::into).collect()),
            extra_arguments: asked.arguments.into_iter().map(Into::into).collect(),
            environment: asked
                .environment
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            caller,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(RunError::process("start"))?;
        runtime.block_on(async {
            // Before the caller's end can be one.
            let mut interruptions = Interruptions::listen()?;
            let theirs: Vec<BorrowedFd<'_>> = handed.iter().map(AsFd::as_fd).collect();
            connection.say(&Answer::Accepted {}, &theirs)?;
            // From here on theirs alone: when they are closed, the pipes end.
            drop(handed);
            end_with(Arc::clone(connection))?;
            drop(limit);
            run_in(ahead, &request, options, &mut interruptions, tell).await
        })
    }

    fn options(&self, asked: &AskedRun) -> Result<(Options, Handed), ServiceError> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let ours = |end: OwnedFd| Arc::new(File::from(end));
        let (stdout_end, stdout) = pipe()?;
        let (stderr_end, stderr) = pipe()?;
        let mut handed = vec![stdout_end, stderr_end];
        let stdin = if asked.stdin {
            let (stdin, end) = pipe()?;
            handed.push(end);
            Some(ours(stdin))
        } else {
            None
        };
        let events = if asked.events {
            let (end, events) = pipe()?;
            handed.push(end);
            Some(Events::Pipe(ours(events)))
        } else {
            None
        };
        let options = Options {
            watch: asked.watch,
            events,
            audit_dir: Some(self.store.clone()),
            require_kernel: asked.require_kernel,
            stdin: asked.stdin,
            streams: Streams::Theirs {
                stdin,
                stdout: ours(stdout),
                stderr: ours(stderr),
            },
            resolvers: self.resolvers.clone(),
            ..Options::default()
        };
        Ok((options, handed))
    }

    fn refuse_what_only_root_grants(
        &self,
        manifest: &Manifest,
        file: &str,
        caller: Option<Identity>,
    ) -> Result<(), RunError> {
        if manifest
            .audit
            .ring_kib
            .is_some_and(|kib| kib > RUN_RING_KIB)
        {
            return Err(RunError::attachment(
                format!("{file}: audit.ring_kib is more than {RUN_RING_KIB}"),
                "it is memory of the kernel's: leave it out, or run this as root",
            ));
        }
        if manifest.permissions.network.unix.is_empty() {
            return Ok(());
        }
        let ours = paths::socket_file(&paths::resolve(&self.socket)?.real)?;
        for socket in &manifest.permissions.network.unix {
            // One that is not there, or that they cannot reach, is refused when the run is planned.
            let found = as_caller(caller, || {
                let resolved = paths::resolve(socket.value.as_path()).ok()?;
                paths::socket_file(&resolved.real).ok()
            })?;
            if found == Some(ours) {
                return Err(RunError::attachment(
                    format!(
                        "{file}:{}: network.unix {} is the daemon's own socket",
                        socket.line, socket.value
                    ),
                    "a skill asks for no sandboxes: take it out",
                ));
            }
        }
        Ok(())
    }
}

/// What this process has as its standard input.
fn take_input() -> Result<UnixStream, ServiceError> {
    let input = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(input.into())
}

/// What this process has as its standard output, which then goes nowhere.
fn take_output() -> Result<OwnedFd, ServiceError> {
    let output = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?;
    let null = File::options().write(true).open("/dev/null")?;
    dup2_stdout(null)?;
    Ok(output)
}

/// Keeps that somebody was refused.
pub(super) fn record(store: &Path, peer: Peer, why: &str) -> Result<(), RunError> {
    let refusal = Refusal {
        pid: peer.pid,
        uid: peer.uid,
        gid: peer.gid,
        why: why.to_owned(),
    };
    let written = Writer::open(store)?.refuse(refusal);
    written.map_err(RunError::process("write to the ledger"))
}

/// A reason as it is logged, kept and answered: parts of it may be of the caller's choice.
fn shown(why: &str) -> String {
    let mut shown = String::new();
    for character in why.chars() {
        match character {
            '\n' => shown.push(character),
            _ if character.is_control() => shown.extend(character.escape_default()),
            _ => shown.push(character),
        }
        if shown.len() > WHY_MAX {
            shown.push('…');
            break;
        }
    }
    shown
}

/// The skill's folder without links, as its caller reaches it.
fn folder_of(path: &Path, caller: Option<Identity>) -> Result<PathBuf, RunError> {
    let resolved = as_caller(caller, || {
        let resolved = paths::resolve(path)?;
        let is_folder = resolved.real.is_dir();
        Ok::<_, RunError>(is_folder.then_some(resolved.real))
    })??;
    let none = ServiceError::Field {
        field: "skill_dir",
        problem: "is no folder that the caller can reach",
    };
    resolved.ok_or(none.into())
}

/// Has this process end the run, as by a signal, when the caller is gone.
fn end_with(connection: Arc<Connection>) -> Result<(), RunError> {
    start_thread("caller", move || {
        // Nothing more is to be said: whatever comes, or the end, is the end.
        let events = PollFlags::IN | PollFlags::RDHUP;
        let mut polled = [PollFd::new(&*connection, events)];
        while let Err(rustix::io::Errno::INTR) = poll(&mut polled, None) {}
        let _always = kill_process(getpid(), Signal::TERM);
        std::mem::forget(connection);
    })
}

fn start_thread(name: &str, what: impl FnOnce() + Send + 'static) -> Result<(), RunError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(what);
    thread
        .map(drop)
        .map_err(RunError::process("start a thread"))
}
