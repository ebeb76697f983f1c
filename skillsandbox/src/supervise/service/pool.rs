//! Workers that have made a sandbox before anybody asked for one, so that a run does not wait for that.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// How many wait.
const WAITING: usize = 2;
/// For so long after somebody asked. A sandbox that waits has a slot and some five MiB of the kernel's memory.
const WAIT: Duration = Duration::from_mins(5);
/// How long none is made after one could not be.
const BACK_OFF: Duration = Duration::from_secs(30);

/// Those that wait.
pub(super) struct Pool {
    waiting: Vec<Waiting>,
    asked: Option<Instant>,
    failed: Option<Instant>,
}

struct Waiting {
    number: u64,
    /// Closed, it ends.
    line: UnixStream,
    is_ready: bool,
}

impl Pool {
    /// None, until somebody has asked.
    pub(super) fn new() -> Self {
        Self {
            waiting: Vec::new(),
            asked: None,
            failed: None,
        }
    }

    /// How many are to be started now. When nobody has asked for long, those that wait are let go.
    pub(super) fn missing(&mut self, now: Instant) -> usize {
        let is_within = |time: Option<Instant>, limit| {
            time.is_some_and(|time| now.duration_since(time) < limit)
        };
        if !is_within(self.asked, WAIT) {
            self.waiting.clear();
            return 0;
        }
        if is_within(self.failed, BACK_OFF) {
            return 0;
        }
        WAITING.saturating_sub(self.waiting.len())
    }

    /// Has this worker, at the other end of this line, wait.
    pub(super) fn add(&mut self, number: u64, line: UnixStream) -> io::Result<()> {
        line.set_nonblocking(true)?;
        self.waiting.push(Waiting {
            number,
            line,
            is_ready: false,
        });
        Ok(())
    }

    /// Starts none for a while.
    pub(super) fn back_off(&mut self, now: Instant) {
        self.failed = Some(now);
    }

    /// Hands a connection to a worker that is ready, and says which; or gives it back, if none is.
    pub(super) fn hand_over(
        &mut self,
        connection: UnixStream,
        now: Instant,
    ) -> Result<u64, UnixStream> {
        self.asked = Some(now);
        while let Some(at) = self.waiting.iter_mut().position(Waiting::look) {
            let Waiting { number, line, .. } = self.waiting.remove(at);
            match send(&line, &connection) {
                Ok(()) => {
                    // In this order: the worker ends no sooner than the line, so the last to close the connection is not this.
                    drop(connection);
                    drop(line);
                    return Ok(number);
                }
                Err(error) => tracing::warn!(%error, "a worker that waited cannot be reached"),
            }
        }
        Err(connection)
    }

    /// Whether this one, which has ended, was still waiting.
    pub(super) fn ended(&mut self, number: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.number != number);
        self.waiting.len() < before
    }
}

impl Waiting {
    /// Whether its sandbox is made.
    fn look(&mut self) -> bool {
        self.is_ready = self.is_ready || matches!((&self.line).read(&mut [0]), Ok(1));
        self.is_ready
    }
}

fn send(line: &UnixStream, connection: &UnixStream) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let handed = [connection.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&handed)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    sendmsg(
        line,
        &[IoSlice::new(&[0])],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// The worker's side: says that it is ready, and waits for a connection. There is none when the daemon lets go of it.
pub(super) fn wait_for_connection(mut line: &UnixStream) -> io::Result<Option<UnixStream>> {
    let is_gone = |error: &io::Error| {
        let kind = error.kind();
        matches!(
            kind,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        )
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = line.write_all(&byte).and_then(|()| {
        loop {
            let mut into = [IoSliceMut::new(&mut byte)];
            match recvmsg(line, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    });
    match received {
        // It may let go before it has heard that this is ready.
        Err(error) if is_gone(&error) => return Ok(None),
        other => other?,
    };
    let handed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut handed) => handed.next(),
        _ => None,
    });
    Ok(handed.map(|handed: OwnedFd| handed.into()))
}

/// Waits until the daemon has closed the connection that it handed over.
pub(super) fn wait_until_let_go(mut line: &UnixStream) {
    // An error is an end too.
    let _end = line.read(&mut [0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().expect("a pair of sockets")
    }

    #[test]
    fn none_is_started_before_somebody_asks_and_none_is_kept_long_after() {
        let now = Instant::now();
        let mut pool = Pool::new();
        assert_eq!(pool.missing(now), 0);
        let (connection, _caller) = pair();
        assert!(pool.hand_over(connection, now).is_err());
        assert_eq!(pool.missing(now), WAITING);
        let (line, worker) = pair();
        pool.add(1, line).expect("a line");
        assert_eq!(pool.missing(now + WAIT / 2), WAITING - 1);
        assert_eq!(pool.missing(now + WAIT), 0);
        // Let go of while it made its sandbox.
        assert!(matches!(wait_for_connection(&worker), Ok(None)));
    }

    #[test]
    fn a_connection_goes_to_one_that_is_ready_and_to_no_other() {
        let now = Instant::now();
        let mut pool = Pool::new();
        let (connection, caller) = pair();
        let (gone, _) = pair();
        let (unready, _making) = pair();
        let (line, worker) = pair();
        for (number, line) in [(1, gone), (2, unready), (3, line)] {
            pool.add(number, line).expect("a line");
        }
        let waits = std::thread::spawn(move || {
            let handed = wait_for_connection(&worker);
            wait_until_let_go(&worker);
            handed
        });
        let mut tried = pool.hand_over(connection, now);
        while let Err(connection) = tried {
            tried = pool.hand_over(connection, now);
        }
        assert_eq!(tried.ok(), Some(3));
        let mut handed = waits.join().expect("no panic").expect("a connection");
        let handed = handed.as_mut().expect("a connection");
        handed.write_all(b"heard").expect("a caller");
        let mut heard = [0; 5];
        (&caller).read_exact(&mut heard).expect("words");
        assert_eq!(&heard, b"heard");
        assert!(!pool.ended(3) && pool.ended(2));
    }

    #[test]
    fn when_one_cannot_be_made_none_is_tried_for_a_while() {
        let now = Instant::now();
        let mut pool = Pool::new();
        let (connection, _caller) = pair();
        let _none = pool.hand_over(connection, now);
        pool.back_off(now);
        assert_eq!(pool.missing(now + BACK_OFF / 2), 0);
        assert_eq!(pool.missing(now + BACK_OFF), WAITING);
    }
}
