//! Holds a skill back while its records are made faster than they are kept. Who keeps them may have to wait for a processor or for
//! a disk; what comes meanwhile would be lost, or denied.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{
        EventfdFlags, PollFd, PollFlags, Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
        eventfd, poll,
    },
    io::{Errno, retry_on_intr},
    process::setpriority_process,
};

use super::error::RunError;
use crate::{
    isolate::{cgroup::Freezer, run_in_real_time},
    kernel::Fill,
};

/// Percent of a ring. The kernel wakes who waits for it when more than half is filled, and then the skill is held.
const PRESSING: usize = 50;
/// At this it goes on.
const EASED: usize = 12;
/// Then it goes on all the same, and `audit.on_overflow` decides on what finds no room.
const HELD_MAX: Duration = Duration::from_secs(10);
/// How often a ring is looked at that nobody tells of: one that was filled between two looks of the kernel side, which a full
/// one does not come to any more. A processor's ring of the usual size that is half full has room for about as long.
const LOOK_UNASKED: Duration = Duration::from_millis(10);
/// How often a ring is looked at while the skill is held; less and less often.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_LAST: Duration = Duration::from_millis(16);
/// Of this thread, where it may not be of real time (`setpriority(2)`).
const NICE: i32 = -20;

/// How often a skill was held back until now, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) times: u64,
    pub(super) microseconds: u64,
    /// How often it went on while its ring was still full.
    pub(super) in_vain: u64,
}

impl Held {
    /// What was not yet then.
    pub(super) fn since(self, then: Self) -> Self {
        Self {
            times: self.times - then.times,
            microseconds: self.microseconds - then.microseconds,
            in_vain: self.in_vain - then.in_vain,
        }
    }
}

/// What the thread has come to.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldSoFar(Arc<Mutex<Held>>);

impl HeldSoFar {
    pub(super) fn get(&self) -> Held {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, time: Duration, in_vain: bool) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.times += 1;
        held.microseconds += u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        held.in_vain += u64::from(in_vain);
    }
}

/// The thread that does it. When this is dropped, what is held stays so, and is to be killed.
pub(super) struct BackPressure {
    held: HeldSoFar,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl BackPressure {
    pub(super) fn start(fill: Fill, freezer: Freezer) -> Result<Self, RunError> {
        let failed = || RunError::process("start to hold the skill back");
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let stop = Arc::new(stop.map_err(io::Error::from).map_err(failed())?);
        let held = HeldSoFar::default();
        let holding = Holding {
            fill,
            freezer,
            stop: Arc::clone(&stop),
            held: held.clone(),
        };
        let thread = thread::Builder::new().name("back-pressure".to_owned());
        let thread = thread.spawn(move || {
            if let Err(error) = run_in_real_time() {
                tracing::warn!("the skill may be held back late, as real time is refused: {error}");
                // Among the threads of this session, at least.
                let _as_it_is = setpriority_process(None, NICE);
            }
            if let Err(error) = holding.hold() {
                tracing::error!("holding the skill back for its records has failed: {error}");
            }
        });
        Ok(Self {
            held,
            stop,
            thread: Some(thread.map_err(failed())?),
        })
    }

    pub(super) fn held(&self) -> HeldSoFar {
        self.held.clone()
    }
}

impl Drop for BackPressure {
    fn drop(&mut self) {
        // A counter that is full is read as one.
        let _full = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Why a wait is over.
#[derive(PartialEq, Eq)]
enum Over {
    Eased,
    Stopped,
    Timeout,
}

struct Holding {
    fill: Fill,
    freezer: Freezer,
    stop: Arc<OwnedFd>,
    held: HeldSoFar,
}

impl Holding {
    fn hold(&self) -> io::Result<()> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let own = EventData::new_u64(0);
        epoll::add(&epoll, &*self.stop, own, EventFlags::IN)?;
        for ring in self.fill.descriptors() {
            // Not for as long as something is there, but when the kernel says so.
            epoll::add(&epoll, ring, own, EventFlags::IN | EventFlags::ET)?;
        }
        let mut events = [epoll::Event {
            flags: EventFlags::empty(),
            data: own,
        }; 4];
        let look = Timespec {
            tv_sec: 0,
            tv_nsec: LOOK_UNASKED.subsec_nanos().into(),
        };
        loop {
            retry_on_intr(|| epoll::wait(&epoll, events.as_mut_slice(), Some(&look)))?;
            if self.is_stopped(Duration::ZERO)? {
                return Ok(());
            }
            if self.fill.percent() < PRESSING {
                continue;
            }
            let since = Instant::now();
            self.freezer.freeze()?;
            let over = self.until_eased(HELD_MAX);
            if matches!(over, Ok(Over::Stopped)) {
                self.held.add(since.elapsed(), false);
                return Ok(());
            }
            let thawed = self.freezer.thaw();
            let in_vain = matches!(over, Ok(Over::Timeout));
            self.held.add(since.elapsed(), in_vain);
            thawed.and(over)?;
            if in_vain && self.until_eased(Duration::MAX)? == Over::Stopped {
                return Ok(());
            }
        }
    }

    fn until_eased(&self, most: Duration) -> io::Result<Over> {
        let since = Instant::now();
        let mut pause = LOOK_FIRST;
        while since.elapsed() < most {
            if self.is_stopped(pause)? {
                return Ok(Over::Stopped);
            }
            if self.fill.percent() <= EASED {
                return Ok(Over::Eased);
            }
            pause = (pause * 2).min(LOOK_LAST);
        }
        Ok(Over::Timeout)
    }

    /// Whether it is to stop within this time, below a second.
    fn is_stopped(&self, within: Duration) -> io::Result<bool> {
        let mut polled = [PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN)];
        let within = Timespec {
            tv_sec: 0,
            tv_nsec: within.subsec_nanos().into(),
        };
        match poll(&mut polled, Some(&within)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
