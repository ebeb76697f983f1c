//! How often something may happen.

use std::time::{Duration, Instant};

/// So many at once, and one more in every interval.
#[derive(Debug)]
pub(crate) struct Bucket {
    room: u32,
    left: u32,
    interval: Duration,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(room: u32, interval: Duration, now: Instant) -> Self {
        Self {
            room,
            left: room,
            interval,
            filled: now,
        }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_nanos();
        let more = u32::try_from(passed / self.interval.as_nanos().max(1)).unwrap_or(u32::MAX);
        if more >= self.room - self.left {
            self.left = self.room;
            self.filled = now;
        } else {
            self.left += more;
            self.filled += self.interval * more;
        }
        let taken = self.left > 0;
        self.left -= u32::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_at_once_comes_back_one_by_one() {
        let start = Instant::now();
        let mut bucket = Bucket::new(2, Duration::from_secs(1), start);
        assert!(bucket.take(start));
        assert!(bucket.take(start));
        assert!(!bucket.take(start));
        assert!(!bucket.take(start + Duration::from_millis(900)));
        assert!(bucket.take(start + Duration::from_millis(1100)));
        assert!(!bucket.take(start + Duration::from_millis(1900)));
        let later = start + Duration::from_mins(1);
        assert!(bucket.take(later) && bucket.take(later) && !bucket.take(later));
    }
}
