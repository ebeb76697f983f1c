//! What a caller and a worker say to each other (`docs/service.md`): messages of four bytes of length, the highest first, and
//! as many of JSON.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt::socket_peercred,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where the daemon's socket is.
pub const SOCKET: &str = "/run/skillsandbox.socket";
/// What is spoken. Another number is another language.
pub const VERSION: u64 = 1;

/// Bytes of the longest message.
const MESSAGE_MAX: usize = 1 << 20;
/// Descriptors that come with one message at the most.
const DESCRIPTORS_MAX: usize = 4;
/// Longest name of a manifest.
const NAME_MAX: usize = 4096;

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// [`VERSION`].
    pub version: u64,
    /// The run.
    pub run: AskedRun,
}

/// A run that is asked for. What is not here is not for callers to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct AskedRun {
    /// The manifest's text.
    pub manifest: String,
    /// What errors and records call it.
    pub manifest_file: String,
    /// The skill's folder: an absolute path.
    pub skill_dir: PathBuf,
    /// The command, in place of the manifest's entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Arguments after those of the entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// The caller's variables. Of those that the manifest does not pass on the name is enough.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Wants a pipe to the skill's standard input.
    #[serde(default)]
    pub stdin: bool,
    /// Wants accesses on standard error as they happen.
    #[serde(default)]
    pub watch: bool,
    /// Wants a pipe of records, as JSON Lines.
    #[serde(default)]
    pub events: bool,
    /// Wants no run on less than the kernel tier.
    #[serde(default)]
    pub require_kernel: bool,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// It is understood, and begins. With it come the caller's ends of the skill's standard output and standard error, then,
    /// where they were asked for, those of its standard input and of its records.
    Accepted {},
    /// It is over.
    Ended {
        /// The exit code to pass on; none when `max_runtime_seconds` ended it.
        exit_code: Option<u8>,
        /// Whether its record is complete.
        recorded: bool,
    },
    /// There is no run, or it could not be brought to its end.
    Refused {
        /// The exit code of `run` for that.
        code: u8,
        /// Why.
        why: String,
    },
}

/// What is wrong with a message, or with what comes with it.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The connection is over.
    #[error("the other side has closed the connection")]
    Closed,
    /// It takes too long.
    #[error("no whole request came within five seconds")]
    Late,
    /// It is too long.
    #[error("a message of {bytes} bytes is announced, and {MESSAGE_MAX} is the most")]
    TooLong {
        /// How long.
        bytes: usize,
    },
    /// It is none.
    #[error("that is no message of this protocol: {0}")]
    NoMessage(serde_json::Error),
    /// It is of another version.
    #[error(
        "the request is of version {found} of the protocol, and this is version {VERSION}: use the `skillsandbox` of the daemon's package"
    )]
    Version {
        /// Which.
        found: String,
    },
    /// A field cannot be used.
    #[error("{field} {problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The daemon hands over other descriptors than were asked for.
    #[error("the daemon's answer has too few streams with it")]
    Streams,
    /// The connection does not work.
    #[error("the connection fails: {0}")]
    Connection(io::Error),
}

impl From<serde_json::Error> for ServiceError {
    fn from(error: serde_json::Error) -> Self {
        Self::NoMessage(error)
    }
}

impl From<io::Error> for ServiceError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

impl From<rustix::io::Errno> for ServiceError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Connection(error.into())
    }
}

impl Asked {
    /// Reads a request.
    pub fn parse(message: &[u8]) -> Result<Self, ServiceError> {
        let value: Value = serde_json::from_slice(message)?;
        // Before anything else of it, which may be of another version.
        let version = value.get("version");
        if version.and_then(Value::as_u64) != Some(VERSION) {
            let found = version.map_or("no".to_owned(), |found| {
                found.to_string().chars().take(32).collect()
            });
            return Err(ServiceError::Version { found });
        }
        let asked: Self = serde_json::from_value(value)?;
        asked.run.check()?;
        Ok(asked)
    }
}

impl AskedRun {
    fn check(&self) -> Result<(), ServiceError> {
        let field = |field, problem| Err(ServiceError::Field { field, problem });
        let name = &self.manifest_file;
        if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
            return field(
                "manifest_file",
                "is empty, too long, or has a control character",
            );
        }
        let folder = self.skill_dir.as_os_str().as_encoded_bytes();
        if !self.skill_dir.is_absolute() || folder.len() > NAME_MAX || folder.contains(&0) {
            return field("skill_dir", "is no absolute path");
        }
        if self.command.as_ref().is_some_and(Vec::is_empty) {
            return field("command", "is empty");
        }
        let has_nul = |text: &String| text.contains('\0');
        let mut words = self.command.iter().flatten().chain(&self.arguments);
        if words.any(has_nul) {
            return field("command", "or an argument has a NUL in it");
        }
        let is_a_name = |name: &String| !(name.is_empty() || name.contains(['=', '\0']));
        let mut variables = self.environment.iter();
        if !variables.all(|(name, value)| is_a_name(name) && !has_nul(value)) {
            return field(
                "environment",
                "has a name or a value that no variable can have",
            );
        }
        Ok(())
    }
}

/// Who is at the other end, as the kernel knew when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) pid: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let told = socket_peercred(stream)?;
        Ok(Self {
            pid: told.pid.as_raw_pid().unsigned_abs(),
            uid: told.uid.as_raw(),
            gid: told.gid.as_raw(),
        })
    }
}

/// One caller's connection.
#[derive(Debug)]
pub(super) struct Connection(UnixStream);

impl Connection {
    pub(super) fn of(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// Waits no longer than this for who does not listen.
    pub(super) fn say_within(&self, patience: Duration) -> Result<(), ServiceError> {
        Ok(self.0.set_write_timeout(Some(patience))?)
    }

    pub(super) fn peer(&self) -> Result<Peer, ServiceError> {
        Ok(Peer::of(&self.0)?)
    }

    /// Says something, and hands over descriptors with it.
    pub(super) fn say(
        &self,
        what: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ServiceError> {
        let json = serde_json::to_vec(what)?;
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
        if json.len() > MESSAGE_MAX {
            return Err(ServiceError::TooLong { bytes: json.len() });
        }
        let message = [&length.to_be_bytes()[..], &json].concat();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors for one message").into());
        }
        let sent = sendmsg(
            &self.0,
            &[IoSlice::new(&message)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        (&self.0).write_all(message.get(sent..).unwrap_or_default())?;
        Ok(())
    }

    /// Hears the next message, until then, and takes the descriptors that come with it.
    pub(super) fn hear(
        &self,
        until: Option<Instant>,
    ) -> Result<(Vec<u8>, Vec<OwnedFd>), ServiceError> {
        let mut length = [0; 4];
        let mut descriptors = Vec::new();
        let mut heard = 0;
        while let Some(rest @ [_, ..]) = length.get_mut(heard..) {
            self.wait_until(until)?;
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(
                &self.0,
                &mut [IoSliceMut::new(rest)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            );
            let received = received.map_err(|error| late(error.into()))?;
            // What has no room is closed by the kernel.
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(handed) = message {
                    descriptors.extend(handed);
                }
            }
            if received.bytes == 0 {
                return Err(ServiceError::Closed);
            }
            heard += received.bytes;
        }
        let bytes = u32::from_be_bytes(length) as usize;
        if bytes > MESSAGE_MAX {
            return Err(ServiceError::TooLong { bytes });
        }
        let mut message = vec![0; bytes];
        let mut heard = 0;
        while let Some(rest @ [_, ..]) = message.get_mut(heard..) {
            self.wait_until(until)?;
            match (&self.0).read(rest).map_err(late)? {
                0 => return Err(ServiceError::Closed),
                more => heard += more,
            }
        }
        Ok((message, descriptors))
    }

    fn wait_until(&self, until: Option<Instant>) -> Result<(), ServiceError> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(ServiceError::Late);
        }
        Ok(self.0.set_read_timeout(left)?)
    }
}

impl From<Connection> for UnixStream {
    fn from(connection: Connection) -> Self {
        connection.0
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn late(error: io::Error) -> ServiceError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ServiceError::Late,
        _ => ServiceError::Connection(error),
    }
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
