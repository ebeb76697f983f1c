//! The loopback servers that stand in for the internet.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::stage::Stage;
use crate::process::{Guarded, POLL};

/// Where the skills look for the weather: `SERVICE` in their main.py.
const WEATHER: u16 = 18080;
/// Where the stealer looks for its collector: `COLLECTOR` and `COLLECTOR_DNS` in its main.py.
const COLLECTOR: u16 = 18666;
const COLLECTOR_DNS: u16 = 18053;

/// What the demo itself sends to the attacker, to see that it listens.
pub(super) const PROBE: &str = "a test message of the demo itself";
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that ends when this is dropped.
pub(super) struct Server {
    _child: Guarded,
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(stage: &Stage, name: &str, arguments: &[&str]) -> Result<Self> {
        let program = stage.server(name);
        let program = program.to_str().context("the demo's folder is UTF-8")?;
        let mut command = stage.as_user(&["python3", program]);
        command.args(arguments).stdin(Stdio::null());
        let child = command.stdout(Stdio::piped()).spawn();
        let mut child = Guarded(child.context("could not start setpriv, of util-linux")?);
        let stdout = child.0.stdout.take().context("there is no pipe")?;
        let mut stdout = BufReader::new(stdout);
        // It says its ports once it listens.
        let mut ports = String::new();
        stdout.read_line(&mut ports)?;
        ensure!(
            !ports.is_empty(),
            "{name} did not start; it says why above this line"
        );
        Ok(Self {
            _child: child,
            _stdout: stdout,
        })
    }

    /// The weather service.
    pub(super) fn weather(stage: &Stage) -> Result<Self> {
        Self::start(stage, "weather_api.py", &["--port", &WEATHER.to_string()])
    }
}

/// The attacker's collector, with a log of its own that begins empty.
pub(super) struct Attacker {
    _server: Server,
    log: PathBuf,
}

impl Attacker {
    pub(super) fn start(stage: &Stage) -> Result<Self> {
        let log = stage.log();
        fs::File::create(&log).context("cannot empty the attacker's log")?;
        let (tcp, udp) = (COLLECTOR.to_string(), COLLECTOR_DNS.to_string());
        let path = log.to_str().context("the demo's folder is UTF-8")?;
        let arguments = [path, "--tcp", &tcp, "--udp", &udp];
        let server = Server::start(stage, "attacker.py", &arguments)?;
        Ok(Self {
            _server: server,
            log,
        })
    }

    /// Its log as it is.
    pub(super) fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).context("cannot read the attacker's log")
    }

    /// Sends it a message both ways and gives the log with both in it: whatever was sent before is
    /// in it, too.
    pub(super) fn log_after_probe(&self) -> Result<String> {
        let sent = || -> io::Result<()> {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            udp.send_to(PROBE.as_bytes(), (Ipv4Addr::LOCALHOST, COLLECTOR_DNS))?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, COLLECTOR));
            let mut tcp = TcpStream::connect_timeout(&address, PATIENCE)?;
            tcp.write_all(format!("{PROBE}\r\n\r\n").as_bytes())
        };
        sent().context("the attacker does not listen any more, so its log proves nothing")?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let log = self.log()?;
            if log.matches(PROBE).count() >= 2 {
                return Ok(log);
            }
            thread::sleep(POLL);
        }
        bail!("the attacker did not log a test message, so its log proves nothing")
    }
}

/// Says which port of the demo is taken, if one is.
pub(super) fn ensure_ports_are_free() -> Result<()> {
    let at = |port| (Ipv4Addr::LOCALHOST, port);
    let tries = [
        (WEATHER, "tcp", TcpListener::bind(at(WEATHER)).err()),
        (COLLECTOR, "tcp", TcpListener::bind(at(COLLECTOR)).err()),
        (
            COLLECTOR_DNS,
            "udp",
            UdpSocket::bind(at(COLLECTOR_DNS)).err(),
        ),
    ];
    for (port, protocol, error) in tries {
        let Some(error) = error else { continue };
        if error.kind() == io::ErrorKind::AddrInUse {
            bail!(
                "port {port}/{protocol} of 127.0.0.1 is taken, perhaps by another demo: \
                 `ss -lnp 'sport = {port}'` names the program; end it and repeat"
            );
        }
        return Err(error).with_context(|| format!("cannot listen on port {port}/{protocol}"));
    }
    Ok(())
}
