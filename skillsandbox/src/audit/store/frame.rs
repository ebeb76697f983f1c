//! A log is frames, each bound to all before it. Pure: bytes in, bytes out.
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | `SSL1` |
//! | 4 | length of the payload, as it is stored |
//! | 4 | its length before compression |
//! | 8 | number of the frame, from 0 |
//! | … | payload: an LZ4 block |
//! | 32 | BLAKE3 of the last frame's hash and of everything above |
//!
//! Numbers are little-endian. The first frame is bound to the name of the run, so that no log passes for
//! another's.

use std::io::{self, Read};

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

/// A hash of BLAKE3.
pub(super) type Hash = [u8; HASH_LEN];

/// Bytes of a hash.
pub(super) const HASH_LEN: usize = 32;

const MAGIC: [u8; 4] = *b"SSL1";
const HEAD_LEN: usize = 20;
/// Longest payload before compression: who reads a log gives no more memory than this. A batch of the
/// collector is far shorter.
pub(super) const PAYLOAD_MAX: usize = 64 << 20;
/// What BLAKE3 derives the beginning of every chain from.
const CONTEXT: &str = "SkillSandbox 2026-11-27 audit log of one run";

/// Why no more frames can be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The file ends within a frame.
    #[error("it ends within frame {number}")]
    Cut {
        /// The frame.
        number: u64,
    },
    /// What is there is no frame, or not the next one.
    #[error("frame {number} is not there: {why}")]
    Foreign {
        /// The frame that should come.
        number: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The frame, or one before it, is not what was written.
    #[error("frame {number} is not what was written: its hash is another")]
    Changed {
        /// The frame.
        number: u64,
    },
    /// The system did not give the bytes.
    #[error("frame {number} cannot be read: {source}")]
    Unreadable {
        /// The frame.
        number: u64,
        /// Why.
        source: io::Error,
    },
}

/// Where a log has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    next: u64,
    last: Hash,
}

impl Chain {
    /// The beginning of the log of this run.
    pub(super) fn of(run: &str) -> Self {
        Self {
            next: 0,
            last: blake3::derive_key(CONTEXT, run.as_bytes()),
        }
    }

    /// Frames so far.
    pub(super) fn frames(&self) -> u64 {
        self.next
    }

    /// The hash of everything so far.
    pub(super) fn root(&self) -> Hash {
        self.last
    }

    /// Makes the next frame in this room, which grows where it is too small.
    pub(super) fn seal<'o>(
        &mut self,
        payload: &[u8],
        room: &'o mut Vec<u8>,
    ) -> io::Result<&'o [u8]> {
        if payload.len() > PAYLOAD_MAX {
            return Err(io::Error::other("a batch is longer than a frame may be"));
        }
        let most = HEAD_LEN + get_maximum_output_size(payload.len()) + HASH_LEN;
        if room.len() < most {
            room.resize(most, 0);
        }
        let (head, rest) = room.split_at_mut(HEAD_LEN);
        let stored = compress_into(payload, rest).map_err(io::Error::other)?;
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let fields: [&[u8]; 4] = [
            &MAGIC,
            &length(stored),
            &length(payload.len()),
            &self.next.to_le_bytes(),
        ];
        head.copy_from_slice(&fields.concat());
        let (frame, rest) = room.split_at_mut(HEAD_LEN + stored);
        let hash = self.bind(frame);
        let (place, _) = rest.split_at_mut(HASH_LEN);
        place.copy_from_slice(&hash);
        self.next += 1;
        self.last = hash;
        Ok(room.split_at(HEAD_LEN + stored + HASH_LEN).0)
    }

    fn bind(&self, frame: &[u8]) -> Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.last).update(frame);
        *hasher.finalize().as_bytes()
    }
}

/// Reads a log's frames, one after the other.
#[derive(Debug)]
pub(super) struct Frames<R> {
    from: R,
    chain: Chain,
    /// Bytes of whole frames so far.
    length: u64,
    frame: Vec<u8>,
    payload: Vec<u8>,
}

impl<R: Read> Frames<R> {
    /// Of the log of this run.
    pub(super) fn new(from: R, run: &str) -> Self {
        Self {
            from,
            chain: Chain::of(run),
            length: 0,
            frame: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// Bytes of the frames that were read.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Where it has come to.
    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The next frame's payload; `None` at the end. After an error nothing more can be read.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let number = self.chain.next;
        let foreign = |why| FrameError::Foreign { number, why };
        self.frame.clear();
        match self.read(HEAD_LEN)? {
            0 => return Ok(None),
            HEAD_LEN => {}
            _ => return Err(FrameError::Cut { number }),
        }
        let field = |at: usize| {
            let bytes = self
                .frame
                .get(at..at + 4)
                .and_then(|four| four.try_into().ok());
            u32::from_le_bytes(bytes.unwrap_or_default()) as usize
        };
        let (stored, length) = (field(4), field(8));
        if !self.frame.starts_with(&MAGIC) {
            return Err(foreign("its first bytes are not those of a frame"));
        }
        if self.frame.get(12..) != Some(&number.to_le_bytes()) {
            return Err(foreign("it has the number of another"));
        }
        if length > PAYLOAD_MAX || stored > get_maximum_output_size(length) {
            return Err(foreign("it is longer than a frame may be"));
        }
        if self.read(stored + HASH_LEN)? != stored + HASH_LEN {
            return Err(FrameError::Cut { number });
        }
        let (frame, hash) = self.frame.split_at(HEAD_LEN + stored);
        if self.chain.bind(frame) != hash {
            return Err(FrameError::Changed { number });
        }
        self.payload.clear();
        self.payload.resize(length, 0);
        let block = frame.get(HEAD_LEN..).unwrap_or_default();
        match decompress_into(block, &mut self.payload) {
            Ok(written) if written == length => {}
            _ => return Err(foreign("it does not decompress")),
        }
        self.chain.last.copy_from_slice(hash);
        self.chain.next += 1;
        self.length += self.frame.len() as u64;
        Ok(Some(&self.payload))
    }

    /// Appends so many bytes to the frame, or as many as are left.
    fn read(&mut self, bytes: usize) -> Result<usize, FrameError> {
        let limited = &mut (&mut self.from).take(bytes as u64);
        let read = limited.read_to_end(&mut self.frame);
        read.map_err(|source| FrameError::Unreadable {
            number: self.chain.next,
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log(payloads: &[Vec<u8>]) -> Vec<u8> {
        let (mut chain, mut room, mut log) = (Chain::of("run"), Vec::new(), Vec::new());
        for payload in payloads {
            log.extend_from_slice(chain.seal(payload, &mut room).unwrap());
        }
        log
    }

    /// What can be read, and what stopped it.
    fn read(log: &[u8], run: &str) -> (Vec<Vec<u8>>, Option<FrameError>) {
        let mut frames = Frames::new(log, run);
        let mut payloads = Vec::new();
        loop {
            match frames.next() {
                Ok(Some(payload)) => payloads.push(payload.to_vec()),
                Ok(None) => return (payloads, None),
                Err(error) => return (payloads, Some(error)),
            }
        }
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_by_its_own_run_alone(payloads in payloads()) {
            let log = log(&payloads);
            let (back, error) = read(&log, "run");
            prop_assert!(error.is_none());
            prop_assert_eq!(back, payloads);
            let others = matches!(read(&log, "other").1, Some(FrameError::Changed { number: 0 }));
            prop_assert!(others);
        }

        #[test]
        fn no_changed_bit_is_read_and_what_is_before_it_is(
            payloads in payloads(), at in any::<prop::sample::Index>(), bit in 0..8u8
        ) {
            let mut log = log(&payloads);
            let at = at.index(log.len());
            log[at] ^= 1 << bit;
            let (back, error) = read(&log, "run");
            prop_assert!(error.is_some());
            prop_assert_eq!(&payloads[..back.len()], &back[..]);
        }

        #[test]
        fn a_log_that_was_cut_ends_with_its_last_whole_frame(
            payloads in payloads(), at in any::<prop::sample::Index>()
        ) {
            let log = log(&payloads);
            let (back, error) = read(&log[..at.index(log.len())], "run");
            prop_assert_eq!(&payloads[..back.len()], &back[..]);
            prop_assert!(back.len() < payloads.len());
            let cut = matches!(error, None | Some(FrameError::Cut { .. }));
            prop_assert!(cut);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut log = log(&[vec![7; 9]]);
            log.extend(bytes);
            prop_assert_eq!(read(&log, "run").0.len(), 1);
        }
    }
}
