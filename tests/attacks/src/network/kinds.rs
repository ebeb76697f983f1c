//! Sockets of kinds that go past the programs on addresses, or that talk to the kernel.

use super::address::{send_to, socket, socket_for};
use crate::{
    Attack,
    Layer::{EbpfSockets, Seccomp},
    Outcome, Place, attack, by_root,
};

const FAMILY: &str = "network: kinds of sockets";

const MODULE: &str = "a kernel may lack it";

const fn kind(name: &'static str, attempt: fn(&Place) -> Outcome) -> Attack {
    attack(FAMILY, name, &[EbpfSockets, Seccomp], attempt).lacking(MODULE)
}

const fn root_only(name: &'static str, attempt: fn(&Place) -> Outcome) -> Attack {
    by_root(FAMILY, name, attempt).lacking(MODULE)
}

const AF_ALG: i32 = 38;
const AF_XDP: i32 = 44;
const AF_SMC: i32 = 43;
const AF_QIPCRTR: i32 = 42;
const UDP_LITE: i32 = 136;

pub(crate) const ATTACKS: &[Attack] = &[
    kind("send-by-udp-lite", |place| {
        let port = place.stage.ports[2];
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        send_to(
            &socket_for(address, libc::SOCK_DGRAM, UDP_LITE)?,
            address,
            0,
        )
    }),
    kind("make-an-sctp-socket", |_| {
        socket(libc::AF_INET, libc::SOCK_STREAM, 132).map(drop)
    }),
    kind("make-a-dccp-socket", |_| {
        socket(libc::AF_INET, 6, 33).map(drop)
    }),
    kind("make-a-ping-socket", |_| {
        socket(libc::AF_INET, libc::SOCK_DGRAM, 1).map(drop)
    }),
    kind("make-a-ping-socket-over-ipv6", |_| {
        socket(libc::AF_INET6, libc::SOCK_DGRAM, 58).map(drop)
    }),
    kind("listen-to-the-kernels-news", |_| {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, 15).map(drop)
    }),
    kind("ask-the-kernel-by-generic-netlink", |_| {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, 16).map(drop)
    }),
    kind("ask-the-kernel-about-its-audit", |_| {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, 9).map(drop)
    }),
    kind("ask-the-kernel-about-sockets", |_| {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, 4).map(drop)
    }),
    kind("talk-to-the-machine-around", |_| {
        socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0).map(drop)
    }),
    kind("use-the-kernels-ciphers", |_| {
        socket(AF_ALG, libc::SOCK_SEQPACKET, 0).map(drop)
    }),
    kind("make-an-smc-socket", |_| {
        socket(AF_SMC, libc::SOCK_STREAM, 0).map(drop)
    }),
    kind("make-a-router-socket", |_| {
        socket(AF_QIPCRTR, libc::SOCK_DGRAM, 0).map(drop)
    }),
    kind("make-a-bluetooth-socket", |_| {
        socket(31, libc::SOCK_STREAM, 3).map(drop)
    }),
    kind("make-a-tipc-socket", |_| {
        socket(30, libc::SOCK_SEQPACKET, 0).map(drop)
    }),
    root_only("make-a-raw-socket", |_| {
        socket(libc::AF_INET, libc::SOCK_RAW, 255).map(drop)
    }),
    root_only("make-a-raw-ping-socket", |_| {
        socket(libc::AF_INET, libc::SOCK_RAW, 1).map(drop)
    }),
    root_only("make-a-packet-socket", |_| {
        socket(libc::AF_PACKET, libc::SOCK_RAW, 0x0300).map(drop)
    }),
    root_only("make-an-xdp-socket", |_| {
        socket(AF_XDP, libc::SOCK_RAW, 0).map(drop)
    }),
    root_only("make-a-key-socket", |_| {
        socket(libc::AF_KEY, libc::SOCK_RAW, 2).map(drop)
    }),
];
