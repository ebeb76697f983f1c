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

    /// How many are to be started now.
    pub(super) fn missing(&self, now: Instant) -> usize {
        if self.is_idle(now) || is_within(self.failed, BACK_OFF, now) {
            return 0;
        }
        WAITING.saturating_sub(self.waiting.len())
    }

    /// Whether nobody has asked for long.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        !is_within(self.asked, WAIT, now)
    }

    /// The lines of those that wait, who end when these are closed.
    pub(super) fn let_go(&mut self) -> impl Iterator<Item = UnixStream> {
        self.waiting.drain(..).map(|waiting| waiting.line)
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

    /// Hands a connection to a worker that is ready, if one is: its number, and the line that is no longer needed.
    pub(super) fn hand_over(
        &mut self,
        connection: &UnixStream,
        now: Instant,
    ) -> Option<(u64, UnixStream)> {
        self.asked = Some(now);
        let at = self.waiting.iter_mut().position(Waiting::look)?;
        let waiting = self.waiting.get(at)?;
        if let Err(error) = send(&waiting.line, connection) {
            tracing::warn!(%error, "a worker that waits cannot be reached");
            self.back_off(now);
            return None;
        }
        let Waiting { number, line, .. } = self.waiting.remove(at);
        Some((number, line))
    }

    /// The line of this one, which has ended, if it was still waiting.
    pub(super) fn ended(&mut self, number: u64) -> Option<UnixStream> {
        let is_it = |waiting: &Waiting| waiting.number == number;
        let at = self.waiting.iter().position(is_it)?;
        Some(self.waiting.remove(at).line)
    }
}

fn is_within(time: Option<Instant>, limit: Duration, now: Instant) -> bool {
    time.is_some_and(|time| now.duration_since(time) < limit)
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
        assert!(pool.hand_over(&connection, now).is_none());
        assert_eq!(pool.missing(now), WAITING);
        let (line, worker) = pair();
        pool.add(1, line).expect("a line");
        assert_eq!(pool.missing(now + WAIT / 2), WAITING - 1);
        assert_eq!(pool.missing(now + WAIT), 0);
        assert!(pool.is_idle(now + WAIT) && !pool.is_idle(now));
        // While it makes its sandbox.
        assert_eq!(pool.let_go().count(), 1);
        assert!(matches!(wait_for_connection(&worker), Ok(None)));
    }

    #[test]
    fn a_connection_goes_to_one_that_is_ready_and_to_no_other() {
        let now = Instant::now();
        let mut pool = Pool::new();
        let (connection, caller) = pair();
        let (unready, _making) = pair();
        let (line, worker) = pair();
        for (number, line) in [(1, unready), (2, line)] {
            pool.add(number, line).expect("a line");
        }
        let waits = std::thread::spawn(move || wait_for_connection(&worker));
        let mut handed = None;
        while handed.is_none() {
            handed = pool.hand_over(&connection, now);
        }
        assert_eq!(handed.map(|(number, _)| number), Some(2));
        let mut handed = waits.join().expect("no panic").expect("a connection");
        let handed = handed.as_mut().expect("a connection");
        handed.write_all(b"heard").expect("a caller");
        let mut heard = [0; 5];
        (&caller).read_exact(&mut heard).expect("words");
        assert_eq!(&heard, b"heard");
        assert!(pool.ended(2).is_none() && pool.ended(1).is_some());
    }

    #[test]
    fn when_one_cannot_be_made_none_is_tried_for_a_while() {
        let now = Instant::now();
        let mut pool = Pool::new();
        let (connection, _caller) = pair();
        assert!(pool.hand_over(&connection, now).is_none());
        pool.back_off(now);
        assert_eq!(pool.missing(now + BACK_OFF / 2), 0);
        assert_eq!(pool.missing(now + BACK_OFF), WAITING);
    }

    #[test]
    fn one_that_cannot_be_reached_leaves_the_connection_to_another() {
        let now = Instant::now();
        let mut pool = Pool::new();
        let (connection, _caller) = pair();
        let (line, mut worker) = pair();
        pool.add(1, line).expect("a line");
        worker.write_all(&[0]).expect("it is ready");
        drop(worker);
        assert!(pool.hand_over(&connection, now).is_none());
        assert_eq!(pool.missing(now), 0);
        assert!(pool.ended(1).is_some());
    }
}
