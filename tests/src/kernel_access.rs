//! Accesses that a process in a sandbox really makes, on the word of one outside.

use std::ffi::CString;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketFlags, SocketType};
use skillsandbox::isolate::cgroup::Cgroup;

/// The argument that makes the helper program the process inside.
pub const SUBCOMMAND: &str = "inside";

/// One access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Opens a file.
    Open {
        /// Its path.
        path: Vec<u8>,
        /// How many of the path's first bytes are the working folder, and left out of the call.
        folder: u16,
        /// `O_*`.
        flags: u32,
    },
    /// Connects a socket, or sends a datagram.
    Reach {
        /// A datagram, from a socket that is not connected.
        send: bool,
        /// `IPPROTO_*`.
        protocol: u8,
        /// Through a socket of IPv6, even for an address of IPv4.
        six: bool,
        /// The address, IPv4 as mapped.
        address: [u8; 16],
        /// The port.
        port: u16,
    },
}

/// `IPPROTO_ICMP` or, for a socket of IPv6, `IPPROTO_ICMPV6`: a protocol whose sockets
/// are not made in a sandbox.
pub const ICMP: u8 = 1;
/// `IPPROTO_TCP`.
pub const TCP: u8 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u8 = 17;

impl Access {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Open {
                path,
                folder,
                flags,
            } => {
                out.write_all(&[0])?;
                out.write_all(&folder.to_le_bytes())?;
                out.write_all(&flags.to_le_bytes())?;
                let length = u16::try_from(path.len()).map_err(io::Error::other)?;
                out.write_all(&length.to_le_bytes())?;
                out.write_all(path)
            }
            Self::Reach {
                send,
                protocol,
                six,
                address,
                port,
            } => {
                out.write_all(&[1, u8::from(*send), *protocol, u8::from(*six)])?;
                out.write_all(address)?;
                out.write_all(&port.to_le_bytes())
            }
        }
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        let [tag] = bytes(from)?;
        if tag == 0 {
            let folder = u16::from_le_bytes(bytes(from)?);
            let flags = u32::from_le_bytes(bytes(from)?);
            let mut path = vec![0; usize::from(u16::from_le_bytes(bytes(from)?))];
            from.read_exact(&mut path)?;
            return Ok(Self::Open {
                path,
                folder,
                flags,
            });
        }
        let [send, protocol, six] = bytes(from)?;
        Ok(Self::Reach {
            send: send != 0,
            protocol,
            six: six != 0,
            address: bytes(from)?,
            port: u16::from_le_bytes(bytes(from)?),
        })
    }

    /// Makes the access and answers its `errno`, or 0.
    fn make(&self) -> io::Result<i32> {
        let outcome = match self {
            Self::Open {
                path,
                folder,
                flags,
            } => {
                let path = path.get(usize::from(*folder)..).unwrap_or_default();
                let path = CString::new(path)?;
                let flags = OFlags::from_bits_retain(*flags) | OFlags::CLOEXEC | OFlags::NONBLOCK;
                rustix::fs::openat(CWD, path, flags, Mode::empty()).map(drop)
            }
            Self::Reach {
                send,
                protocol,
                six,
                address,
                port,
            } => reach(*send, *protocol, *six, *address, *port)?,
        };
        Ok(outcome.err().map_or(0, Errno::raw_os_error))
    }
}

/// The outer error is that of making the socket, for another reason than a decision.
fn reach(
    send: bool,
    protocol: u8,
    six: bool,
    address: [u8; 16],
    port: u16,
) -> io::Result<Result<(), Errno>> {
    let address = Ipv6Addr::from(address);
    let (family, destination) = match address.to_ipv4_mapped() {
        Some(four) if !six => (AddressFamily::INET, SocketAddr::from((four, port))),
        _ => (AddressFamily::INET6, SocketAddr::from((address, port))),
    };
    let (kind, protocol) = match protocol {
        TCP => (SocketType::STREAM, rustix::net::ipproto::TCP),
        UDP => (SocketType::DGRAM, rustix::net::ipproto::UDP),
        _ if six => (SocketType::DGRAM, rustix::net::ipproto::ICMPV6),
        _ => (SocketType::DGRAM, rustix::net::ipproto::ICMP),
    };
    let protocol: Option<Protocol> = Some(protocol);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match rustix::net::socket_with(family, kind, flags, protocol) {
        Err(Errno::PERM) => return Ok(Err(Errno::PERM)),
        other => other?,
    };
    Ok(if send {
        rustix::net::sendto(&socket, &[], SendFlags::empty(), &destination).map(drop)
    } else {
        rustix::net::connect(&socket, &destination)
    })
}

fn bytes<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The process inside: makes every access that it is sent, until there are no more.
pub fn inside() -> Result<()> {
    let mut requests = BufReader::new(io::stdin().lock());
    let mut answers = BufWriter::new(io::stdout().lock());
    loop {
        let count = match bytes(&mut requests).map(u32::from_le_bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // All are read before the first is made: nothing waits for the other side.
        let accesses: io::Result<Vec<Access>> =
            (0..count).map(|_| Access::read(&mut requests)).collect();
        for access in accesses? {
            let errno = access.make().with_context(|| format!("{access:?}"))?;
            answers.write_all(&errno.to_le_bytes())?;
        }
        answers.flush()?;
    }
}

/// The process inside, as seen from outside.
#[derive(Debug)]
pub struct Inside {
    child: Child,
    requests: BufWriter<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Inside {
    /// Starts it in this working folder, in no sandbox yet.
    pub fn start(folder: &Path) -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg(SUBCOMMAND)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = child.stdin.take().context("no pipe to the process")?;
        let answers = child.stdout.take().context("no pipe from the process")?;
        let mut inside = Self {
            child,
            requests: BufWriter::new(requests),
            answers: BufReader::new(answers),
        };
        // Once it has answered, it opens no files for itself.
        let root = Access::Open {
            path: b"/".to_vec(),
            folder: 0,
            flags: 0,
        };
        inside.make(&[root])?;
        Ok(inside)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Moves it into a cgroup.
    pub fn join(&self, cgroup: &Cgroup) -> Result<()> {
        let procs = cgroup.path().join("cgroup.procs");
        Ok(std::fs::write(procs, self.child.id().to_string())?)
    }

    /// Makes it make these accesses; answers the `errno` of each.
    pub fn make(&mut self, accesses: &[Access]) -> Result<Vec<i32>> {
        let count = u32::try_from(accesses.len())?;
        self.requests.write_all(&count.to_le_bytes())?;
        for access in accesses {
            access.write(&mut self.requests)?;
        }
        self.requests.flush()?;
        let answers = accesses.iter().map(|access| {
            let answer = bytes(&mut self.answers).map(i32::from_le_bytes);
            answer.with_context(|| format!("the process inside is gone, perhaps at {access:?}"))
        });
        answers.collect()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // One that is gone already is what is wanted.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
