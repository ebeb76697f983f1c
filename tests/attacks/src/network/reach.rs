//! Reaching an address that was not declared, by TCP and UDP. Somebody listens at all of them.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use super::address::{Raw, connect, send_to, socket_for};
use crate::{
    Attack,
    Layer::{EbpfNetwork, Iptables, Seccomp},
    Outcome, Place, attack, call,
    ring::{self, Request},
};

const FAMILY: &str = "network: reaching";

/// Far longer than an answer takes.
const PATIENCE: Duration = Duration::from_secs(5);

const fn reach(name: &'static str, attempt: fn(&Place) -> Outcome) -> Attack {
    attack(FAMILY, name, &[EbpfNetwork, Iptables], attempt)
}

pub(crate) const ATTACKS: &[Attack] = &[
    reach("connect", |place| tcp("127.0.0.1", place.stage.ports[0])),
    reach("connect-over-ipv6", |place| {
        tcp("::1", place.stage.ports[1])
    }),
    reach("connect-to-a-mapped-address", |place| {
        tcp("::ffff:127.0.0.1", place.stage.ports[0])
    }),
    reach("connect-to-no-address", |place| {
        tcp("0.0.0.0", place.stage.ports[0])
    }),
    reach("connect-to-no-address-over-ipv6", |place| {
        tcp("::", place.stage.ports[1])
    }),
    reach("connect-without-waiting", |place| {
        let address = at("127.0.0.1", place.stage.ports[0]);
        let socket = socket_for(address, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0)?;
        match connect(&socket, address) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            other => other?,
        }
        let (stream, start) = (TcpStream::from(socket), Instant::now());
        while let Err(not_yet) = stream.peer_addr() {
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
            if start.elapsed() > PATIENCE {
                return Err(not_yet);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }),
    reach("connect-by-multipath-tcp", |place| {
        let address = at("127.0.0.1", place.stage.ports[0]);
        connect(&socket_for(address, libc::SOCK_STREAM, 262)?, address)
    })
    .lacking("multipath TCP may be switched off"),
    attack(
        FAMILY,
        "connect-by-the-first-data",
        &[EbpfNetwork, Iptables],
        |place| {
            let address = at("127.0.0.1", place.stage.ports[0]);
            let socket = socket_for(address, libc::SOCK_STREAM, 0)?;
            send_to(&socket, address, libc::MSG_FASTOPEN)
        },
    )
    .lacking("TCP Fast Open may be switched off"),
    attack(
        FAMILY,
        "connect-by-io-uring",
        &[EbpfNetwork, Iptables, Seccomp],
        |place| {
            let address = at("127.0.0.1", place.stage.ports[0]);
            let socket = socket_for(address, libc::SOCK_STREAM, 0)?;
            let raw = Raw::new(address);
            let request = Request {
                opcode: ring::CONNECT,
                fd: socket.as_raw_fd(),
                addr: raw.pointer() as u64,
                off: raw.length.into(),
                ..Request::default()
            };
            // SAFETY: the address outlives the call.
            unsafe { ring::submit(request) }.map(drop)
        },
    )
    .lacking("io_uring may be switched off (kernel.io_uring_disabled)"),
    reach("connect-a-datagram-socket", |place| {
        udp("127.0.0.1", place.stage.ports[2])
    }),
    reach("connect-a-datagram-socket-over-ipv6", |place| {
        udp("::1", place.stage.ports[3])
    }),
    reach("send", |place| send("127.0.0.1", place.stage.ports[2])),
    reach("send-over-ipv6", |place| send("::1", place.stage.ports[3])),
    reach("send-to-a-mapped-address", |place| {
        send("::ffff:127.0.0.1", place.stage.ports[2])
    }),
    reach("send-to-no-address", |place| {
        send("0.0.0.0", place.stage.ports[2])
    }),
    reach("send-many-at-once", |place| {
        let address = at("127.0.0.1", place.stage.ports[2]);
        let socket = socket_for(address, libc::SOCK_DGRAM, 0)?;
        let raw = Raw::new(address);
        let mut part = libc::iovec {
            iov_base: c"x".as_ptr().cast_mut().cast(),
            iov_len: 1,
        };
        // SAFETY: all bytes zero is a valid message; its address and bytes outlive the call.
        let sent = unsafe {
            let mut message: libc::mmsghdr = std::mem::zeroed();
            message.msg_hdr.msg_name = raw.pointer().cast_mut().cast();
            message.msg_hdr.msg_namelen = raw.length;
            message.msg_hdr.msg_iov = &raw mut part;
            message.msg_hdr.msg_iovlen = 1;
            libc::sendmmsg(socket.as_raw_fd(), &raw mut message, 1, 0)
        };
        call::checked(sent.into()).map(drop)
    }),
    reach("turn-a-socket-from-a-granted-address", |place| {
        let granted = at("127.0.0.1", place.stage.granted);
        let socket = socket_for(granted, libc::SOCK_DGRAM, 0)?;
        connect(&socket, granted)?;
        connect(&socket, at("127.0.0.1", place.stage.ports[2]))?;
        UdpSocket::from(socket).send(b"x").map(drop)
    }),
    attack(
        FAMILY,
        "send-past-the-address-that-a-socket-is-connected-to",
        &[EbpfNetwork, Iptables],
        |place| {
            let granted = at("127.0.0.1", place.stage.granted);
            let socket = socket_for(granted, libc::SOCK_DGRAM, 0)?;
            connect(&socket, granted)?;
            send_to(&socket, at("127.0.0.1", place.stage.ports[2]), 0)
        },
    ),
    attack(
        FAMILY,
        "ask-a-name-server",
        &[EbpfNetwork, Iptables],
        |place| {
            let (socket, server) = (UdpSocket::bind("0.0.0.0:0")?, name_server(place));
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send_to(&question(), server)?;
            let mut answer = [0; 512];
            let length = socket.recv(&mut answer)?;
            place.is_token(answer.get(..length).unwrap_or_default())
        },
    ),
    attack(
        FAMILY,
        "ask-a-name-server-by-tcp",
        &[EbpfNetwork, Iptables],
        |place| {
            let mut stream = TcpStream::connect_timeout(&name_server(place), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let question = question();
            let length = u16::try_from(question.len()).unwrap_or(0);
            stream.write_all(&[&length.to_be_bytes(), question.as_slice()].concat())?;
            let mut answer = [0; 512];
            let length = stream.read(&mut answer)?;
            place.is_token(answer.get(..length).unwrap_or_default())
        },
    ),
    reach("ask-a-name-server-by-tls", |place| {
        // Whether anybody listens: what counts is that the question may leave.
        let _nobody = place;
        udp("127.0.0.1", 853).and_then(|()| send("127.0.0.1", 853))
    }),
    reach("send-to-the-metadata-address", |_| {
        send("169.254.169.254", 80)
    })
    .lacking("a host without a route leads nowhere"),
    reach("send-to-everybody-on-the-network", |_| {
        send("224.0.0.251", 5353)
    })
    .lacking("a host without a route leads nowhere"),
];

/// Where the stage has a name server, which answers with the token.
fn name_server(place: &Place) -> SocketAddr {
    SocketAddr::new(place.stage.name_server, 53)
}

/// Asks for the address of a name that is declared by nobody.
fn question() -> Vec<u8> {
    let mut question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in ["stolen", "example", "net", ""] {
        question.extend(u8::try_from(label.len()));
        question.extend(label.bytes());
    }
    question.extend([0, 1, 0, 1]);
    question
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

fn tcp(address: &str, port: u16) -> Outcome {
    let address = at(address, port);
    connect(&socket_for(address, libc::SOCK_STREAM, 0)?, address)
}

fn udp(address: &str, port: u16) -> Outcome {
    let address = at(address, port);
    let socket = socket_for(address, libc::SOCK_DGRAM, 0)?;
    connect(&socket, address)?;
    UdpSocket::from(socket).send(b"x").map(drop)
}

fn send(address: &str, port: u16) -> Outcome {
    let address = at(address, port);
    send_to(&socket_for(address, libc::SOCK_DGRAM, 0)?, address, 0)
}
