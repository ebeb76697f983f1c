//! Body of `open` and `exec`: followed by the path's bytes, without NUL, to the event's end.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What was to be done with a path.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct PathBody {
    /// Accesses asked for: bits of [`Access`](crate::rule::Access).
    pub access: u16,
    /// [`PathSource`] as a number.
    pub source: u16,
    /// `f_flags` of the file, or the flags passed to the call: `O_*` of `open(2)`.
    pub open_flags: u32,
    /// Folder descriptor that a passed relative path starts from; `AT_FDCWD` (-100) is the
    /// working directory. Zero for a resolved path.
    pub directory: i32,
    /// Result of the call where a tracepoint saw it: 0 or a descriptor, or a negative `errno`.
    /// Zero where the decision comes before the result.
    pub result: i32,
}

const _: () = assert!(size_of::<PathBody>() == 16);

/// Where the path of an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum PathSource {
    /// Resolved by the kernel for the very file that was decided on (`bpf_d_path`).
    Resolved = 0,
    /// As the program passed it to the call: relative, through links, racy. Audit only.
    Passed = 1,
}

impl PathSource {
    /// The source of this number, or `None` for an unknown one.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            0 => Some(Self::Resolved),
            1 => Some(Self::Passed),
            _ => None,
        }
    }
}
