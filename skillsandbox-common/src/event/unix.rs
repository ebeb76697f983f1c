//! Body of `unix`: followed by the bytes of the socket's name to the event's end.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Longest name of a unix socket, in bytes: `UNIX_PATH_MAX`, `include/uapi/linux/un.h`.
pub const UNIX_NAME_MAX: usize = 108;

/// The unix socket that was to be reached.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct UnixBody {
    /// `SOCK_*` of the connecting socket.
    pub socket_type: u16,
    /// Not 0 when the name is an abstract one, which lies in no folder; its leading NUL is left
    /// out.
    pub is_abstract: u16,
}

const _: () = assert!(size_of::<UnixBody>() == 4);
