//! The record that is written out: one object per access, process event or note.
//!
//! `docs/events.md` describes every field. A record of one kind always has the same fields; null
//! means not known or not applicable.

mod name;
mod note;

use std::net::IpAddr;

use serde::Serialize;
use skillsandbox_common::{
    event::PathSource,
    header::{Reason, Verdict},
};

use super::{
    bits::{AccessBits, OpenFlags},
    clock::Time,
    code::{Code, Number},
    text::{HexUnlessUtf8, Text},
};

pub use name::{AddressChange, Change, Dns, StatedRule};
pub use note::{Deadline, End, Environment, Layer, Limit, Lost, Note, Repeat, Running, Start};

/// Version of the records' schema, the field `v`.
pub const RECORD_VERSION: u8 = 1;

/// One record. Borrows from the event it was made of, so that writing it allocates nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Record<'a> {
    /// [`RECORD_VERSION`].
    pub v: u8,
    /// Time of day.
    pub time: Time,
    /// Nanoseconds since boot.
    pub boot_ns: u64,
    /// Which sandbox.
    pub sandbox: &'a str,
    /// Number of the kernel's record in its sandbox; null for a note, which userspace makes.
    pub sequence: Option<u64>,
    /// What happened.
    #[serde(flatten)]
    pub what: What<'a>,
}

impl<'a> Record<'a> {
    /// The decision, where there was one to make.
    #[must_use]
    pub fn decision(&self) -> Option<&Decided<'a>> {
        let What::Event(event) = &self.what else {
            return None;
        };
        match event {
            Event::Connect(network) | Event::Sendmsg(network) | Event::Bind(network) => {
                Some(&network.decided)
            }
            Event::Socket(socket) => Some(&socket.decided),
            Event::Unix(unix) => Some(&unix.decided),
            Event::Ptrace(ptrace) => Some(&ptrace.decided),
            Event::Fork(_) | Event::Exit(_) => None,
            file => file.file().map(|(_, file)| &file.decided),
        }
    }

    /// Whether an access was denied.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        self.decision()
            .is_some_and(|decided| decided.verdict == Code::Known(Verdict::Deny))
    }
}

/// An event of the kernel or a note of userspace.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every record is an event, and a record lives on the stack for one call"
)]
pub enum What<'a> {
    /// Seen by the kernel side.
    Event(Event<'a>),
    /// Said by userspace.
    Note(&'a Note),
}

/// What the kernel side saw.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event<'a> {
    /// A file was opened.
    Open(FileAccess<'a>),
    /// A program was executed.
    Exec(FileAccess<'a>),
    /// A socket was connected.
    Connect(NetworkAccess<'a>),
    /// A datagram was sent.
    Sendmsg(NetworkAccess<'a>),
    /// A socket was given an address of its own.
    Bind(NetworkAccess<'a>),
    /// A socket was made.
    Socket(SocketAccess<'a>),
    /// A unix socket was connected.
    Unix(UnixAccess<'a>),
    /// A file was mapped as code.
    Map(FileAccess<'a>),
    /// A file or folder lost a name.
    Unlink(FileAccess<'a>),
    /// A file or folder lost its name to a new one.
    Rename(FileAccess<'a>),
    /// The new one.
    RenameTo(FileAccess<'a>),
    /// A file was to have a second name.
    Link(FileAccess<'a>),
    /// The second name.
    LinkTo(FileAccess<'a>),
    /// A file was cut or grown, by its path.
    Truncate(FileAccess<'a>),
    /// A folder or symbolic link was made.
    Create(FileAccess<'a>),
    /// The mode or owner of a file was changed.
    Attributes(FileAccess<'a>),
    /// A process was looked into.
    Ptrace(ProcessAccess<'a>),
    /// A process was made.
    Fork(Fork<'a>),
    /// A process ended.
    Exit(Exit<'a>),
}

impl<'a> Event<'a> {
    /// The access to a file, with the field `kind`, where it is one.
    #[must_use]
    pub fn file(&self) -> Option<(&'static str, &FileAccess<'a>)> {
        match self {
            Self::Open(file) => Some(("open", file)),
            Self::Exec(file) => Some(("exec", file)),
            Self::Map(file) => Some(("map", file)),
            Self::Unlink(file) => Some(("unlink", file)),
            Self::Rename(file) => Some(("rename", file)),
            Self::RenameTo(file) => Some(("rename_to", file)),
            Self::Link(file) => Some(("link", file)),
            Self::LinkTo(file) => Some(("link_to", file)),
            Self::Truncate(file) => Some(("truncate", file)),
            Self::Create(file) => Some(("create", file)),
            Self::Attributes(file) => Some(("attributes", file)),
            _ => None,
        }
    }
}

/// What was decided, why, and by which rule.
#[derive(Clone, Debug, Serialize)]
pub struct Decided<'a> {
    /// Allow or deny.
    pub verdict: Code<Verdict>,
    /// Why.
    pub reason: Code<Reason>,
    /// The rule that decided, if one did.
    pub rule: Option<Rule<'a>>,
    /// A part of a manifest that lets this access through; null unless it was denied and one can.
    pub permit: Option<&'a str>,
    /// What helps, in words, where an access was denied that no permission lets through.
    pub remedy: Option<&'a str>,
}

/// A rule of the policy.
#[derive(Clone, Debug, Serialize)]
pub struct Rule<'a> {
    /// Its number, from 1.
    pub number: u32,
    /// How it reads; null when the policy given has no such rule.
    pub text: Option<&'a str>,
    /// Its line in the manifest; null for a built-in rule.
    pub line: Option<u32>,
}

/// Who did it.
#[derive(Clone, Debug, Serialize)]
pub struct Actor<'a> {
    /// Thread id, in the initial PID namespace.
    pub pid: u32,
    /// Process id, in the initial PID namespace.
    pub tgid: u32,
    /// Process id of the parent.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Name of the thread. The program itself can change it.
    pub comm: Text<'a>,
    /// The last program that this process was seen to execute; null when not known.
    pub executable: Option<Text<'a>>,
    /// Where that path comes from; null when not known.
    pub executable_source: Option<Code<PathSource>>,
}

/// An access to a file, or to a name of one.
#[derive(Clone, Debug, Serialize)]
pub struct FileAccess<'a> {
    /// The decision.
    #[serde(flatten)]
    pub decided: Decided<'a>,
    /// Who did it.
    #[serde(flatten)]
    pub actor: Actor<'a>,
    /// Accesses asked for.
    pub access: AccessBits,
    /// The path; null when the kernel could not name the file.
    pub path: Option<Text<'a>>,
    /// The path's bytes in hexadecimal when they are not UTF-8.
    pub path_bytes: HexUnlessUtf8<'a>,
    /// Where the path comes from.
    pub path_source: Code<PathSource>,
    /// Folder descriptor that a passed path starts from (-100 is the working directory).
    pub directory: Option<i32>,
    /// Flags of the open; null for everything else.
    pub open_flags: Option<OpenFlags>,
    /// What the call returned; null where the decision comes before the result.
    pub result: Option<i32>,
    /// Name of the error that the call returned.
    pub error: Option<&'static str>,
}

/// A connection, a datagram, or an address of a socket's own.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkAccess<'a> {
    /// The decision.
    #[serde(flatten)]
    pub decided: Decided<'a>,
    /// Who did it.
    #[serde(flatten)]
    pub actor: Actor<'a>,
    /// The address. A mapped IPv4 address is written as IPv4; `family` tells the two apart.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// Family of the address as the program gave it.
    pub family: Number,
    /// Protocol of the socket.
    pub protocol: Number,
    /// Type of the socket.
    pub socket_type: Number,
    /// A declared host name that has this address, when one is known.
    pub name: Option<&'a str>,
}

/// A new socket.
#[derive(Clone, Debug, Serialize)]
pub struct SocketAccess<'a> {
    /// The decision.
    #[serde(flatten)]
    pub decided: Decided<'a>,
    /// Who did it.
    #[serde(flatten)]
    pub actor: Actor<'a>,
    /// Family of the socket.
    pub family: Number,
    /// Number of the protocol, whose meaning depends on the family; 0 is the usual one.
    pub protocol: u16,
    /// Type of the socket.
    pub socket_type: Number,
}

/// A connection to a unix socket.
#[derive(Clone, Debug, Serialize)]
pub struct UnixAccess<'a> {
    /// The decision.
    #[serde(flatten)]
    pub decided: Decided<'a>,
    /// Who did it.
    #[serde(flatten)]
    pub actor: Actor<'a>,
    /// The name that the socket reached was bound to; null when it has none.
    pub path: Option<Text<'a>>,
    /// The name's bytes in hexadecimal when they are not UTF-8.
    pub path_bytes: HexUnlessUtf8<'a>,
    /// Whether the name is an abstract one, which lies in no folder.
    #[serde(rename = "abstract")]
    pub is_abstract: bool,
    /// Type of the socket.
    pub socket_type: Number,
}

/// A look into another process: tracing it, or what takes the same right.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessAccess<'a> {
    /// The decision.
    #[serde(flatten)]
    pub decided: Decided<'a>,
    /// Who did it.
    #[serde(flatten)]
    pub actor: Actor<'a>,
    /// Id of the other process, in the initial PID namespace.
    pub target: u32,
    /// Bits of `PTRACE_MODE_*`: what was asked for.
    pub mode: u32,
}

/// A process or a thread was made.
#[derive(Clone, Debug, Serialize)]
pub struct Fork<'a> {
    /// Who made it.
    #[serde(flatten)]
    pub actor: Actor<'a>,
    /// Its id.
    pub child: u32,
}

/// A process or a thread ended.
#[derive(Clone, Debug, Serialize)]
pub struct Exit<'a> {
    /// Which.
    #[serde(flatten)]
    pub actor: Actor<'a>,
    /// How.
    #[serde(flatten)]
    pub ending: Ending,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ending {
    /// Its exit code; null when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// That signal's name.
    pub signal_name: Option<&'static str>,
}

impl Ending {
    /// From a status as `wait(2)` encodes it.
    #[must_use]
    pub fn from_wait_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self {
                exit_code: Some((status >> 8) & 0xff),
                ..Self::default()
            },
            signal => Self {
                exit_code: None,
                signal: Some(signal),
                signal_name: super::code::signal_name(signal),
            },
        }
    }
}
