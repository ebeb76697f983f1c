//! Socket addresses as the kernel takes them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use crate::{Outcome, call};

/// An address in the kernel's bytes.
pub(crate) struct Raw {
    storage: libc::sockaddr_storage,
    pub(crate) length: libc::socklen_t,
}

impl Raw {
    pub(crate) fn new(address: SocketAddr) -> Self {
        // SAFETY: all bytes zero is a valid `sockaddr_storage`.
        let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let place = &raw mut storage;
        let length = match address.ip() {
            IpAddr::V4(ip) => {
                // SAFETY: `sockaddr_storage` has room for, and the alignment of, every kind.
                let inet = unsafe { &mut *place.cast::<libc::sockaddr_in>() };
                inet.sin_family = libc::AF_INET as libc::sa_family_t;
                inet.sin_port = address.port().to_be();
                inet.sin_addr.s_addr = u32::from_ne_bytes(ip.octets());
                size_of::<libc::sockaddr_in>()
            }
            IpAddr::V6(ip) => {
                // SAFETY: as above.
                let inet = unsafe { &mut *place.cast::<libc::sockaddr_in6>() };
                inet.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                inet.sin6_port = address.port().to_be();
                inet.sin6_addr.s6_addr = ip.octets();
                size_of::<libc::sockaddr_in6>()
            }
        };
        Self {
            storage,
            length: length as libc::socklen_t,
        }
    }

    pub(crate) fn pointer(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }
}

/// `socket(2)`.
pub(crate) fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers.
    call::descriptor(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) }.into())
}

/// A socket of the address's family.
pub(crate) fn socket_for(address: SocketAddr, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    socket(family, kind, protocol)
}

/// `connect(2)`.
pub(crate) fn connect(socket: &OwnedFd, address: SocketAddr) -> Outcome {
    let raw = Raw::new(address);
    // SAFETY: the address and its length belong together and outlive the call.
    let connected = unsafe { libc::connect(socket.as_raw_fd(), raw.pointer(), raw.length) };
    call::checked(connected.into()).map(drop)
}

/// `sendto(2)`.
pub(crate) fn send_to(socket: &OwnedFd, address: SocketAddr, flags: i32) -> Outcome {
    let raw = Raw::new(address);
    // SAFETY: one byte, and an address that outlives the call.
    let sent = unsafe {
        let byte = c"x".as_ptr().cast();
        libc::sendto(
            socket.as_raw_fd(),
            byte,
            1,
            flags,
            raw.pointer(),
            raw.length,
        )
    };
    call::checked(sent as libc::c_long).map(drop)
}
