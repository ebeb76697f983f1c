//! The part that every event starts with: what happened, when, to whom, and what was decided.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of the event layout. A reader refuses events of another version.
pub const EVENT_VERSION: u8 = 1;

/// Length of `comm`, `TASK_COMM_LEN` in `include/linux/sched.h`.
pub const COMM_LEN: usize = 16;

/// First bytes of every event. Integers in the machine's byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EventHeader {
    /// [`EVENT_VERSION`].
    pub version: u8,
    /// [`Kind`] as a number.
    pub kind: u8,
    /// [`Verdict`] as a number.
    pub verdict: u8,
    /// [`Reason`] as a number.
    pub reason: u8,
    /// Bytes of the whole event, header included.
    pub length: u32,
    /// Nanoseconds since boot, time asleep included (`CLOCK_BOOTTIME`).
    pub time_ns: u64,
}

/// Who did it. Follows the header in every event.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Actor {
    /// Number of this record in its sandbox, from 1. A hole is a dropped record, and counted.
    pub sequence: u64,
    /// Thread id in the initial PID namespace (the kernel's `pid`).
    pub pid: u32,
    /// Process id in the initial PID namespace (the kernel's `tgid`).
    pub tgid: u32,
    /// Process id of the parent.
    pub ppid: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Real group id in the initial user namespace.
    pub gid: u32,
    /// Rule that decided, an index into the compiled policy's rules plus one; 0 when none did.
    pub rule: u32,
    /// Name of the thread, NUL-padded.
    pub comm: [u8; COMM_LEN],
}

/// Header and actor: the fixed part of every event, one cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EventPrefix {
    /// What happened.
    pub header: EventHeader,
    /// Who did it.
    pub actor: Actor,
}

impl EventPrefix {
    /// The sequence number in the bytes of an event; 0, which none has, where there are too few.
    #[must_use]
    pub fn sequence_of(event: &[u8]) -> u64 {
        const AT: usize = offset_of!(EventPrefix, actor) + offset_of!(Actor, sequence);
        let number = event.get(AT..).and_then(<[u8]>::first_chunk);
        number.map_or(0, |number| u64::from_ne_bytes(*number))
    }
}

const _: () = {
    assert!(size_of::<EventHeader>() == 16);
    assert!(size_of::<Actor>() == 48);
    assert!(size_of::<EventPrefix>() == 64);
};

/// A `u8` code that both sides share. An unknown number from a newer program stays a number:
/// `from_code` answers `None`, nothing is transmuted.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $code:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$variant_doc])* $variant = $code,)* }

        impl $name {
            /// Every code, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code of this number, or `None` for one that this version does not know.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// The name used in every output.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

codes! {
    /// What was done.
    Kind {
        /// A file was opened.
        Open = 1 "open",
        /// A program was executed.
        Exec = 2 "exec",
        /// A socket was connected.
        Connect = 3 "connect",
        /// A datagram was sent to an address that its socket is not connected to.
        Sendmsg = 4 "sendmsg",
        /// A process was made.
        Fork = 5 "fork",
        /// A process ended.
        Exit = 6 "exit",
        /// A socket was given an address of its own.
        Bind = 7 "bind",
        /// A socket was made.
        Socket = 8 "socket",
        /// A unix socket was connected.
        Unix = 9 "unix",
        /// A file was mapped into memory as code.
        Map = 10 "map",
        /// A file or folder lost a name.
        Unlink = 11 "unlink",
        /// A file or folder lost its old name to a new one, which `RenameTo` tells.
        Rename = 12 "rename",
        /// The new name.
        RenameTo = 13 "rename_to",
        /// A file was to have a second name, which `LinkTo` tells.
        Link = 14 "link",
        /// The second name.
        LinkTo = 15 "link_to",
        /// A file was cut or grown to a length, by its path.
        Truncate = 16 "truncate",
        /// Another process was looked into: traced, its memory or descriptors read.
        Ptrace = 17 "ptrace",
        /// A folder or symbolic link was made.
        Create = 18 "create",
        /// The mode or the owner of a file was changed, by its path or through an open file.
        Attributes = 19 "attributes",
    }
}

codes! {
    /// What was decided.
    Verdict {
        /// The access went on to the kernel's other checks.
        Allow = 0 "allow",
        /// The access was refused.
        Deny = 1 "deny",
        /// The policy refuses it and is only audited: it went on.
        WouldDeny = 2 "would_deny",
    }
}

codes! {
    /// Why.
    Reason {
        /// A rule of the manifest allows it.
        Rule = 0 "rule",
        /// No rule allows it.
        NoRule = 1 "no_rule",
        /// A rule of the manifest denies it.
        DenyRule = 2 "deny_rule",
        /// A rule covers the path or address, but not this access, port or protocol.
        NotGranted = 3 "not_granted",
        /// The sandbox has no policy yet, or no longer.
        NoPolicy = 4 "no_policy",
        /// The path is longer than `PATH_MAX`.
        PathTooLong = 5 "path_too_long",
        /// The kernel could not name the file.
        PathUnreadable = 6 "path_unreadable",
        /// The file has been deleted, so its name is no longer its own.
        PathDeleted = 7 "path_deleted",
        /// The object has no path: it lives in a file system without names.
        NoPath = 8 "no_path",
        /// There was no memory for the decision.
        NoScratch = 9 "no_scratch",
        /// The record could not be kept and the policy says to deny then (`audit.on_overflow`).
        Overflow = 10 "overflow",
        /// The socket address is of a family or form that the rules cannot express.
        AddressFamily = 11 "address_family",
        /// Another layer of the kernel refused; `result` is its error.
        Refused = 12 "refused",
        /// Nothing to decide: the record of a fact (fork, exit, a call seen by a tracepoint).
        Observed = 13 "observed",
        /// The kernel is to choose the port, so nobody else's is taken.
        AnyPort = 14 "any_port",
        /// The task is in another mount namespace than its sandbox, or under another root, where
        /// a path can mean another file.
        ForeignNamespace = 15 "foreign_namespace",
        /// The file would come to where the rules grant more.
        MoreGranted = 16 "more_granted",
        /// A second name in another folder than the first: the first cannot be told.
        OtherFolder = 17 "other_folder",
        /// The process is outside the sandbox.
        OutsideProcess = 18 "outside_process",
        /// Others execute or obey what has this name, and no rule names it.
        Persistence = 19 "persistence",
        /// Port 53, wherever: the sandbox's own name server is reached in its place.
        NameServer = 20 "name_server",
        /// A name was asked for records that can carry anything: hosts are looked up without.
        RecordType = 21 "record_type",
        /// A name is longer than those below a wildcard may be.
        NameTooLong = 22 "name_too_long",
        /// More names below wildcards were asked for than may be at a time.
        TooManyNames = 23 "too_many_names",
        /// A name has only addresses of hosts and networks that no name of the internet has.
        PrivateAddress = 24 "private_address",
        /// A message to the name server that was not to be read.
        Unreadable = 25 "unreadable",
    }
}
