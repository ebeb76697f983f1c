//! Datagrams that carry options of their own.

use std::{
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};

use super::{
    network::Raw,
    system::{Result, checked},
};

/// `IP_RETOPTS`, `include/uapi/linux/in.h`.
const IP_RETOPTS: i32 = 7;
/// `IPV6_RTHDR`, `include/uapi/linux/in6.h`.
const IPV6_RTHDR: i32 = 57;

/// A header and its content, as large as any here.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    content: [u8; 24],
}

/// Sends a datagram that is to record its route (RFC 791, 3.1), or to go by way of its destination:
/// a routing header of type 2 (RFC 6275, 6.4).
pub(crate) fn send(address: SocketAddr) -> Result<()> {
    let (level, kind, length) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, IP_RETOPTS, 8),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, IPV6_RTHDR, 24),
    };
    let mut content = [0; 24];
    match address {
        // The option, its length, the place of the next hop; then the end of the options.
        SocketAddr::V4(_) => content[..3].copy_from_slice(&[7, 7, 4]),
        SocketAddr::V6(v6) => {
            // Length in words of 8 bytes after the first, type, hops left.
            content[1..4].copy_from_slice(&[2, 2, 1]);
            content[8..].copy_from_slice(&v6.ip().octets());
        }
    }
    let socket = UdpSocket::bind(if address.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    })?;
    let raw = Raw::new(address);
    let control = Control {
        header: libc::cmsghdr {
            cmsg_len: size_of::<libc::cmsghdr>() + length,
            cmsg_level: level,
            cmsg_type: kind,
        },
        content,
    };
    let mut part = super::network::part(b"x");
    let mut message = super::network::message(&raw, &mut part);
    message.msg_control = (&raw const control).cast_mut().cast();
    message.msg_controllen = control.header.cmsg_len;
    // SAFETY: the message's address, bytes and control message outlive the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    checked(sent as libc::c_long).map(drop)
}
