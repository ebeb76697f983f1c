//! Passes on what the skill writes, up to the limit of its manifest.

use std::{
    io::{self, Read, Write},
    thread::{self, JoinHandle},
};

use super::error::RunError;

/// A thread that passes one stream on.
pub(super) struct Pump(JoinHandle<Passed>);

/// What became of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// Bytes passed on.
    pub(super) bytes: u64,
    /// Bytes over the limit, read and dropped: the skill is not made to wait.
    pub(super) dropped: u64,
}

impl Pump {
    /// Passes `from` on to `to`, at most `limit` bytes.
    pub(super) fn start(
        from: impl Read + Send + 'static,
        to: impl Write + Send + 'static,
        limit: u64,
    ) -> Result<Self, RunError> {
        thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || pass(from, to, limit))
            .map(Self)
            .map_err(RunError::process("start a thread for the skill's output"))
    }

    /// Waits for the end of the stream: until nothing of the sandbox holds it open.
    pub(super) fn join(self) -> Passed {
        self.0.join().unwrap_or_default()
    }
}

fn pass(mut from: impl Read, mut to: impl Write, limit: u64) -> Passed {
    let mut passed = Passed::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return passed,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return passed,
        };
        let room = usize::try_from(limit - passed.bytes)
            .unwrap_or(usize::MAX)
            .min(length);
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
        let passed = pass(&b"a\xffcdef"[..], &mut out, 4);
        assert_eq!(out, b"a\xffcd");
        assert_eq!(
            passed,
            Passed {
                bytes: 4,
                dropped: 2
            }
        );
    }
}
