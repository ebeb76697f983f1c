//! The three ways out of a guest: the command's two outputs and its exit status.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Child;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::qemu::PORTS;
use super::{Echo, Ending};
use crate::process::POLL;

/// The ports, before the emulator has connected to them.
pub(crate) struct Ports([UnixListener; 3]);

impl Ports {
    /// Opens the sockets in `folder`.
    pub(crate) fn listen(folder: &Path) -> Result<Self> {
        let open = |name| -> Result<UnixListener> {
            let path = folder.join(name);
            let listener = UnixListener::bind(&path)
                .with_context(|| format!("could not open the socket {}", path.display()))?;
            // The emulator may die instead of connecting.
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let [stdout, stderr, status] = PORTS.map(open);
        Ok(Self([stdout?, stderr?, status?]))
    }

    /// Waits for the emulator and begins to read.
    pub(crate) fn accept(
        self,
        emulator: &mut Child,
        patience: Duration,
        echo: &Echo,
    ) -> Result<OpenPorts> {
        let deadline = Instant::now() + patience;
        let [stdout, stderr, status] = self.0.map(|listener| accept(&listener, emulator, deadline));
        let (stdout, stderr) = (stdout?, stderr?);
        let (out, errors) = (echo.clone(), echo.clone());
        Ok(OpenPorts {
            stdout: thread::spawn(move || copy(stdout, io::stdout(), &out)),
            stderr: thread::spawn(move || copy(stderr, io::stderr(), &errors)),
            status: status?,
        })
    }
}

/// The ports, being read.
pub(crate) struct OpenPorts {
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
    status: UnixStream,
}

impl OpenPorts {
    /// Waits for the end of the command or of the machine, until the deadline.
    pub(crate) fn wait(&mut self, deadline: Instant) -> Result<Ending> {
        let mut answer = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Ending::TimedOut);
            }
            self.status.set_read_timeout(Some(left))?;
            let mut byte = [0];
            match self.status.read(&mut byte) {
                Ok(0) => return Ok(Ending::Died),
                Ok(_) if byte == *b"\n" => break,
                Ok(_) => answer.extend(byte),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("the emulator's socket broke"),
            }
        }
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.parse();
        Ok(Ending::Exited(
            status.with_context(|| format!("the guest said {answer:?}"))?,
        ))
    }

    /// What the command wrote to its standard output, once the emulator is gone.
    pub(crate) fn stdout(self) -> String {
        // All of the other output is to be passed on, too.
        let _ = self.stderr.join();
        String::from_utf8_lossy(&self.stdout.join().unwrap_or_default()).into_owned()
    }
}

/// Reads to the end, passing on what comes.
fn copy(mut port: impl Read, mut to: impl Write, echo: &Echo) -> Vec<u8> {
    let mut seen = Vec::new();
    let mut passed = 0;
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = port.read(&mut buffer) {
        seen.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let news = seen.get(passed..).unwrap_or_default();
        let (length, text) = match echo {
            Echo::Bytes => (news.len(), news.to_vec()),
            Echo::Lines(start) => {
                let whole = news.iter().rposition(|byte| *byte == b'\n');
                let whole = whole.map_or(0, |end| end + 1);
                (whole, marked(news.get(..whole).unwrap_or_default(), start))
            }
        };
        passed += length;
        // Nobody may be reading us any more; the guest's work goes on.
        let _ = to.write_all(&text).and_then(|()| to.flush());
    }
    if let Echo::Lines(start) = echo {
        let _ = to.write_all(&marked(seen.get(passed..).unwrap_or_default(), start));
    }
    seen
}

/// Each line of `text` behind `start`.
fn marked(text: &[u8], start: &str) -> Vec<u8> {
    text.split_inclusive(|byte| *byte == b'\n')
        .flat_map(|line| [start.as_bytes(), line].concat())
        .collect()
}

fn accept(listener: &UnixListener, emulator: &mut Child, deadline: Instant) -> Result<UnixStream> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = emulator.try_wait()? {
            bail!("it ended with {status}");
        }
        if Instant::now() > deadline {
            bail!("it did not connect in time");
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echoed(text: &str, echo: &Echo) -> String {
        let mut to = Vec::new();
        // One byte at a time, as a slow machine writes.
        let port = text
            .as_bytes()
            .chunks(1)
            .fold(Box::new(io::empty()) as Box<dyn Read>, |before, byte| {
                Box::new(before.chain(byte))
            });
        assert_eq!(copy(port, &mut to, echo), text.as_bytes());
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn lines_of_machines_side_by_side_stay_whole() {
        let lines = Echo::Lines("6.1 | ".into());
        assert_eq!(echoed("a\nbc\nd", &lines), "6.1 | a\n6.1 | bc\n6.1 | d");
        assert_eq!(echoed("a\nb", &Echo::Bytes), "a\nb");
    }
}
