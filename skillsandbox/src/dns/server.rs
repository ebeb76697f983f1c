//! The name server: sockets on loopback, a thread of its own, one task for each question.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, watch},
    time::{interval, timeout},
};

use super::{answer, desk::Desk, grants::Grants, question::QUESTION_BYTES_MAX, upstream::Upstream};
use crate::audit::record::Note;

/// Room for questions that wait, in bytes of the kernel's memory: several thousand.
const WAITING_BYTES: usize = 8 << 20;
/// Connections that are open at a time, how long one may be silent, and what it may ask.
const CONNECTIONS_MAX: usize = 64;
const CONNECTION_PATIENCE: Duration = Duration::from_secs(10);
const CONNECTION_QUESTIONS_MAX: usize = 256;
/// How often addresses are looked at whose time has passed.
const EXPIRY: Duration = Duration::from_secs(1);
/// Tries to have one port number for both protocols.
const BINDS_MAX: usize = 16;

/// The sockets, which the kernel side must know the ports of before a sandbox is armed.
#[derive(Debug)]
pub struct Sockets {
    pairs: Vec<(UdpSocket, TcpListener)>,
    /// At 127.0.0.1 and at `::1`; 0 where this host has no such address.
    pub ports: [u16; 2],
}

impl Sockets {
    /// At a port of loopback that the kernel chooses, for each family that this host has.
    pub fn bind() -> io::Result<Self> {
        let mut sockets = Self {
            pairs: Vec::new(),
            ports: [0; 2],
        };
        let hosts: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        for (host, port) in hosts.into_iter().zip(&mut sockets.ports) {
            match bind_both(host) {
                Ok((udp, tcp)) => {
                    *port = udp.local_addr()?.port();
                    sockets.pairs.push((udp, tcp));
                }
                Err(error)
                    if host.is_ipv6()
                        && matches!(
                            error.kind(),
                            io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
                        ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sockets)
    }

    /// Throws away what has come before anybody was to ask.
    pub fn empty(&self) {
        let is_over = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        for (udp, tcp) in &self.pairs {
            // Whoever goes on sending is not waited for.
            for _ in 0..THROWN_AWAY_MAX {
                if udp.recv(&mut [0; 1]).is_err_and(is_over) {
                    break;
                }
            }
            for _ in 0..THROWN_AWAY_MAX {
                if tcp.accept().is_err_and(is_over) {
                    break;
                }
            }
        }
    }
}

fn bind_both(host: IpAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut failed = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..BINDS_MAX {
        let udp = UdpSocket::bind((host, 0))?;
        match TcpListener::bind(udp.local_addr()?) {
            Ok(tcp) => {
                // Root may have more than the host's limit; whoever may not has less room.
                let _less = set_socket_recv_buffer_size_force(&udp, WAITING_BYTES);
                udp.set_nonblocking(true)?;
                tcp.set_nonblocking(true)?;
                return Ok((udp, tcp));
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Questions that are thrown away unread: more than have room.
const THROWN_AWAY_MAX: usize = 20_000;

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub struct NameServer {
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Answers from now on; where the policy is only audited, `passes_all`, also what no rule lets through. `tell` is called with what is to be put on record, before the answer
    /// leaves, and may wait.
    pub fn start(
        sockets: Sockets,
        grants: Arc<Grants>,
        upstream: Upstream,
        passes_all: bool,
        tell: impl Fn(Note) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let desk = Arc::new(Desk::new(grants, upstream, passes_all, tell));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, mut stopped) = watch::channel(());
        let thread = std::thread::Builder::new()
            .name("name server".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    for (udp, tcp) in sockets.pairs {
                        tokio::spawn(listen_udp(udp, Arc::clone(&desk)));
                        tokio::spawn(listen_tcp(tcp, Arc::clone(&desk)));
                    }
                    tokio::spawn(expire(Arc::clone(&desk)));
                    // Ends when the sender is dropped.
                    let _stopped = stopped.changed().await;
                });
                // Tasks that wait for somebody are not waited for. A firewall that is being told is:
                // nothing may change its chains once they are removed.
                drop(runtime);
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

async fn listen_udp(socket: UdpSocket, desk: Arc<Desk>) {
    let socket = match tokio::net::UdpSocket::from_std(socket) {
        Ok(socket) => Arc::new(socket),
        Err(error) => return tracing::error!(%error, "the name server cannot listen"),
    };
    let mut buffer = [0; QUESTION_BYTES_MAX + 1];
    loop {
        let Some(permit) = desk.permit().await else {
            return;
        };
        // An error is one of an earlier answer that found nobody.
        let Ok((length, asker)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        let (desk, socket) = (Arc::clone(&desk), Arc::clone(&socket));
        tokio::spawn(async move {
            let _held = permit;
            if let Some((message, room)) = desk.answer(&bytes, "udp", asker).await
                && let Some(bytes) = answer::bytes(&message, room)
            {
                // Who asked may be gone.
                let _gone = socket.send_to(&bytes, asker).await;
            }
        });
    }
}

async fn listen_tcp(listener: TcpListener, desk: Arc<Desk>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the name server cannot listen"),
    };
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, asker)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    let _held = permit;
                    // Ends with the asker, or with its patience or ours.
                    let _ended = converse(stream, asker, &desk).await;
                });
            }
            // No descriptor is left, for example: others may be closed soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Questions over one connection, one after the other (RFC 1035, section 4.2.2).
async fn converse(
    mut stream: tokio::net::TcpStream,
    asker: SocketAddr,
    desk: &Desk,
) -> io::Result<()> {
    for _ in 0..CONNECTION_QUESTIONS_MAX {
        let length = timeout(CONNECTION_PATIENCE, stream.read_u16()).await??;
        if usize::from(length) > QUESTION_BYTES_MAX {
            break;
        }
        let mut bytes = vec![0; length.into()];
        timeout(CONNECTION_PATIENCE, stream.read_exact(&mut bytes)).await??;
        let Some(_permit) = desk.permit().await else {
            break;
        };
        let answered = desk.answer(&bytes, "tcp", asker).await;
        let Some((message, _)) = answered else {
            break;
        };
        let Some(bytes) = answer::bytes(&message, u16::MAX.into()) else {
            break;
        };
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let framed = [&length.to_be_bytes(), bytes.as_slice()].concat();
        timeout(CONNECTION_PATIENCE, stream.write_all(&framed)).await??;
    }
    Ok(())
}

async fn expire(desk: Arc<Desk>) {
    let mut ticks = interval(EXPIRY);
    loop {
        ticks.tick().await;
        desk.expire().await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn what_came_before_is_thrown_away_and_what_comes_after_is_not() {
        let sockets = Sockets::bind().expect("ports of loopback");
        let asker = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let [port, _] = sockets.ports;
        let (udp, tcp) = sockets.pairs.first().expect("sockets of IPv4");
        let ask = |what: &[u8]| {
            asker
                .send_to(what, (Ipv4Addr::LOCALHOST, port))
                .expect("a question");
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection")
        };
        let _earlier: Vec<_> = (0..9).map(|_| ask(b"before")).collect();
        sockets.empty();
        let later = ask(b"after");
        let mut heard = [0; 16];
        let length = udp.recv(&mut heard).expect("a question");
        assert_eq!(heard.get(..length), Some(&b"after"[..]));
        let (_, caller) = tcp.accept().expect("a connection");
        assert_eq!(Some(caller), later.local_addr().ok());
        assert!(tcp.accept().is_err());
    }
}
