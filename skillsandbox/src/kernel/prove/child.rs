//! The process that tries what programs must refuse.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, BufRead, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::{
        fd::AsRawFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use rustix::{fs::Mode, io::Errno};

use super::PROBED;

/// Tries what each line of standard input names, a hook, and answers an `errno` or 0.
pub fn child() -> io::Result<()> {
    let mut answers = io::stdout().lock();
    let mut sockets = Sockets::default();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (what, folder) = line.split_once(' ').unwrap_or((&line, ""));
        let folder = Path::new(folder);
        let outcome = match what {
            "file_open" => File::open("/").map(drop),
            "mmap_file" => map_own_program(),
            "path_unlink" => not(Errno::ISDIR, rustix::fs::unlink(folder)),
            "path_rename" => std::fs::rename(folder, folder),
            "path_link" => link(folder),
            "path_mkdir" => make_folder(folder),
            "path_symlink" => make_link(folder),
            "path_rmdir" => not(Errno::NOTEMPTY, rustix::fs::rmdir(folder)),
            "path_chmod" => rustix::fs::chmod(folder, Mode::RWXU).map_err(Into::into),
            "path_chown" => rustix::fs::chown(folder, None, None).map_err(Into::into),
            "path_truncate" => truncate(c"/proc/self/comm"),
            "ptrace_access_check" => look_into_parent(),
            "bprm_check_security" => Command::new("/proc/self/exe")
                .arg("--version")
                .stdout(Stdio::null())
                .status()
                .map(drop),
            "connect4" => socket(V4).and_then(|socket| socket.connect((V4, DISCARD))),
            "connect6" => socket(V6).and_then(|socket| socket.connect((V6, DISCARD))),
            "sendmsg4" => socket(V4).and_then(|socket| send(&socket, V4)),
            "sendmsg6" => socket(V6).and_then(|socket| send(&socket, V6)),
            "iptables" => socket(V4).and_then(|socket| send_to(&socket, V4, PROBED)),
            "ip6tables" => socket(V6).and_then(|socket| send_to(&socket, V6, PROBED)),
            "outside" => sockets.outside(),
            "inside" => sockets.inside(),
            "ingress" => sockets.receive(),
            "egress" => sockets.send(),
            "bind4" => socket(V4).map(drop),
            "bind6" => socket(V6).map(drop),
            "unix_stream_connect" => unix(),
            "socket_create" => UnixDatagram::unbound().map(drop),
            _ => Ok(()),
        };
        let errno = outcome
            .err()
            .map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
        writeln!(answers, "{errno}")?;
        answers.flush()?;
    }
    Ok(())
}

/// Takes this error for success: the kernel's next check, behind ours, finds that `what` makes no
/// sense, and nothing is changed.
fn not(expected: Errno, what: rustix::io::Result<()>) -> io::Result<()> {
    match what {
        Err(error) if error == expected => Ok(()),
        other => Ok(other?),
    }
}

/// Makes a folder in the folder, and takes it away again.
fn make_folder(folder: &Path) -> io::Result<()> {
    let made = folder.join("probe");
    std::fs::create_dir(&made)?;
    std::fs::remove_dir(made)
}

/// Makes a symbolic link in the folder, and takes it away again.
fn make_link(folder: &Path) -> io::Result<()> {
    let made = folder.join("probe");
    std::os::unix::fs::symlink("nowhere", &made)?;
    std::fs::remove_file(made)
}

/// Gives one of the pins in the folder another name, and takes that away again.
fn link(folder: &Path) -> io::Result<()> {
    let pin = std::fs::read_dir(folder)?.next();
    let pin = pin.ok_or_else(|| io::Error::other("nothing is pinned"))??;
    let second = folder.join("probe");
    std::fs::hard_link(pin.path(), &second)?;
    std::fs::remove_file(second)
}

/// Reads a link of our parent's folder of `/proc`, which takes the right to trace it. The file
/// system says `EACCES` to whoever lacks that.
fn look_into_parent() -> io::Result<()> {
    let link = format!("/proc/{}/exe", std::os::unix::process::parent_id());
    match std::fs::read_link(link) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            Err(io::Error::from_raw_os_error(libc::EPERM))
        }
        other => other.map(drop),
    }
}

/// `truncate(2)` to nothing, which a file of `/proc` does not mind.
#[expect(unsafe_code, reason = "no safe call truncates by path")]
fn truncate(path: &CStr) -> io::Result<()> {
    // SAFETY: the path ends with a NUL.
    match unsafe { libc::truncate(path.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Maps the start of our own program as code.
#[expect(unsafe_code, reason = "no safe call maps a file")]
fn map_own_program() -> io::Result<()> {
    const BYTES: usize = 1;
    let program = File::open("/proc/self/exe")?;
    // SAFETY: a new mapping where the kernel wants it, which nobody reads and which is unmapped.
    unsafe {
        let mapped = libc::mmap(
            std::ptr::null_mut(),
            BYTES,
            libc::PROT_READ | libc::PROT_EXEC,
            libc::MAP_PRIVATE,
            program.as_raw_fd(),
            0,
        );
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        libc::munmap(mapped, BYTES);
    }
    Ok(())
}

/// The discard port (RFC 863): nothing is expected to answer.
const DISCARD: u16 = 9;

/// Far longer than a packet takes on loopback.
const PATIENCE: Duration = Duration::from_secs(1);

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn socket(address: IpAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind((address, 0))
}

/// Connects to a unix socket of this process's own.
fn unix() -> io::Result<()> {
    // Nobody is to have taken the name already.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_err(io::Error::other)?.as_nanos();
    let name = format!("skillsandbox-probe-{}-{now}", std::process::id());
    let address = SocketAddr::from_abstract_name(name)?;
    let _listener = UnixListener::bind_addr(&address)?;
    UnixStream::connect_addr(&address).map(drop)
}

/// Sockets that are there before programs on packets are. A socket is of the cgroup that it was
/// made in.
#[derive(Default)]
struct Sockets {
    /// Made before this process joined the cgroup.
    outside: Option<UdpSocket>,
    /// Made in the cgroup, the first connected to the second.
    inside: Vec<[UdpSocket; 2]>,
    /// Made in the cgroup, and connected to the one outside.
    witness: Option<UdpSocket>,
}

impl Sockets {
    fn outside(&mut self) -> io::Result<()> {
        let outside = socket(V4)?;
        outside.set_read_timeout(Some(PATIENCE))?;
        self.outside = Some(outside);
        Ok(())
    }

    fn inside(&mut self) -> io::Result<()> {
        let pair = |address| {
            let (from, to) = (socket(address)?, socket(address)?);
            from.connect(to.local_addr()?)?;
            to.set_nonblocking(true)?;
            Ok::<_, io::Error>([from, to])
        };
        self.inside.extend([V4, V6].map(pair).into_iter().flatten());
        if let Some(outside) = &self.outside {
            let witness = socket(V4)?;
            witness.connect(outside.local_addr()?)?;
            self.witness = Some(witness);
        }
        Ok(())
    }

    /// Sends a packet from each; refused where none leaves.
    fn send(&self) -> io::Result<()> {
        let mut refused = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
        for [from, _to] in &self.inside {
            match from.send(&[]) {
                Ok(_) => return Ok(()),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Sends packets to a socket of the cgroup, each before one to a socket outside: where the
    /// second arrives and the first does not, it was refused. More than once, as two packets that
    /// are sent on two processors can overtake each other.
    fn receive(&self) -> io::Result<()> {
        let (Some(outside), Some(witness), Some([from, to])) =
            (&self.outside, &self.witness, self.inside.first())
        else {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        };
        for _ in 0..3 {
            from.send(&[])?;
            witness.send(&[])?;
            outside.recv(&mut [0])?;
            if to.recv(&mut [0]).is_ok() {
                return Ok(());
            }
        }
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }
}

fn send(socket: &UdpSocket, address: IpAddr) -> io::Result<()> {
    send_to(socket, address, DISCARD)
}

fn send_to(socket: &UdpSocket, address: IpAddr, port: u16) -> io::Result<()> {
    socket.send_to(&[], (address, port)).map(drop)
}
