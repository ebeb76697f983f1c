//! Being called.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd, OwnedFd},
};

use super::address::{Raw, socket_for};
use crate::{
    Attack,
    Layer::{EbpfNetwork, LandlockScopes, Seccomp},
    Outcome, attack, call,
};

const FAMILY: &str = "network: listening";

pub(crate) const ATTACKS: &[Attack] = &[
    // Landlock decides on TCP ports from version 4 on, which the next one after 6.1's LTS has.
    attack(
        FAMILY,
        "listen-on-a-port",
        &[EbpfNetwork, LandlockScopes],
        |_| TcpListener::bind("127.0.0.1:18099").map(drop),
    ),
    attack(
        FAMILY,
        "listen-on-a-port-over-ipv6",
        &[EbpfNetwork, LandlockScopes],
        |_| TcpListener::bind("[::1]:18099").map(drop),
    ),
    attack(
        FAMILY,
        "listen-on-a-port-that-the-kernel-chooses",
        &[Seccomp],
        |_| TcpListener::bind("127.0.0.1:0").map(drop),
    )
    .alone("a client binds to such a port as well; Landlock cannot tell the two apart"),
    attack(FAMILY, "listen-without-a-port", &[Seccomp], |_| {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = socket_for(address, libc::SOCK_STREAM, 0)?;
        // SAFETY: takes numbers.
        call::checked(unsafe { libc::listen(socket.as_raw_fd(), 1) }.into()).map(drop)
    })
    .alone("the kernel chooses the port then, and asks nobody but the system call filter"),
    attack(
        FAMILY,
        "receive-datagrams-at-a-port",
        &[EbpfNetwork],
        |_| bind(SocketAddr::from(([127, 0, 0, 1], 18099)), false).map(drop),
    )
    .alone("Landlock decides on ports of TCP alone, and a filter of calls cannot read an address"),
    attack(FAMILY, "share-a-port", &[EbpfNetwork], |_| {
        bind(SocketAddr::from(([127, 0, 0, 1], 18098)), true).map(drop)
    })
    .alone("Landlock decides on ports of TCP alone, and a filter of calls cannot read an address"),
    attack(
        FAMILY,
        "receive-datagrams-at-a-port-that-the-kernel-chooses",
        &[],
        |_| bind(SocketAddr::from(([127, 0, 0, 1], 0)), false).map(drop),
    )
    .known(
        "a client of UDP needs one; what arrives there comes from where it sent to, or from others",
    ),
];

fn bind(address: SocketAddr, shared: bool) -> std::io::Result<OwnedFd> {
    let socket = socket_for(address, libc::SOCK_DGRAM, 0)?;
    if shared {
        share(&socket)?;
    }
    let raw = Raw::new(address);
    // SAFETY: the address and its length belong together and outlive the call.
    call::checked(unsafe { libc::bind(socket.as_raw_fd(), raw.pointer(), raw.length) }.into())?;
    Ok(socket)
}

fn share(socket: &OwnedFd) -> Outcome {
    let yes = 1_i32;
    // SAFETY: a number of the size that is passed.
    call::checked(
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_REUSEPORT,
                (&raw const yes).cast(),
                size_of::<i32>() as libc::socklen_t,
            )
        }
        .into(),
    )
    .map(drop)
}
