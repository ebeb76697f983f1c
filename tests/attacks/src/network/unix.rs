//! Unix sockets of the host.

use std::os::{
    linux::net::SocketAddrExt,
    unix::net::{SocketAddr, UnixDatagram, UnixStream},
};

use crate::{
    Attack,
    Layer::{EbpfSockets, LandlockScopes, Mounts, Seccomp},
    attack, call,
};

const FAMILY: &str = "network: unix sockets";

pub(crate) const ATTACKS: &[Attack] = &[
    attack(
        FAMILY,
        "connect-to-a-path",
        &[EbpfSockets, Mounts, Seccomp],
        |place| UnixStream::connect(&place.stage.unix).map(drop),
    ),
    attack(
        FAMILY,
        "connect-to-a-path-that-may-be-written",
        &[EbpfSockets, Seccomp],
        |place| UnixStream::connect(&place.stage.unix_in_allowed).map(drop),
    ),
    attack(
        FAMILY,
        "connect-to-a-path-through-proc",
        &[EbpfSockets, Mounts, Seccomp],
        |place| {
            let mut way = std::ffi::OsString::from("/proc/self/root");
            way.push(&place.stage.unix);
            UnixStream::connect(way).map(drop)
        },
    ),
    attack(
        FAMILY,
        "connect-to-an-abstract-name",
        &[EbpfSockets, Seccomp, LandlockScopes],
        |place| {
            let address = SocketAddr::from_abstract_name(&place.stage.unix_abstract)?;
            UnixStream::connect_addr(&address).map(drop)
        },
    ),
    attack(
        FAMILY,
        "send-a-datagram-to-a-path",
        &[EbpfSockets, Seccomp],
        |place| {
            UnixDatagram::unbound()?
                .send_to(b"x", &place.stage.unix_datagram)
                .map(drop)
        },
    ),
    attack(
        FAMILY,
        "send-by-a-pair-of-datagram-sockets",
        &[EbpfSockets, Seccomp],
        |place| {
            let (one, _other) = UnixDatagram::pair()?;
            one.send_to(b"x", &place.stage.unix_datagram).map(drop)
        },
    ),
    attack(
        FAMILY,
        "ask-the-name-of-the-other-end",
        &[EbpfSockets, Seccomp],
        |place| {
            use std::os::fd::AsRawFd;
            let stream = UnixStream::connect(&place.stage.unix_in_allowed)?;
            let mut credentials = libc::ucred {
                pid: 0,
                uid: 0,
                gid: 0,
            };
            let mut length = size_of::<libc::ucred>() as libc::socklen_t;
            // SAFETY: room of the size that is passed.
            call::checked(
                unsafe {
                    libc::getsockopt(
                        stream.as_raw_fd(),
                        libc::SOL_SOCKET,
                        libc::SO_PEERCRED,
                        (&raw mut credentials).cast(),
                        &raw mut length,
                    )
                }
                .into(),
            )
            .map(drop)
        },
    ),
];
