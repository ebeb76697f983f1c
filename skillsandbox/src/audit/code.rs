//! Numbers of the kernel and their names. A number without a name is written as a number: never
//! guessed, never lost.

use std::{
    borrow::Cow,
    fmt::{self, Display, Formatter},
};

use serde::{Serialize, Serializer};
use skillsandbox_common::{
    event::PathSource,
    header::{Kind, Reason, Verdict},
};

/// What the number of a code without a name is written after.
const UNKNOWN: &str = "unknown_";

/// A code of the kernel side: known to this version, or the number of a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code<T> {
    /// A code of this version.
    Known(T),
    /// Any other number.
    Unknown(u16),
}

/// What has a name in every output.
pub trait Named {
    /// That name.
    fn name(&self) -> &'static str;
}

macro_rules! named {
    ($($type:ty),*) => { $(impl Named for $type {
        fn name(&self) -> &'static str { self.as_str() }
    })* };
}
named!(Kind, Verdict, Reason);

impl Named for PathSource {
    fn name(&self) -> &'static str {
        match self {
            Self::Resolved => "resolved",
            Self::Passed => "passed",
        }
    }
}

impl Code<Verdict> {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Known(verdict) => verdict as u8,
            Self::Unknown(number) => u8::try_from(number).unwrap_or(u8::MAX),
        }
    }

    /// The verdict of this number.
    #[must_use]
    pub fn verdict(code: u8) -> Self {
        Verdict::from_code(code).map_or(Self::Unknown(code.into()), Self::Known)
    }
}

impl Code<Reason> {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Known(reason) => reason as u8,
            Self::Unknown(number) => u8::try_from(number).unwrap_or(u8::MAX),
        }
    }

    /// The reason of this number.
    #[must_use]
    pub fn reason(code: u8) -> Self {
        Reason::from_code(code).map_or(Self::Unknown(code.into()), Self::Known)
    }
}

impl Code<PathSource> {
    /// The source of this number.
    #[must_use]
    pub fn path_source(code: u16) -> Self {
        PathSource::from_code(code).map_or(Self::Unknown(code), Self::Known)
    }
}

impl<T: Named> Code<T> {
    /// As it is written.
    #[must_use]
    pub fn text(self) -> Cow<'static, str> {
        match self {
            Self::Known(code) => Cow::Borrowed(code.name()),
            Self::Unknown(_) => Cow::Owned(self.to_string()),
        }
    }

    /// What is written so, of the codes that `of` makes of numbers.
    pub(crate) fn parse(text: &str, of: impl Fn(u16) -> Self) -> Option<Self> {
        if let Some(number) = text.strip_prefix(UNKNOWN) {
            return number.parse().ok().map(of);
        }
        // Codes have few numbers, from 0.
        (0..=u8::MAX.into()).map(of).find(|code| match code {
            Self::Known(code) => code.name() == text,
            Self::Unknown(_) => false,
        })
    }
}

impl<T: Named> Display for Code<T> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(code) => out.pad(code.name()),
            Self::Unknown(number) => write!(out, "{UNKNOWN}{number}"),
        }
    }
}

impl<T: Named> Serialize for Code<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known(code) => serializer.serialize_str(code.name()),
            Self::Unknown(_) => serializer.collect_str(self),
        }
    }
}

/// No number with a name is greater.
const NAMED_MAX: u16 = 0x1ff;

/// A number with a name in a table, written as the name or as `unknown_<number>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    number: u16,
    name: Option<&'static str>,
}

impl Number {
    fn of(number: u16, table: &[(u16, &'static str)]) -> Self {
        let name = table.iter().find(|(known, _)| *known == number);
        Self {
            number,
            name: name.map(|(_, name)| *name),
        }
    }

    /// What is written so, of the numbers that `of` knows the names of.
    pub(crate) fn parse(text: &str, of: impl Fn(u16) -> Self) -> Option<Self> {
        if let Some(number) = text.strip_prefix(UNKNOWN) {
            return number.parse().ok().map(of);
        }
        (0..=NAMED_MAX)
            .map(of)
            .find(|number| number.name == Some(text))
    }

    /// An `AF_*` number (`include/linux/socket.h`).
    #[must_use]
    pub fn family(number: u16) -> Self {
        const TABLE: &[(u16, &str)] = &[
            (1, "unix"),
            (2, "inet"),
            (10, "inet6"),
            (16, "netlink"),
            (17, "packet"),
            (31, "bluetooth"),
            (38, "alg"),
            (40, "vsock"),
            (44, "xdp"),
        ];
        Self::of(number, TABLE)
    }

    /// An `IPPROTO_*` number (`include/uapi/linux/in.h`).
    #[must_use]
    pub fn protocol(number: u16) -> Self {
        const TABLE: &[(u16, &str)] = &[
            (6, "tcp"),
            (17, "udp"),
            (1, "icmp"),
            (58, "icmpv6"),
            (33, "dccp"),
            (132, "sctp"),
            (136, "udplite"),
            (255, "raw"),
            (262, "mptcp"),
        ];
        Self::of(number, TABLE)
    }

    /// A `SOCK_*` number (`include/linux/net.h`).
    #[must_use]
    pub fn socket_type(number: u16) -> Self {
        const TABLE: &[(u16, &str)] = &[
            (1, "stream"),
            (2, "datagram"),
            (3, "raw"),
            (5, "seqpacket"),
            (6, "dccp"),
        ];
        Self::of(number, TABLE)
    }
}

impl Display for Number {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => out.write_str(name),
            None => write!(out, "{UNKNOWN}{}", self.number),
        }
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.name {
            Some(name) => serializer.serialize_str(name),
            None => serializer.collect_str(self),
        }
    }
}

macro_rules! table {
    ($(#[$doc:meta])* $function:ident: $($name:ident)*) => {
        $(#[$doc])*
        #[must_use]
        pub fn $function(number: i32) -> Option<&'static str> {
            match number {
                $(libc::$name => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

table! {
    /// Name of an `errno`, of those that opening and executing give (`open(2)`, `execve(2)`).
    errno_name:
    E2BIG EACCES EAGAIN EBADF EBUSY EDQUOT EEXIST EFAULT EFBIG EINTR EINVAL EIO EISDIR ELIBBAD
    ELOOP EMFILE ENAMETOOLONG ENFILE ENODEV ENOENT ENOEXEC ENOMEM ENOSPC ENOSYS ENOTDIR ENXIO
    EOPNOTSUPP EOVERFLOW EPERM EROFS ESTALE ETXTBSY EXDEV
}

table! {
    /// Name of a signal that can end a process (`signal(7)`).
    signal_name:
    SIGABRT SIGALRM SIGBUS SIGFPE SIGHUP SIGILL SIGINT SIGIO SIGKILL SIGPIPE SIGPROF SIGPWR SIGQUIT
    SIGSEGV SIGSTKFLT SIGSYS SIGTERM SIGTRAP SIGUSR1 SIGUSR2 SIGVTALRM SIGXCPU SIGXFSZ
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn unknown_codes_stay_numbers() {
        assert_eq!(json(&Code::verdict(1)), r#""deny""#);
        assert_eq!(json(&Code::verdict(9)), r#""unknown_9""#);
        assert_eq!(json(&Code::reason(200)), r#""unknown_200""#);
        assert_eq!(json(&Code::path_source(7)), r#""unknown_7""#);
        assert_eq!(json(&Number::protocol(6)), r#""tcp""#);
        assert_eq!(json(&Number::protocol(999)), r#""unknown_999""#);
        assert_eq!(json(&Number::family(3)), r#""unknown_3""#);
    }

    #[test]
    fn errors_and_signals_have_their_names() {
        assert_eq!(errno_name(13), Some("EACCES"));
        assert_eq!(errno_name(9999), None);
        assert_eq!(signal_name(9), Some("SIGKILL"));
    }
}
