//! The daemon's socket: whoever comes is let in or refused, and has a worker.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder},
    io,
    net::SocketAddr,
    os::{
        fd::OwnedFd,
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

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pipe::{PipeFlags, pipe_with},
};
use tokio::{
    net::UnixListener,
    process::{Child, Command},
    task::JoinSet,
    time::{Interval, interval},
};

use super::{
    callers::Callers,
    closing::Closing,
    pool::Pool,
    protocol::{Answer, Connection, Peer},
    worker::{self, REFUSED, WORKER},
};
use crate::{audit::store::group_of, supervise::error::RunError};

/// How often is looked whether something is to be recorded, or closed.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The exit code of a caller who asks too much, as that of a sandbox that could not be set up.
const TOO_MUCH: u8 = 122;

/// The socket, and everybody who came to it.
pub(in crate::supervise) struct Door {
    listener: UnixListener,
    socket: PathBuf,
    store: PathBuf,
    resolvers: Vec<SocketAddr>,
    callers: Callers,
    /// Every process of ours that has not ended, by the number that it has here.
    workers: JoinSet<(u64, io::Result<ExitStatus>)>,
    started: u64,
    /// Whom they serve, or have served.
    serving: HashMap<u64, u32>,
    /// The ends of pipes that they close when whoever they serve is answered.
    unanswered: HashMap<u64, OwnedFd>,
    pool: Pool,
    /// What is to be closed, and not by this process.
    closing: Closing,
    /// Whether a thread writes to the ledger.
    recording: Arc<AtomicBool>,
    look: Interval,
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
            callers: Callers::default(),
            workers: JoinSet::new(),
            started: 0,
            serving: HashMap::new(),
            unanswered: HashMap::new(),
            pool: Pool::new(),
            closing: Closing::default(),
            recording: Arc::default(),
            look: interval(LOOK_EVERY),
        })
    }

    /// Lets the next one in, or the end of one be known. Nothing is lost when it is not waited for to the end.
    pub(in crate::supervise) async fn next(&mut self) {
        tokio::select! {
            Some(came) = self.workers.join_next() => match came {
                Ok((number, ended)) => self.ended(number, ended),
                Err(error) => {
                    tracing::error!(%error, "a worker is not waited for any more, by a fault of ours");
                }
            },
            accepted = self.listener.accept(), if !self.closing.is_full() => {
                let accepted = accepted.and_then(|(stream, _)| stream.into_std());
                if let Err(error) = accepted.and_then(|stream| self.let_in(stream)) {
                    tracing::error!(%error, "a caller cannot be served");
                    // Out of descriptors or processes, which come back.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            _ = self.look.tick() => {
                self.record_what_is_due();
                self.fill_pool();
                self.close();
            }
        }
    }

    /// Lets those whose run is over for them ask for the next.
    fn hear_answers(&mut self) {
        let is_answered = |number: &u64, line: &mut OwnedFd| {
            let mut line = [PollFd::new(line, PollFlags::empty())];
            self.serving.contains_key(number)
                && matches!(poll(&mut line, Some(&Timespec::default())), Ok(1))
        };
        let answered: Vec<_> = self.unanswered.extract_if(is_answered).collect();
        for (number, _) in answered {
            if let Some(uid) = self.serving.get(&number) {
                self.callers.leave(*uid);
            }
        }
    }

    fn ended(&mut self, number: u64, ended: io::Result<ExitStatus>) {
        let now = Instant::now();
        let uid = self.serving.remove(&number);
        if let (Some(uid), Some(_)) = (uid, self.unanswered.remove(&number)) {
            self.callers.leave(uid);
        }
        if let Some(line) = self.pool.ended(number) {
            self.closing.add([line]);
            self.pool.back_off(now);
        }
        self.fill_pool();
        let was_refused = ended
            .as_ref()
            .is_ok_and(|status| status.code() == Some(REFUSED.into()));
        if let Some(uid) = uid
            && was_refused
        {
            self.callers.charge(uid, now);
        }
        match ended {
            Ok(status) if status.success() || was_refused => {}
            Ok(status) => tracing::error!(uid, %status, "a worker failed"),
            Err(error) => tracing::error!(uid, %error, "a worker cannot be waited for"),
        }
    }

    fn let_in(&mut self, stream: StdUnixStream) -> io::Result<()> {
        let peer = match stream
            .set_nonblocking(false)
            .and_then(|()| Peer::of(&stream))
        {
            Ok(peer) => peer,
            Err(error) => {
                self.closing.add([stream]);
                return Err(error);
            }
        };
        // One of them may be the one who asks again.
        self.hear_answers();
        let now = Instant::now();
        let why = match self.callers.admit(peer, now) {
            Ok(()) => return self.serve(peer.uid, stream, now),
            Err(why) => why,
        };
        let answer = Answer::Refused {
            code: TOO_MUCH,
            why: why.to_owned(),
        };
        let connection = Connection::of(stream);
        // It fits into what the socket holds, so this never waits.
        let _gone = connection.say(&answer, &[]);
        self.closing.add([connection.into()]);
        if self.closing.is_due() {
            self.close();
        }
        Ok(())
    }

    /// Has what is to be closed be closed.
    fn close(&mut self) {
        match self.closing.start() {
            Ok(None) => {}
            Ok(Some(closer)) => drop(self.wait_for(closer)),
            // Tried again at the next look.
            Err(error) => tracing::error!(%error, "connections cannot be closed yet"),
        }
    }

    /// Records who was refused here, each user at most once in a while, in a thread: the ledger may be locked by who reads it.
    fn record_what_is_due(&mut self) {
        if self.recording.load(Ordering::Relaxed) {
            return;
        }
        let due = self.callers.due(Instant::now());
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
        let number = match self.pool.hand_over(&stream, now) {
            Some((number, line)) => {
                // The worker may be gone before they are closed here.
                self.closing.add([stream, line]);
                Ok(number)
            }
            None => self.start_for(stream),
        };
        match number {
            Ok(number) => {
                self.serving.insert(number, uid);
                Ok(())
            }
            Err(error) => {
                self.callers.leave(uid);
                Err(error)
            }
        }
    }

    /// Starts a worker for this connection.
    fn start_for(&mut self, stream: StdUnixStream) -> io::Result<u64> {
        // The worker may be gone before it is closed here.
        match stream.try_clone() {
            Ok(kept) => {
                self.closing.add([kept]);
                self.start_worker(stream, &[])
            }
            Err(error) => {
                self.closing.add([stream]);
                Err(error)
            }
        }
    }

    fn start_worker(&mut self, input: StdUnixStream, options: &[&str]) -> io::Result<u64> {
        let (unanswered, output) = pipe_with(PipeFlags::CLOEXEC)?;
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
            .stdout(Stdio::from(output))
            // What interrupts the daemon at a terminal is not for runs.
            .process_group(0);
        let number = self.wait_for(command.spawn()?);
        self.unanswered.insert(number, unanswered);
        Ok(number)
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
        if self.pool.is_idle(now) {
            self.closing.add(self.pool.let_go());
        }
        for _ in 0..self.pool.missing(now) {
            let started = StdUnixStream::pair().and_then(|(line, input)| {
                let number = self.start_worker(input, &["--ahead"])?;
                self.pool.add(number, line)
            });
            if let Err(error) = started {
                tracing::error!(%error, "no worker waits for callers");
                self.pool.back_off(now);
                break;
            }
        }
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
        self.closing.add(self.pool.let_go());
        self.close();
        record(&self.store, self.callers.untold(Instant::now()));
    }
}
