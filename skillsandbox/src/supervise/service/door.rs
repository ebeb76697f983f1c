//! The daemon's socket: who may ask, how often, and how much at once.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder},
    io,
    net::SocketAddr,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown},
            net::UnixStream as StdUnixStream,
        },
    },
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    net::UnixListener,
    process::{Child, Command},
    task::JoinSet,
    time::{Interval, interval},
};

use super::{
    pool::Pool,
    protocol::{Answer, Connection, Peer},
    worker::{self, REFUSED, WORKER},
};
use crate::{
    audit::store::group_of, dns::Bucket, isolate::spawn::inherit, supervise::error::RunError,
};

/// First argument of this program when it is to close connections.
pub const CLOSER: &str = "__close";

/// Runs that one user may have at once, and that all may have together.
const RUNS_MAX: u32 = 32;
const RUNS_OF_ALL_MAX: usize = 256;
/// Requests that one user may make at once, and how long until there is one more. One that is refused is dear: it makes a line of
/// the ledger.
const BURST: u32 = 128;
const EVERY: Duration = Duration::from_secs(1);
const REFUSED_COSTS: u32 = 4;
/// How often it is recorded that one user asks too much.
const RECORD_EVERY: Duration = Duration::from_secs(10);
/// How often is looked whether something is to be recorded, or closed.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Refused connections that are closed together.
const CLOSED_TOGETHER: usize = 64;
/// The exit code of a caller who asks too much, as that of a sandbox that could not be set up.
const TOO_MUCH: u8 = 122;

/// The socket, and everybody who came to it.
pub(in crate::supervise) struct Door {
    listener: UnixListener,
    socket: PathBuf,
    store: PathBuf,
    resolvers: Vec<SocketAddr>,
    callers: HashMap<u32, Caller>,
    /// Every process of ours that has not ended, by the number that it has here.
    workers: JoinSet<(u64, io::Result<ExitStatus>)>,
    started: u64,
    /// Those that serve a user.
    serving: HashMap<u64, u32>,
    pool: Pool,
    /// Connections that are refused, and not closed yet.
    refused: Vec<StdUnixStream>,
    /// Whether a thread writes to the ledger.
    recording: Arc<AtomicBool>,
    look: Interval,
}

/// One user.
struct Caller {
    running: u32,
    bucket: Bucket,
    /// Refused since that was last recorded, the last of them and why, and when that was.
    untold: u64,
    last: Option<(Peer, &'static str)>,
    told: Option<Instant>,
}

impl Door {
    /// Makes the socket for members of this group and root. It is not there for anybody before it is for nobody else.
    pub(in crate::supervise) fn open(
        socket: &Path,
        store: &Path,
        resolvers: &[SocketAddr],
        group: &str,
    ) -> Result<Self, RunError> {
        let cannot = |error| RunError::state("make the socket", socket, error);
        let taken = |what: &str| {
            let problem = format!("{what} {}", socket.display());
            RunError::attachment(problem, "end that one, or name another --socket")
        };
        match fs::symlink_metadata(socket) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot(error)),
            Ok(found) if !found.file_type().is_socket() => {
                return Err(taken("something that is no socket is at"));
            }
            Ok(_) if StdUnixStream::connect(socket).is_ok() => {
                return Err(taken("another daemon serves"));
            }
            // Left by one that is gone.
            Ok(_) => {}
        }
        let mut staging = socket.as_os_str().to_owned();
        staging.push(".new");
        let staging = PathBuf::from(staging);
        let made = staging.join("s");
        let bind = || -> io::Result<UnixListener> {
            let _stale = fs::remove_file(&made);
            let _stale = fs::remove_dir(&staging);
            DirBuilder::new().mode(0o700).create(&staging)?;
            let listener = UnixListener::bind(&made)?;
            let permitted = if let Some(number) = group_of(group) {
                chown(&made, Some(0), Some(number.as_raw()))?;
                0o660
            } else {
                tracing::warn!("this host has no group {group}: only root may ask for runs");
                0o600
            };
            fs::set_permissions(&made, fs::Permissions::from_mode(permitted))?;
            fs::rename(&made, socket)?;
            fs::remove_dir(&staging)?;
            Ok(listener)
        };
        Ok(Self {
            listener: bind().map_err(cannot)?,
            socket: socket.to_owned(),
            store: store.to_owned(),
            resolvers: resolvers.to_vec(),
            callers: HashMap::new(),
            workers: JoinSet::new(),
            started: 0,
            serving: HashMap::new(),
            pool: Pool::new(),
            refused: Vec::new(),
            recording: Arc::default(),
            look: interval(LOOK_EVERY),
        })
    }

    /// Lets the next one in, or the end of one be known. Nothing is lost when it is not waited for to the end.
    pub(in crate::supervise) async fn next(&mut self) {
        tokio::select! {
            Some(ended) = self.workers.join_next() => match ended {
                Ok((number, ended)) => self.ended(number, ended),
                Err(error) => tracing::error!(%error, "a worker is not waited for any more, by a fault of ours"),
            },
            accepted = self.listener.accept() => {
                let accepted = accepted.and_then(|(stream, _)| stream.into_std());
                if let Err(error) = accepted.and_then(|stream| self.let_in(stream)) {
                    tracing::error!(%error, "a caller cannot be served");
                    // Out of descriptors or processes, which come back.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            _ = self.look.tick() => {
                self.record_what_is_due();
                self.close();
                self.fill_pool();
            }
        }
    }

    fn ended(&mut self, number: u64, ended: io::Result<ExitStatus>) {
        let uid = self.serving.remove(&number);
        if self.pool.ended(number) {
            self.pool.back_off(Instant::now());
        }
        self.fill_pool();
        let caller = uid.and_then(|uid| self.callers.get_mut(&uid));
        let was_refused = ended
            .as_ref()
            .is_ok_and(|status| status.code() == Some(REFUSED.into()));
        if let Some(caller) = caller {
            caller.running = caller.running.saturating_sub(1);
            if was_refused {
                let now = Instant::now();
                let _paid = (1..REFUSED_COSTS)
                    .filter(|_| caller.bucket.take(now))
                    .count();
            }
        }
        match ended {
            Ok(status) if status.success() || was_refused => {}
            Ok(status) => tracing::error!(uid, %status, "a worker failed"),
            Err(error) => tracing::error!(uid, %error, "a worker cannot be waited for"),
        }
    }

    fn let_in(&mut self, stream: StdUnixStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        let peer = Peer::of(&stream)?;
        let now = Instant::now();
        let running = self.serving.len();
        let caller = self.callers.entry(peer.uid).or_insert_with(|| Caller {
            running: 0,
            bucket: Bucket::new(BURST, EVERY, now),
            untold: 0,
            last: None,
            told: None,
        });
        let why = if !caller.bucket.take(now) {
            "too many requests: ask again in a second"
        } else if caller.running >= RUNS_MAX {
            "too many runs at once: wait until some have ended"
        } else if running >= RUNS_OF_ALL_MAX {
            "too many runs of all users at once: wait until some have ended"
        } else {
            caller.running += 1;
            return self.serve(peer.uid, stream, now);
        };
        caller.untold += 1;
        caller.last = Some((peer, why));
        let answer = Answer::Refused {
            code: TOO_MUCH,
            why: why.to_owned(),
        };
        let connection = Connection::of(stream);
        // It fits into what the socket holds, so this never waits.
        let _gone = connection.say(&answer, &[]);
        self.refused.push(connection.into());
        if self.refused.len() >= CLOSED_TOGETHER {
            self.close();
        }
        Ok(())
    }

    /// Closes refused connections, by the end of a process: what a caller has sent may make whoever closes it wait.
    fn close(&mut self) {
        if self.refused.is_empty() {
            return;
        }
        let mut command = Command::new("/proc/self/exe");
        command
            .arg(CLOSER)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0);
        inherit(
            command.as_std_mut(),
            self.refused.iter().map(AsRawFd::as_raw_fd).collect(),
        );
        match command.spawn() {
            Ok(mut closer) => {
                // It has them, so this closes none. Then its input ends, and it does.
                self.refused.clear();
                drop(closer.stdin.take());
                self.wait_for(closer);
            }
            // Tried again at the next look.
            Err(error) => tracing::error!(%error, "refused connections cannot be closed yet"),
        }
    }

    /// Records who was refused here, each user at most once in a while, in a thread: the ledger may be locked by who reads it.
    fn record_what_is_due(&mut self) {
        if self.recording.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        let is_due = |caller: &&mut Caller| {
            let told = caller.told;
            caller.untold > 0 && told.is_none_or(|told| now.duration_since(told) >= RECORD_EVERY)
        };
        let due: Vec<(Peer, String)> = self
            .callers
            .values_mut()
            .filter(is_due)
            .filter_map(|caller| caller.tell(now))
            .collect();
        if due.is_empty() {
            return;
        }
        let (store, recording) = (self.store.clone(), Arc::clone(&self.recording));
        recording.store(true, Ordering::Relaxed);
        let started = thread::Builder::new()
            .name("refusals".to_owned())
            .spawn(move || {
                record(&store, due);
                recording.store(false, Ordering::Relaxed);
            });
        if let Err(error) = started {
            tracing::error!(%error, "refusals are not recorded");
            self.recording.store(false, Ordering::Relaxed);
        }
    }

    fn serve(&mut self, uid: u32, stream: StdUnixStream, now: Instant) -> io::Result<()> {
        let handed = self.pool.hand_over(stream, now);
        match handed.or_else(|stream| self.start_for(stream)) {
            Ok(number) => {
                self.serving.insert(number, uid);
                Ok(())
            }
            Err(error) => {
                if let Some(caller) = self.callers.get_mut(&uid) {
                    caller.running -= 1;
                }
                Err(error)
            }
        }
    }

    /// Starts a worker for this connection.
    fn start_for(&mut self, stream: StdUnixStream) -> io::Result<u64> {
        // Where there is no worker to have the last of it.
        let kept = stream.try_clone()?;
        let started = self.start_worker(stream, &[]);
        if started.is_err() {
            self.refused.push(kept);
        }
        started
    }

    fn start_worker(&mut self, input: StdUnixStream, options: &[&str]) -> io::Result<u64> {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg(WORKER)
            .args(options)
            .arg("--audit-dir")
            .arg(&self.store)
            .arg("--socket")
            .arg(&self.socket)
            .args(
                self.resolvers
                    .iter()
                    .flat_map(|resolver| ["--resolver".to_owned(), resolver.to_string()]),
            )
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(input)))
            .stdout(Stdio::null())
            // What interrupts the daemon at a terminal is not for runs.
            .process_group(0);
        let worker = command.spawn()?;
        Ok(self.wait_for(worker))
    }

    /// Has the end of a process be known, under this number.
    fn wait_for(&mut self, mut process: Child) -> u64 {
        self.started += 1;
        let number = self.started;
        self.workers
            .spawn(async move { (number, process.wait().await) });
        number
    }

    /// Has as many workers wait for a caller as are to.
    fn fill_pool(&mut self) {
        let now = Instant::now();
        for _ in 0..self.pool.missing(now) {
            let started = StdUnixStream::pair().and_then(|(line, input)| {
                let number = self.start_worker(input, &["--ahead"])?;
                self.pool.add(number, line)
            });
            if let Err(error) = started {
                tracing::error!(%error, "no worker waits for callers");
                self.pool.back_off(now);
            }
        }
    }
}

impl Caller {
    /// What is to be told of them, as from now on it is.
    fn tell(&mut self, now: Instant) -> Option<(Peer, String)> {
        let (peer, why) = self.last?;
        let told = format!("{why} ({} requests since the last such line)", self.untold);
        self.told = Some(now);
        self.untold = 0;
        Some((peer, told))
    }
}

fn record(store: &Path, refused: Vec<(Peer, String)>) {
    for (peer, why) in refused {
        tracing::warn!(uid = peer.uid, pid = peer.pid, "refused: {why}");
        if let Err(error) = worker::record(store, peer, &why) {
            tracing::error!(%error, "that is not recorded");
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.socket);
        self.close();
        let now = Instant::now();
        let untold = self.callers.values_mut().filter(|caller| caller.untold > 0);
        record(
            &self.store,
            untold.filter_map(|caller| caller.tell(now)).collect(),
        );
    }
}
