//! Proves that an attached program really decides: a probe process in the sandbox's cgroup tries
//! what the program must refuse, before and after it is attached.
//!
//! A kernel whose `lsm=` list lacks `bpf` loads and attaches LSM programs and never calls them.
//! Only behaviour tells.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::BorrowedFd,
    os::linux::net::SocketAddrExt,
    os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::SystemTime,
};

use rustix::fs::{Mode, OFlags, openat};
use skillsandbox_common::names::{Hook, Program};

use super::KernelError;

/// The hidden subcommand that [`child`] is.
pub const SUBCOMMAND: &str = "__probe";

/// What a refused access answers: a cgroup program can only say `EPERM`.
const REFUSED: i32 = libc::EPERM;
/// The discard port (RFC 863): nothing is expected to answer.
const DISCARD: u16 = 9;

/// What was seen of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The access went through before it was attached, and was refused after.
    Denies,
    /// The access went through after it was attached.
    NeverCalled,
    /// The host cannot even try the access, so neither can a skill.
    NotPossible(String),
}

/// The probe process.
#[derive(Debug)]
pub(super) struct Prover {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Prover {
    /// Starts the probe process and moves it into the cgroup.
    pub(super) fn start(cgroup: BorrowedFd<'_>) -> Result<Self, KernelError> {
        let failed = |error: io::Error| KernelError::Probe(error);
        let mut child = Command::new("/proc/self/exe")
            .arg(SUBCOMMAND)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (Some(commands), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(io::Error::other("it has no pipes")));
        };
        let mut prover = Self {
            child,
            commands,
            answers: BufReader::new(answers),
        };
        // It has started once it answers, and opens no file of its own after that.
        prover.attempt("nothing")?;
        let procs = openat(
            cgroup,
            "cgroup.procs",
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| failed(error.into()))?;
        File::from(procs)
            .write_all(prover.child.id().to_string().as_bytes())
            .map_err(failed)?;
        Ok(prover)
    }

    /// What the access that `program` decides on answers now: 0 or an `errno`.
    fn try_for(&mut self, program: &Program) -> Result<i32, KernelError> {
        match program.hook {
            Hook::LsmCgroup("bprm_check_security") => self.attempt("exec"),
            Hook::LsmCgroup("unix_stream_connect") => self.attempt("unix"),
            Hook::LsmCgroup("socket_create") => self.attempt("socket"),
            Hook::LsmCgroup(_) => self.attempt("open"),
            Hook::SocketAddress(hook) => self.attempt(hook),
            Hook::RawTracepoint(_) => self.attempt("nothing"),
        }
    }

    /// Runs `attach` between two attempts and says what changed.
    pub(super) fn prove<T>(
        &mut self,
        program: &Program,
        attach: impl FnOnce() -> Result<T, KernelError>,
    ) -> Result<(T, Proof), KernelError> {
        let before = self.try_for(program)?;
        let attached = attach()?;
        let after = self.try_for(program)?;
        let proof = if after == REFUSED && before != REFUSED {
            Proof::Denies
        } else if before != 0 && after != 0 {
            Proof::NotPossible(io::Error::from_raw_os_error(before).to_string())
        } else {
            Proof::NeverCalled
        };
        Ok((attached, proof))
    }

    fn attempt(&mut self, what: &str) -> Result<i32, KernelError> {
        let failed = |error: io::Error| KernelError::Probe(error);
        writeln!(self.commands, "{what}").map_err(failed)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).map_err(failed)?;
        answer.trim().parse().map_err(|_ignored| {
            failed(io::Error::other(format!(
                "it answered {answer:?} to {what:?}"
            )))
        })
    }
}

impl Drop for Prover {
    fn drop(&mut self) {
        // A probe that is gone already is what is wanted.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The probe process: tries what each line of standard input names, and answers an `errno` or 0.
pub fn child() -> io::Result<()> {
    let mut answers = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let outcome = match line?.as_str() {
            "open" => File::open("/").map(drop),
            "exec" => Command::new("/proc/self/exe")
                .arg("--version")
                .stdout(Stdio::null())
                .status()
                .map(drop),
            "connect4" => socket(V4).and_then(|socket| socket.connect((V4, DISCARD))),
            "connect6" => socket(V6).and_then(|socket| socket.connect((V6, DISCARD))),
            "sendmsg4" => socket(V4).and_then(|socket| send(&socket, V4)),
            "sendmsg6" => socket(V6).and_then(|socket| send(&socket, V6)),
            "bind4" => socket(V4).map(drop),
            "bind6" => socket(V6).map(drop),
            "unix" => unix(),
            "socket" => UnixDatagram::unbound().map(drop),
            _ => Ok(()),
        };
        let errno = outcome
            .err()
            .map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
        writeln!(answers, "{errno}")?;
        answers.flush()?;
    }
    Ok(())
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn socket(address: IpAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind((address, 0))
}

/// Connects to a unix socket of this process's own.
fn unix() -> io::Result<()> {
    // Nobody is to have taken the name already.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_err(io::Error::other)?.as_nanos();
    let name = format!("skillsandbox-probe-{}-{now}", std::process::id());
    let address = SocketAddr::from_abstract_name(name)?;
    let _listener = UnixListener::bind_addr(&address)?;
    UnixStream::connect_addr(&address).map(drop)
}

fn send(socket: &UdpSocket, address: IpAddr) -> io::Result<()> {
    socket.send_to(&[], (address, DISCARD)).map(drop)
}
