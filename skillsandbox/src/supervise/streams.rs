//! Where the streams of a run lead: to those of this process, or to pipes whose other ends a caller has.

use std::{
    fs::File,
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::error::RunError;

/// How long a caller may take to read what is left when the run is over.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that may wait for a caller who reads slowly.
const WAITING_MAX: usize = 16 << 20;
/// How long whoever writes waits for room among them, once.
const WAIT: Duration = Duration::from_millis(250);

/// The streams of a run.
#[derive(Clone, Debug, Default)]
pub enum Streams {
    /// This process's own.
    #[default]
    Ours,
    /// A caller's.
    Theirs {
        /// What the skill reads; nothing if it is to read nothing.
        stdin: Option<Arc<File>>,
        /// What the skill writes.
        stdout: Arc<File>,
        /// The same.
        stderr: Arc<File>,
    },
}

impl Streams {
    pub(super) fn stdin(&self) -> Result<Box<dyn Read + Send>, RunError> {
        Ok(match self {
            Self::Ours => Box::new(io::stdin()),
            Self::Theirs { stdin: None, .. } => Box::new(io::empty()),
            Self::Theirs {
                stdin: Some(stdin), ..
            } => Box::new(again(stdin)?),
        })
    }

    pub(super) fn stdout(&self) -> Result<Box<dyn Write + Send>, RunError> {
        Ok(match self {
            Self::Ours => Box::new(io::stdout()),
            Self::Theirs { stdout, .. } => Box::new(again(stdout)?),
        })
    }

    pub(super) fn stderr(&self) -> Result<Box<dyn Write + Send>, RunError> {
        Ok(match self {
            Self::Ours => Box::new(io::stderr()),
            Self::Theirs { stderr, .. } => Box::new(again(stderr)?),
        })
    }

    /// How long the end of the run waits for whoever reads; our own streams are read by whoever waits for us.
    pub(super) fn patience(&self) -> Option<Duration> {
        matches!(self, Self::Theirs { .. }).then_some(PATIENCE)
    }
}

pub(super) fn again(file: &File) -> Result<File, RunError> {
    file.try_clone().map_err(RunError::process("use a stream"))
}

/// What is written for a caller by who must not wait for one: records. A thread passes it on; when too much waits, or nobody
/// reads any more, writing fails, and nothing else does.
#[derive(Debug)]
pub(super) struct Outlet {
    to: Option<Sender<Vec<u8>>>,
    waiting: Arc<AtomicUsize>,
    is_read: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Outlet {
    /// Passes on to `to`, in a thread of its own.
    pub(super) fn start(to: File) -> io::Result<Self> {
        let (sender, chunks) = channel();
        let (waiting, is_read) = (Arc::default(), Arc::new(AtomicBool::new(true)));
        let (left, reads) = (Arc::clone(&waiting), Arc::clone(&is_read));
        let thread = thread::Builder::new()
            .name("outlet".to_owned())
            .spawn(move || pass_on(to, &chunks, &left, &reads))?;
        Ok(Self {
            to: Some(sender),
            waiting,
            is_read,
            thread: Some(thread),
        })
    }
}

fn pass_on(
    mut to: impl Write,
    chunks: &Receiver<Vec<u8>>,
    waiting: &AtomicUsize,
    is_read: &AtomicBool,
) {
    for chunk in chunks {
        if to.write_all(&chunk).is_err() {
            is_read.store(false, Ordering::Relaxed);
            return;
        }
        waiting.fetch_sub(chunk.len(), Ordering::Relaxed);
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let started = Instant::now();
        let has_room = || self.waiting.load(Ordering::Relaxed) + bytes.len() <= WAITING_MAX;
        while self.is_read.load(Ordering::Relaxed) && !has_room() && started.elapsed() < WAIT {
            thread::sleep(Duration::from_millis(1));
        }
        let sent = match &self.to {
            Some(to) if self.is_read.load(Ordering::Relaxed) && has_room() => {
                self.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
                to.send(bytes.to_vec()).is_ok()
            }
            _ => false,
        };
        if sent {
            return Ok(bytes.len());
        }
        // Not to be waited for again.
        self.is_read.store(false, Ordering::Relaxed);
        Err(io::Error::new(
            io::ErrorKind::BrokenPipe,
            "whoever asked for this reads it no more, or too slowly",
        ))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.to = None;
        let started = Instant::now();
        while let Some(thread) = &self.thread
            && !thread.is_finished()
            && self.is_read.load(Ordering::Relaxed)
            && started.elapsed() < PATIENCE
        {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::pipe;

    use super::*;

    #[test]
    fn who_reads_gets_everything() {
        let (from, to) = pipe().unwrap();
        let mut outlet = Outlet::start(File::from(to)).unwrap();
        let reader = thread::spawn(move || io::read_to_string(File::from(from)).unwrap().len());
        for _ in 0..1000 {
            outlet.write_all(&[b'a'; 1000]).unwrap();
        }
        drop(outlet);
        assert_eq!(reader.join().unwrap(), 1_000_000);
    }

    #[test]
    fn who_does_not_read_is_waited_for_once() {
        let (_from, to) = pipe().unwrap();
        let mut outlet = Outlet::start(File::from(to)).unwrap();
        let chunk = vec![0; 1 << 20];
        let started = Instant::now();
        let written = (0..1000)
            .filter(|_| outlet.write_all(&chunk).is_ok())
            .count();
        drop(outlet);
        assert_eq!(written, WAITING_MAX >> 20);
        assert!(
            started.elapsed() < PATIENCE,
            "for each again, or at the end"
        );
    }

    #[test]
    fn who_is_gone_is_an_error() {
        let (from, to) = pipe().unwrap();
        let mut outlet = Outlet::start(File::from(to)).unwrap();
        drop(from);
        let started = Instant::now();
        while outlet.write_all(b"a").is_ok() {
            assert!(started.elapsed() < PATIENCE);
        }
    }
}
