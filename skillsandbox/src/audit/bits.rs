//! Numbers of the kernel whose bits have names each.

use std::fmt::{self, Display, Formatter};

use serde::{Serialize, Serializer, ser::SerializeSeq};
use skillsandbox_common::rule::Access;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
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
}
