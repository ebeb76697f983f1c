//! Being called. Whoever sets the stage calls the port that an attack names, and tells the token.

use std::{
    fs,
    io::{self, Read},
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use super::address::{Raw, socket_for};
use crate::{
    Attack,
    Layer::{EbpfNetwork, LandlockScopes, Seccomp},
    Outcome, Place, attack, call,
};

const FAMILY: &str = "network: being called";

/// How long a call may take to come.
const PATIENCE: Duration = Duration::from_secs(2);

const TWICE: &str = "eBPF holds it at two places, where a port is asked for and where the packet arrives; \
    Landlock decides on ports of TCP alone, and a filter of calls cannot read an address";

pub(crate) const ATTACKS: &[Attack] = &[
    // Landlock decides on TCP ports from version 4 on.
    attack(FAMILY, "be-called-at-a-port", &[EbpfNetwork, Seccomp, LandlockScopes], |place| {
        answer(place, TcpListener::bind("127.0.0.1:18099")?)
    }),
    attack(FAMILY, "be-called-at-a-port-over-ipv6", &[EbpfNetwork, Seccomp, LandlockScopes], |place| {
        answer(place, TcpListener::bind("[::1]:18099")?)
    }),
    attack(FAMILY, "be-called-at-a-port-that-the-kernel-chooses", &[EbpfNetwork, Seccomp], |place| {
        answer(place, TcpListener::bind("127.0.0.1:0")?)
    }),
    attack(FAMILY, "be-called-without-having-asked-for-a-port", &[EbpfNetwork, Seccomp], |place| {
        let socket = socket_for(any(0), libc::SOCK_STREAM, 0)?;
        // SAFETY: takes numbers.
        call::checked(unsafe { libc::listen(socket.as_raw_fd(), 1) }.into())?;
        answer(place, TcpListener::from(socket))
    }),
    attack(FAMILY, "be-sent-datagrams-at-a-port", &[EbpfNetwork], |place| {
        receive(place, bind(any(18099), false)?)
    })
    .alone(TWICE),
    attack(FAMILY, "be-sent-datagrams-at-a-port-that-is-shared", &[EbpfNetwork], |place| {
        receive(place, bind(any(18098), true)?)
    })
    .alone(TWICE),
    attack(FAMILY, "be-sent-datagrams-at-a-port-that-the-kernel-chooses", &[EbpfNetwork], |place| {
        receive(place, bind(any(0), false)?)
    })
    .alone("a client of UDP binds to such a port as well: what arrives there is decided on packet by packet"),
    attack(FAMILY, "be-sent-datagrams-without-having-asked-for-a-port", &[EbpfNetwork], |place| {
        let granted = SocketAddr::from(([127, 0, 0, 1], place.stage.granted));
        let socket = socket_for(granted, libc::SOCK_DGRAM, 0)?;
        super::address::send_to(&socket, granted, 0)?;
        receive(place, UdpSocket::from(socket))
    })
    .alone("a client of UDP has such a port as well: what arrives there is decided on packet by packet"),
];

fn any(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Asks to be called, and takes the call.
fn answer(place: &Place, listener: TcpListener) -> Outcome {
    let address = listener.local_addr()?;
    ask(
        place,
        "tcp",
        SocketAddr::new(any_address(address), address.port()),
    )?;
    listener.set_nonblocking(true)?;
    let (mut stream, _) = patiently(|| listener.accept())?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = vec![0; place.stage.token.len()];
    stream.read_exact(&mut bytes)?;
    place.is_token(&bytes)
}

/// Asks to be sent a datagram, and takes it.
fn receive(place: &Place, socket: UdpSocket) -> Outcome {
    let address = socket.local_addr()?;
    ask(
        place,
        "udp",
        SocketAddr::new(any_address(address), address.port()),
    )?;
    socket.set_nonblocking(true)?;
    let mut bytes = vec![0; place.stage.token.len()];
    patiently(|| socket.recv(&mut bytes))?;
    place.is_token(&bytes)
}

/// A socket that has no address yet is called on loopback.
fn any_address(address: SocketAddr) -> std::net::IpAddr {
    if address.ip().is_unspecified() {
        any(0).ip()
    } else {
        address.ip()
    }
}

fn ask(place: &Place, protocol: &str, address: SocketAddr) -> Outcome {
    // Complete or not there.
    fs::write(place.allowed("asking"), format!("{protocol} {address}"))?;
    fs::rename(place.allowed("asking"), place.allowed("call-me"))
}

fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let started = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        if started.elapsed() > PATIENCE {
            return Err(io::Error::other("nobody called"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = socket_for(address, libc::SOCK_DGRAM, 0)?;
    if shared {
        share(&socket)?;
    }
    let raw = Raw::new(address);
    // SAFETY: the address and its length belong together and outlive the call.
    call::checked(unsafe { libc::bind(socket.as_raw_fd(), raw.pointer(), raw.length) }.into())?;
    Ok(UdpSocket::from(socket))
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
