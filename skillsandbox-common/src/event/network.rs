//! Body of `connect` and `sendmsg`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where a socket was to reach.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct NetworkBody {
    /// Destination; an IPv4 address as `::ffff:a.b.c.d`. Network byte order.
    pub address: [u8; 16],
    /// Destination port, host byte order.
    pub port: u16,
    /// `AF_INET` (2) or `AF_INET6` (10) of the address as the program gave it.
    pub family: u16,
    /// `IPPROTO_*` of the socket.
    pub protocol: u16,
    /// `SOCK_*` of the socket.
    pub socket_type: u16,
}

const _: () = assert!(size_of::<NetworkBody>() == 24);
