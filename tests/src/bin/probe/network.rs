//! Ways to reach an address.

use std::{
    ffi::OsStr,
    io, mem,
    net::{IpAddr, SocketAddr},
    os::{
        fd::{AsRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr as UnixAddress, UnixStream},
        },
    },
};

use skillsandbox_attacks::{
    call::{Result, checked, descriptor},
    ring::{self, Request},
};

/// As a socket address holds them; libc has them as wider numbers.
const AF_INET: libc::sa_family_t = 2;
const AF_INET6: libc::sa_family_t = 10;

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

/// A socket address as the kernel takes it.
pub(crate) struct Raw {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl Raw {
    pub(crate) fn new(address: SocketAddr) -> Self {
        // SAFETY: all bytes zero is a valid `sockaddr_storage`.
        let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let place = &raw mut storage;
        let length = match address.ip() {
            IpAddr::V4(ip) => {
                // SAFETY: `sockaddr_storage` has room for, and the alignment of, every kind.
                let inet = unsafe { &mut *place.cast::<libc::sockaddr_in>() };
                inet.sin_family = AF_INET;
                inet.sin_port = address.port().to_be();
                inet.sin_addr.s_addr = u32::from_ne_bytes(ip.octets());
                length_of::<libc::sockaddr_in>()
            }
            IpAddr::V6(ip) => {
                // SAFETY: as above.
                let inet = unsafe { &mut *place.cast::<libc::sockaddr_in6>() };
                inet.sin6_family = AF_INET6;
                inet.sin6_port = address.port().to_be();
                inet.sin6_addr.s6_addr = ip.octets();
                length_of::<libc::sockaddr_in6>()
            }
        };
        Self { storage, length }
    }

    fn pointer(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }
}

fn socket(address: SocketAddr, kind: i32, protocol: i32) -> Result<OwnedFd> {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: takes numbers only.
    descriptor(libc::c_long::from(unsafe {
        libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol)
    }))
}

fn kind_of(protocol: &str) -> Result<(i32, i32)> {
    match protocol {
        "tcp" => Ok((libc::SOCK_STREAM, 0)),
        "mptcp" => Ok((libc::SOCK_STREAM, 262)),
        "udp" => Ok((libc::SOCK_DGRAM, 0)),
        "udplite" => Ok((libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE)),
        other => Err(io::Error::other(format!("no protocol {other}"))),
    }
}

pub(crate) fn connect(protocol: &str, address: SocketAddr) -> Result<()> {
    let (kind, protocol) = kind_of(protocol)?;
    let socket = socket(address, kind, protocol)?;
    let raw = Raw::new(address);
    // SAFETY: the address and its length belong together and outlive the call.
    let result = unsafe { libc::connect(socket.as_raw_fd(), raw.pointer(), raw.length) };
    checked(result.into()).map(drop)
}

pub(crate) fn bind(protocol: &str, address: SocketAddr) -> Result<()> {
    let (kind, protocol) = kind_of(protocol)?;
    let socket = socket(address, kind, protocol)?;
    let raw = Raw::new(address);
    // SAFETY: the address and its length belong together and outlive the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), raw.pointer(), raw.length) };
    checked(result.into()).map(drop)
}

/// Connects to the unix socket of this path, or after `@` of this abstract name.
pub(crate) fn connect_unix(name: &[u8]) -> Result<()> {
    let address = match name.split_first() {
        Some((b'@', name)) => UnixAddress::from_abstract_name(name)?,
        _ => UnixAddress::from_pathname(OsStr::from_bytes(name))?,
    };
    UnixStream::connect_addr(&address).map(drop)
}

pub(crate) fn make(family: i32, kind: i32, protocol: i32) -> Result<()> {
    // SAFETY: takes numbers only.
    descriptor(unsafe { libc::socket(family, kind, protocol) }.into()).map(drop)
}

pub(crate) fn ring_connect(address: SocketAddr) -> Result<()> {
    let socket = socket(address, libc::SOCK_STREAM, 0)?;
    let raw = Raw::new(address);
    let request = Request {
        opcode: ring::CONNECT,
        fd: socket.as_raw_fd(),
        addr: raw.pointer() as u64,
        off: u64::from(raw.length),
        ..Request::default()
    };
    // SAFETY: the address outlives the call.
    unsafe { ring::submit(request) }.map(drop)
}

pub(crate) fn message(raw: &Raw, part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all bytes zero is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = raw.pointer().cast_mut().cast();
    message.msg_namelen = raw.length;
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message
}

pub(crate) fn part(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

/// A datagram of an unconnected socket, through the call named `way`.
pub(crate) fn send(way: &str, address: SocketAddr) -> Result<()> {
    let socket = socket(address, libc::SOCK_DGRAM, 0)?;
    let raw = Raw::new(address);
    let mut part = part(b"x");
    let mut batch = libc::mmsghdr {
        msg_hdr: message(&raw, &mut part),
        msg_len: 0,
    };
    let descriptor = socket.as_raw_fd();
    // SAFETY: the message's address and bytes outlive the calls.
    let result = unsafe {
        match way {
            "sendto" => libc::sendto(
                descriptor,
                b"x".as_ptr().cast(),
                1,
                0,
                raw.pointer(),
                raw.length,
            ) as libc::c_long,
            "sendmsg" => libc::sendmsg(descriptor, &raw const batch.msg_hdr, 0) as libc::c_long,
            "sendmmsg" => libc::sendmmsg(descriptor, &raw mut batch, 1, 0).into(),
            "uring" => {
                let request = Request {
                    opcode: ring::SENDMSG,
                    fd: descriptor,
                    addr: (&raw const batch.msg_hdr) as u64,
                    len: 1,
                    ..Request::default()
                };
                return ring::submit(request).map(drop);
            }
            other => return Err(io::Error::other(format!("no way to send called {other}"))),
        }
    };
    checked(result).map(drop)
}

/// TCP Fast Open: the send connects.
pub(crate) fn fast_open(address: SocketAddr) -> Result<()> {
    let socket = socket(address, libc::SOCK_STREAM, 0)?;
    let raw = Raw::new(address);
    // SAFETY: the address and its length belong together and outlive the call.
    let result = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            b"x".as_ptr().cast(),
            1,
            libc::MSG_FASTOPEN,
            raw.pointer(),
            raw.length,
        )
    };
    checked(result as libc::c_long).map(drop)
}

/// A socket that was connected where it may be, turned to where it may not.
pub(crate) fn reconnect(first: SocketAddr, second: SocketAddr) -> Result<()> {
    let socket = socket(first, libc::SOCK_DGRAM, 0)?;
    for address in [first, second] {
        let raw = Raw::new(address);
        // SAFETY: as in `connect`.
        let result = unsafe { libc::connect(socket.as_raw_fd(), raw.pointer(), raw.length) };
        checked(result.into())?;
    }
    Ok(())
}
