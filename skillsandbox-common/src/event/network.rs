//! Body of `connect`, `sendmsg`, `bind` and `socket`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where a socket was to reach, or which address it was to have; none yet for one that is made.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct NetworkBody {
    /// The address; an IPv4 address as `::ffff:a.b.c.d`. Network byte order.
    pub address: [u8; 16],
    /// The port, host byte order.
    pub port: u16,
    /// `AF_*` of the address as the program gave it, or of the socket.
    pub family: u16,
    /// `IPPROTO_*` of the socket.
    pub protocol: u16,
    /// `SOCK_*` of the socket.
    pub socket_type: u16,
}

const _: () = assert!(size_of::<NetworkBody>() == 24);
