//! Numbers of the kernel and their names. A number without a name is written as a number: never
//! guessed, never lost.

use std::{
    borrow::Cow,
    fmt::{self, Display, Formatter},
};

use serde::{Serialize, Serializer, ser::SerializeSeq};
use skillsandbox_common::{
    event::PathSource,
    header::{Kind, Reason, Verdict},
    rule::Access,
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

/// Bits of [`Access`], written as a list of names; the bits without one as `unknown_0x…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessBits(pub u16);

impl AccessBits {
    const NAMES: &[(u32, &str)] = &[
        (Access::READ as u32, "read"),
        (Access::WRITE as u32, "write"),
        (Access::EXEC as u32, "exec"),
        (Access::MAP as u32, "map"),
    ];
}

impl AccessBits {
    /// What [`Display`] writes so.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let names = text.split('+').filter(|name| !name.is_empty());
        let bits = names.map(|name| bit(name, Self::NAMES));
        let all = bits
            .into_iter()
            .try_fold(0, |all, bits| Some(all | bits?))?;
        Some(Self(all.try_into().ok()?))
    }
}

impl Serialize for AccessBits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        bits(self.0.into(), None, Self::NAMES, serializer)
    }
}

impl Display for AccessBits {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let mut rest = u32::from(self.0);
        let mut separator = "";
        for (bit, name) in Self::NAMES {
            if rest & bit != 0 {
                write!(out, "{separator}{name}")?;
                separator = "+";
                rest &= !bit;
            }
        }
        if rest != 0 {
            write!(out, "{separator}unknown_{rest:#x}")?;
        }
        Ok(())
    }
}

/// Flags of `open(2)`, written as a list of names; the bits without one as `unknown_0x…`.
/// `O_LARGEFILE`, which the kernel sets on every open of a 64-bit program, is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFlags(pub u32);

#[cfg(target_arch = "aarch64")]
const KERNEL_O_LARGEFILE: u32 = 0o400_000;
#[cfg(not(target_arch = "aarch64"))]
const KERNEL_O_LARGEFILE: u32 = 0o100_000;

impl OpenFlags {
    // Flags of several bits come before those whose bits they hold.
    const NAMES: &[(u32, &str)] = &[
        (libc::O_CREAT.cast_unsigned(), "O_CREAT"),
        (libc::O_EXCL.cast_unsigned(), "O_EXCL"),
        (libc::O_NOCTTY.cast_unsigned(), "O_NOCTTY"),
        (libc::O_TRUNC.cast_unsigned(), "O_TRUNC"),
        (libc::O_APPEND.cast_unsigned(), "O_APPEND"),
        (libc::O_NONBLOCK.cast_unsigned(), "O_NONBLOCK"),
        (libc::O_SYNC.cast_unsigned(), "O_SYNC"),
        (libc::O_DSYNC.cast_unsigned(), "O_DSYNC"),
        (libc::O_ASYNC.cast_unsigned(), "O_ASYNC"),
        (libc::O_DIRECT.cast_unsigned(), "O_DIRECT"),
        (libc::O_TMPFILE.cast_unsigned(), "O_TMPFILE"),
        (libc::O_DIRECTORY.cast_unsigned(), "O_DIRECTORY"),
        (libc::O_NOFOLLOW.cast_unsigned(), "O_NOFOLLOW"),
        (libc::O_NOATIME.cast_unsigned(), "O_NOATIME"),
        (libc::O_CLOEXEC.cast_unsigned(), "O_CLOEXEC"),
        (libc::O_PATH.cast_unsigned(), "O_PATH"),
    ];

    /// What these names, as they are written, stand for; without `O_LARGEFILE`.
    pub(crate) fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let bits = names.into_iter().map(|name| match name {
            "O_RDONLY" => Some(libc::O_RDONLY.cast_unsigned()),
            "O_WRONLY" => Some(libc::O_WRONLY.cast_unsigned()),
            "O_RDWR" => Some(libc::O_RDWR.cast_unsigned()),
            "O_ACCMODE" => Some(libc::O_ACCMODE.cast_unsigned()),
            name => bit(name, Self::NAMES),
        });
        let all = bits
            .into_iter()
            .try_fold(0, |all, bits| Some(all | bits?))?;
        Some(Self(all))
    }
}

/// The bits that a name of a list stands for.
fn bit(name: &str, names: &[(u32, &str)]) -> Option<u32> {
    match name.strip_prefix("unknown_0x") {
        Some(rest) => u32::from_str_radix(rest, 16).ok(),
        None => names
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(bits, _)| *bits),
    }
}

impl Serialize for OpenFlags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mode = match self.0.cast_signed() & libc::O_ACCMODE {
            libc::O_RDONLY => "O_RDONLY",
            libc::O_WRONLY => "O_WRONLY",
            libc::O_RDWR => "O_RDWR",
            _ => "O_ACCMODE",
        };
        let rest = self.0 & !libc::O_ACCMODE.cast_unsigned() & !KERNEL_O_LARGEFILE;
        bits(rest, Some(mode), Self::NAMES, serializer)
    }
}

fn bits<S: Serializer>(
    mut rest: u32,
    first: Option<&str>,
    names: &[(u32, &str)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(None)?;
    if let Some(first) = first {
        list.serialize_element(first)?;
    }
    for (bits, name) in names {
        if rest & bits == *bits {
            list.serialize_element(name)?;
            rest &= !bits;
        }
    }
    if rest != 0 {
        list.serialize_element(&format_args!("unknown_{rest:#x}"))?;
    }
    list.end()
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
    fn bits_are_named_and_the_rest_is_kept() {
        assert_eq!(json(&AccessBits(3)), r#"["read","write"]"#);
        assert_eq!(json(&AccessBits(0x14)), r#"["exec","unknown_0x10"]"#);
        assert_eq!(AccessBits(0x13).to_string(), "read+write+unknown_0x10");
        let flags = (libc::O_WRONLY | libc::O_CREAT | libc::O_TMPFILE).cast_unsigned();
        assert_eq!(
            json(&OpenFlags(flags | 0x20 | KERNEL_O_LARGEFILE)),
            r#"["O_WRONLY","O_CREAT","O_TMPFILE","unknown_0x20"]"#
        );
        assert_eq!(json(&OpenFlags(0)), r#"["O_RDONLY"]"#);
    }

    #[test]
    fn errors_and_signals_have_their_names() {
        assert_eq!(errno_name(13), Some("EACCES"));
        assert_eq!(errno_name(9999), None);
        assert_eq!(signal_name(9), Some("SIGKILL"));
    }
}
