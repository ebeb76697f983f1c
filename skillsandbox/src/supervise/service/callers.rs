//! Who asks, how often, how much at once, and what is to be recorded of those who ask too much.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::protocol::Peer;
use crate::dns::Bucket;

/// Runs that one user may have at once, and that all may have together.
const RUNS_MAX: u32 = 32;
const RUNS_OF_ALL_MAX: u32 = 256;
/// Requests that one user may make at once, and how long until there is one more. One that is refused is dear: it makes a line of
/// the ledger.
const BURST: u32 = 128;
const EVERY: Duration = Duration::from_secs(1);
const REFUSED_COSTS: u32 = 4;
/// How often it is recorded that one user asks too much.
const RECORD_EVERY: Duration = Duration::from_secs(10);

/// Every user who has asked.
#[derive(Default)]
pub(super) struct Callers(HashMap<u32, Caller>);

struct Caller {
    running: u32,
    bucket: Bucket,
    /// Refused since that was last recorded, the last of them and why, and when that was.
    untold: u64,
    last: Option<(Peer, &'static str)>,
    told: Option<Instant>,
}

impl Callers {
    /// Counts one more run of this user, or says why there is none.
    pub(super) fn admit(&mut self, peer: Peer, now: Instant) -> Result<(), &'static str> {
        let of_all: u32 = self.0.values().map(|caller| caller.running).sum();
        let caller = self.0.entry(peer.uid).or_insert_with(|| Caller {
            running: 0,
            bucket: Bucket::new(BURST, EVERY, now),
            untold: 0,
            last: None,
            told: None,
        });
        let why = if !caller.bucket.take(now) {
            "too many requests: ask again in a second"
        } else if caller.running >= RUNS_MAX {
            "too many runs at once: wait until some have ended"
        } else if of_all >= RUNS_OF_ALL_MAX {
            "too many runs of all users at once: wait until some have ended"
        } else {
            caller.running += 1;
            return Ok(());
        };
        caller.untold += 1;
        caller.last = Some((peer, why));
        Err(why)
    }

    /// Counts one run less.
    pub(super) fn leave(&mut self, uid: u32) {
        if let Some(caller) = self.0.get_mut(&uid) {
            caller.running = caller.running.saturating_sub(1);
        }
    }

    /// Has a request that became no run cost more than others.
    pub(super) fn charge(&mut self, uid: u32, now: Instant) {
        if let Some(caller) = self.0.get_mut(&uid) {
            let paid = (1..REFUSED_COSTS).filter(|_| caller.bucket.take(now));
            let _how_much = paid.count();
        }
    }

    /// What is to be recorded now of who was refused here, each user at most once in a while.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Peer, String)> {
        let is_due = |caller: &&mut Caller| {
            let told = caller.told;
            told.is_none_or(|told| now.duration_since(told) >= RECORD_EVERY)
        };
        let due = self.0.values_mut().filter(is_due);
        due.filter_map(|caller| caller.tell(now)).collect()
    }

    /// All that is not recorded yet.
    pub(super) fn untold(&mut self, now: Instant) -> Vec<(Peer, String)> {
        let all = self.0.values_mut();
        all.filter_map(|caller| caller.tell(now)).collect()
    }
}

impl Caller {
    /// What is to be told of them, as from now on it is.
    fn tell(&mut self, now: Instant) -> Option<(Peer, String)> {
        let (peer, why) = self.last.take()?;
        let told = format!("{why} ({} requests since the last such line)", self.untold);
        self.told = Some(now);
        self.untold = 0;
        Some((peer, told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32) -> Peer {
        Peer {
            pid: 1,
            uid,
            gid: uid,
        }
    }

    #[test]
    fn a_user_has_so_many_runs_and_one_more_when_one_is_over() {
        let (mut callers, now) = (Callers::default(), Instant::now());
        for _ in 0..RUNS_MAX {
            assert_eq!(callers.admit(peer(1), now), Ok(()));
        }
        assert!(callers.admit(peer(1), now).is_err());
        assert_eq!(callers.admit(peer(2), now), Ok(()));
        callers.leave(1);
        assert_eq!(callers.admit(peer(1), now), Ok(()));
    }

    #[test]
    fn all_users_together_have_so_many_runs() {
        let (mut callers, now) = (Callers::default(), Instant::now());
        for number in 0..RUNS_OF_ALL_MAX {
            assert_eq!(callers.admit(peer(number), now), Ok(()));
        }
        assert!(callers.admit(peer(RUNS_OF_ALL_MAX), now).is_err());
    }

    #[test]
    fn who_asks_too_much_waits_and_is_told_of_once_in_a_while() {
        let (mut callers, now) = (Callers::default(), Instant::now());
        for _ in 0..BURST / REFUSED_COSTS {
            assert_eq!(callers.admit(peer(1), now), Ok(()));
            callers.leave(1);
            callers.charge(1, now);
        }
        for _ in 0..7 {
            assert!(callers.admit(peer(1), now).is_err());
        }
        let due = callers.due(now);
        assert!(matches!(due.as_slice(), [(_, why)] if why.contains("(7 requests")));
        assert!(callers.admit(peer(1), now).is_err());
        assert!(callers.due(now + RECORD_EVERY / 2).is_empty());
        assert_eq!(callers.due(now + RECORD_EVERY).len(), 1);
        assert!(callers.untold(now + RECORD_EVERY).is_empty());
        assert_eq!(callers.admit(peer(1), now + EVERY), Ok(()));
    }
}
