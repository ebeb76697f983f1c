//! Proves that an attached program really decides: a probe process in the sandbox's cgroup tries
//! what the program must refuse, before and after it is attached.
//!
//! A kernel whose `lsm=` list lacks `bpf` loads and attaches LSM programs and never calls them.
//! Only behaviour tells.

mod child;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat},
    io::Errno,
};
use skillsandbox_common::names::{Hook, Program};

use super::KernelError;

pub use child::child;

/// The hidden subcommand that [`child`] is.
pub const SUBCOMMAND: &str = "__probe";

/// A port of UDP that nothing but a firewall's proof is about. Nobody listens there (RFC 1078, which is
/// historic, is about TCP).
pub const PROBED: u16 = 1;

/// What a refused access answers: a cgroup program can only say `EPERM`, and ours say nothing else.
const REFUSED: i32 = libc::EPERM;

/// The probe's own cgroup, in the one that programs are attached to.
const CGROUP: &str = "skillsandbox-probe";
/// How often it is tried to remove it: its last process may not be quite gone.
const REMOVALS: u32 = 100;

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
pub struct Prover {
    /// The cgroup that its own is in.
    outer: OwnedFd,
    cgroup_id: u64,
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Prover {
    /// Starts the probe process in a cgroup of its own in this one, to which it has nothing attached yet.
    pub fn start(cgroup: BorrowedFd<'_>) -> Result<Self, KernelError> {
        let failed = |error: io::Error| KernelError::Probe(error);
        let outer = cgroup.try_clone_to_owned().map_err(failed)?;
        match mkdirat(&outer, CGROUP, Mode::from_raw_mode(0o755)) {
            // One that was killed may have left it.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let own = openat(&outer, CGROUP, flags, Mode::empty());
        let own = File::from(own.map_err(|error| failed(error.into()))?);
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
            outer,
            cgroup_id: own.metadata().map_err(failed)?.ino(),
            child,
            commands,
            answers: BufReader::new(answers),
        };
        // It has started once it answers, and opens no file of its own after that.
        prover.attempt("outside")?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let procs = openat(&own, "cgroup.procs", flags, Mode::empty());
        File::from(procs.map_err(|error| failed(error.into()))?)
            .write_all(prover.child.id().to_string().as_bytes())
            .map_err(failed)?;
        // While nothing is attached yet, sockets of the cgroup's that send later.
        prover.attempt("inside")?;
        Ok(prover)
    }

    /// Id of its own cgroup.
    pub(super) fn cgroup_id(&self) -> u64 {
        self.cgroup_id
    }

    /// What to try for a program. What is about names of files is tried in this folder of ours, which
    /// no name is taken from.
    fn access_of(program: &Program, folder: &Path) -> String {
        let what = match program.hook {
            Hook::LsmCgroup(hook @ ("path_unlink" | "path_rename" | "path_link"))
            | Hook::Lsm(hook) => {
                return format!("{hook} {}", folder.display());
            }
            Hook::LsmCgroup(hook) | Hook::SocketAddress(hook) | Hook::Packet(hook) => hook,
            Hook::SocketAnswer(_) | Hook::RawTracepoint(_) | Hook::Called => "nothing",
        };
        what.to_owned()
    }

    /// Runs `attach`, for a program, between two attempts and says what changed.
    pub(super) fn prove<T>(
        &mut self,
        program: &Program,
        folder: &Path,
        attach: impl FnOnce() -> Result<T, KernelError>,
    ) -> Result<(T, Proof), KernelError> {
        self.prove_by(&Self::access_of(program, folder), attach)
    }

    /// Runs `change` between two attempts and says what changed.
    pub fn prove_by<T, E: From<KernelError>>(
        &mut self,
        access: &str,
        change: impl FnOnce() -> Result<T, E>,
    ) -> Result<(T, Proof), E> {
        let before = self.attempt(access)?;
        let attached = change()?;
        let after = self.attempt(access)?;
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
        for _ in 0..REMOVALS {
            match unlinkat(&self.outer, CGROUP, AtFlags::REMOVEDIR) {
                Err(Errno::BUSY) => thread::sleep(Duration::from_millis(1)),
                // One that stays is found by the next.
                _ => return,
            }
        }
    }
}
