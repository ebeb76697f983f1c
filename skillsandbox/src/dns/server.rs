//! The name server: sockets on loopback, a thread of its own, one task for each question.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hickory_resolver::proto::op::{Message, ResponseCode};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use skillsandbox_common::header::Reason;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{interval, timeout},
};

use super::{
    answer,
    bucket::Bucket,
    grants::Grants,
    question::{self, QUESTION_BYTES_MAX, Question, Unanswerable},
    upstream::{Upstream, absolute},
};
use crate::{
    audit::record::{Dns, Note},
    policy::advise_name,
};

/// Questions that are answered at a time. Others wait where the kernel keeps them.
const QUESTIONS_MAX: usize = 1024;
/// Room for these, in bytes of the kernel's memory: several thousand.
const WAITING_BYTES: usize = 8 << 20;
/// Connections that are open at a time, how long one may be silent, and what it may ask.
const CONNECTIONS_MAX: usize = 64;
const CONNECTION_PATIENCE: Duration = Duration::from_secs(10);
const CONNECTION_QUESTIONS_MAX: usize = 256;
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(6);
/// How often addresses are looked at whose time has passed.
const EXPIRY: Duration = Duration::from_secs(1);
/// Names below a wildcard that may be asked for at once, and how soon one more: each could carry a
/// message to whoever answers for the domain.
const NAMES_AT_ONCE: u32 = 256;
const NAMES_INTERVAL: Duration = Duration::from_millis(250);
/// Of these, those that are remembered: they may be asked for again.
const NAMES_KNOWN_MAX: usize = 4096;
/// Longest name below a wildcard, in bytes, and the labels that it may add.
const WILDCARD_BYTES_MAX: usize = 128;
const LABELS_MAX: usize = 10;
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

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub struct NameServer {
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What every question needs.
struct Desk {
    grants: Arc<Grants>,
    upstream: Upstream,
    tell: Box<dyn Fn(Note) + Send + Sync>,
    questions: Arc<Semaphore>,
    new_names: Mutex<NewNames>,
}

/// Names below wildcards that were asked for.
struct NewNames {
    known: HashSet<String>,
    bucket: Bucket,
}

impl NewNames {
    fn may_ask(&mut self, name: &str) -> bool {
        if self.known.contains(name) {
            return true;
        }
        let may = self.bucket.take(Instant::now());
        if may && self.known.len() < NAMES_KNOWN_MAX {
            self.known.insert(name.to_owned());
        }
        may
    }
}

impl NameServer {
    /// Answers from now on. `tell` is called with what is to be put on record, before the answer
    /// leaves, and may wait.
    pub fn start(
        sockets: Sockets,
        grants: Arc<Grants>,
        upstream: Upstream,
        tell: impl Fn(Note) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let desk = Arc::new(Desk {
            grants,
            upstream,
            tell: Box::new(tell),
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            new_names: Mutex::new(NewNames {
                known: HashSet::new(),
                bucket: Bucket::new(NAMES_AT_ONCE, NAMES_INTERVAL, Instant::now()),
            }),
        });
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
                // Tasks that wait for somebody are not waited for.
                runtime.shutdown_background();
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
        let (changes, outcome) = desk.grants.expire(Instant::now());
        for change in changes {
            (desk.tell)(Note::Address(change));
        }
        if let Err(error) = outcome {
            tracing::error!(%error, "an address whose time has passed is still granted");
        }
    }
}

impl Desk {
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.questions).acquire_owned().await.ok()
    }

    /// The answer, and the bytes that it may have over UDP.
    async fn answer(
        &self,
        bytes: &[u8],
        transport: &'static str,
        asker: SocketAddr,
    ) -> Option<(Message, usize)> {
        if !asker.ip().is_loopback() {
            return None;
        }
        match question::read(bytes) {
            Ok(question) => {
                let message = self.decide(&question, transport).await;
                Some((message, question.udp_room()))
            }
            Err(unanswerable) => {
                let wrong = match unanswerable {
                    Unanswerable::Silence => None,
                    Unanswerable::Wrong(message) => Some((*message, QUESTION_BYTES_MAX)),
                };
                let code = match &wrong {
                    Some((message, _)) => mnemonic(message.metadata.response_code),
                    None => "none".to_owned(),
                };
                (self.tell)(Note::Dns(Dns::unreadable(transport, code)));
                wrong
            }
        }
    }

    async fn decide(&self, question: &Question, transport: &'static str) -> Message {
        let name = question.name();
        let record_type = question.record_type();
        let mut note = Dns::asked(name, record_type.to_string(), transport);
        let message = match self.refusal(question) {
            Err(reason) => {
                note.deny(reason);
                note.advise(advise_name(reason, name));
                question.answer(ResponseCode::Refused)
            }
            Ok(rule) => {
                note.rule = self.grants.stated(rule);
                self.ask(question, &mut note).await
            }
        };
        (self.tell)(Note::Dns(note));
        message
    }

    /// The rule that lets this question be passed on, or why none does.
    fn refusal(&self, question: &Question) -> Result<u16, Reason> {
        let name = question.name();
        let rule = self.grants.rule_of(name).ok_or(Reason::NoRule)?;
        if !question.is_of_the_internet() || !answer::is_asked_for(question.record_type()) {
            return Err(Reason::RecordType);
        }
        if !self.grants.is_stated(name) {
            if name.len() > WILDCARD_BYTES_MAX || name.split('.').count() > LABELS_MAX {
                return Err(Reason::NameTooLong);
            }
            let names = self.new_names.lock();
            if !names.unwrap_or_else(PoisonError::into_inner).may_ask(name) {
                return Err(Reason::TooManyNames);
            }
        }
        Ok(rule)
    }

    /// Passes a question on, and what is answered back.
    async fn ask(&self, question: &Question, note: &mut Dns) -> Message {
        let failed = question.answer(ResponseCode::ServFail);
        let asked = self.upstream.ask(question.name(), question.record_type());
        let reply = match timeout(PATIENCE, asked).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => {
                note.error = Some(error.to_string());
                return failed;
            }
            Err(_elapsed) => {
                note.error = Some(format!("no answer in {} s", PATIENCE.as_secs()));
                return failed;
            }
        };
        let Ok(name) = absolute(question.name()) else {
            note.error = Some("it is no name".to_owned());
            return failed;
        };
        let trusted = reply.is_the_hosts;
        let kept = answer::keep(&name, reply.records, |address| {
            trusted || self.grants.may_have(address)
        });
        note.refused.clone_from(&kept.refused);
        if kept.records.is_empty() && !kept.refused.is_empty() {
            note.deny(Reason::PrivateAddress);
            note.advise(advise_name(Reason::PrivateAddress, question.name()));
            return question.answer(ResponseCode::Refused);
        }
        let (changes, outcome) =
            self.grants
                .grant(question.name(), &kept.addresses, Instant::now());
        for change in changes {
            (self.tell)(Note::Address(change));
        }
        if let Err(error) = outcome {
            note.error = Some(error.to_string());
            return failed;
        }
        note.addresses = kept.addresses.iter().map(|(address, _)| *address).collect();
        note.code = mnemonic(reply.code);
        answer::message(question, reply.code, kept.records, reply.authority)
    }
}

/// A code as resolvers show it (RFC 6895, section 2.3).
fn mnemonic(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => format!("RCODE{}", u16::from(other)),
    }
}
