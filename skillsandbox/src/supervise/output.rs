//! Passes on what the skill writes, up to the limit of its manifest.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::error::RunError;

/// A thread that passes one stream on.
pub(super) struct Pump(JoinHandle<Passed>);

/// The bytes that all streams of a skill may still write together.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<AtomicU64>);

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// Takes `wanted` bytes, or as many as are left.
    fn take(&self, wanted: usize) -> usize {
        let mut taken = 0;
        let _always = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                taken = usize::try_from(left).unwrap_or(usize::MAX).min(wanted);
                Some(left - taken as u64)
            });
        taken
    }
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// Bytes passed on.
    pub(super) bytes: u64,
    /// Bytes over the limit, read and dropped: the skill is not made to wait.
    pub(super) dropped: u64,
}

impl Pump {
    /// Passes `from` on to `to`, as long as there is a budget.
    pub(super) fn start(
        from: impl Read + Send + 'static,
        to: impl Write + Send + 'static,
        budget: Budget,
    ) -> Result<Self, RunError> {
        thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || pass(from, to, &budget))
            .map(Self)
            .map_err(RunError::process("start a thread for the skill's output"))
    }

    /// Waits for the end of the stream: until nothing of the sandbox holds it open, and everything is read. Of a reader who
    /// takes longer than that, if there is such a time, nothing is known.
    pub(super) fn join(self, patience: Option<Duration>) -> Passed {
        let started = Instant::now();
        while let Some(patience) = patience
            && !self.0.is_finished()
        {
            if started.elapsed() > patience {
                tracing::warn!("output was not read to its end");
                return Passed::default();
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.0.join().unwrap_or_default()
    }
}

fn pass(mut from: impl Read, mut to: impl Write, budget: &Budget) -> Passed {
    let mut passed = Passed::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return passed,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return passed,
        };
        let room = budget.take(length);
        let kept = buffer.get(..room).unwrap_or_default();
        // Whoever reads us may be gone; the skill's own pipe stays open all the same.
        let written = to.write_all(kept).and_then(|()| to.flush()).is_ok();
        passed.bytes += if written { room as u64 } else { 0 };
        passed.dropped += (length - room) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_over_the_limit_are_dropped_and_counted() {
        let mut out = Vec::new();
        let passed = pass(&b"a\xffcdef"[..], &mut out, &Budget::new(4));
        assert_eq!(out, b"a\xffcd");
        assert_eq!(
            passed,
            Passed {
                bytes: 4,
                dropped: 2
            }
        );
    }

    #[test]
    fn streams_share_one_limit() {
        let budget = Budget::new(5);
        let passed = [b"abc", b"def", b"ghi"].map(|text| {
            let passed = pass(&text[..], io::sink(), &budget);
            (passed.bytes, passed.dropped)
        });
        assert_eq!(passed, [(3, 0), (2, 1), (0, 3)]);
    }
}
