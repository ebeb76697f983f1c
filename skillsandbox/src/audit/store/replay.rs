//! Makes records of a log: the same that were written out while it ran.

use std::io::{self, BufReader, Read};

use super::{
    About, EntryError, FORMAT, FrameError, Store, StoreError,
    entry::{Entry, entries},
    frame::{Chain, Frames},
};
use crate::audit::{
    collect::learn,
    counts::Tally,
    decode::{DecodeError, decode},
    describe::Knowledge,
    process::Processes,
    record::{Record, Running},
    sequence::Sequences,
};

/// Why a log cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A frame is not as it was written.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// What is in it was written by another version.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// An event is none.
    #[error("it holds an event that cannot be read: {0}")]
    Event(#[from] DecodeError),
    /// Nothing was written to it.
    #[error("it does not say which run it is of: nothing was written to it")]
    Empty,
    /// It does not begin with what a log begins with.
    #[error("it does not say which run it is of, in a way that this version can read")]
    NoAbout,
    /// Whoever takes the records failed.
    #[error(transparent)]
    Taker(#[from] io::Error),
}

/// A record of the log.
#[derive(Debug)]
pub enum Stored<'a> {
    /// Of the kernel side's.
    Event(&'a Record<'a>),
    /// Of userspace's own: the line of JSON that it was.
    Note(&'a [u8]),
}

/// A log that is read.
#[derive(Debug)]
pub struct Replay<R> {
    about: About,
    frames: Frames<R>,
    /// What the first frame holds after that.
    first: Vec<u8>,
    sequences: Sequences,
    processes: Processes,
    tally: Tally,
}

/// What the writer of a log knew where it ends.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Numbers of the events.
    pub(crate) sequences: Sequences,
    /// What runs.
    pub(crate) processes: Processes,
    /// How many events there were.
    pub(crate) tally: Tally,
}

impl<R: Read> Replay<R> {
    /// Reads what the log of this run says of the run.
    pub fn open(from: R, run: &str) -> Result<Self, ReplayError> {
        let mut frames = Frames::new(from, run);
        let first = frames.next()?.ok_or(ReplayError::Empty)?.to_vec();
        let about = match entries(&first).next() {
            Some(Ok(Entry::About(json))) => serde_json::from_slice::<About>(json).ok(),
            _ => None,
        };
        let about = about.filter(|about| about.format == FORMAT && about.run == run);
        Ok(Self {
            about: about.ok_or(ReplayError::NoAbout)?,
            frames,
            first,
            sequences: Sequences::default(),
            processes: Processes::default(),
            tally: Tally::default(),
        })
    }

    /// What it says of the run.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Where it has come to.
    pub(super) fn chain(&self) -> &Chain {
        self.frames.chain()
    }

    /// Bytes of what was read.
    pub(super) fn length(&self) -> u64 {
        self.frames.length()
    }

    /// What is known where it has come to, and where that is.
    pub(super) fn into_known(self) -> (Known, Chain) {
        let Self {
            frames,
            sequences,
            processes,
            tally,
            ..
        } = self;
        let known = Known {
            sequences,
            processes,
            tally,
        };
        (known, frames.chain().clone())
    }

    /// The events' numbers so far.
    pub(super) fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    /// Hands out every record, in order. What comes before an error is as it was written.
    pub fn each(
        &mut self,
        mut take: impl FnMut(Stored<'_>) -> io::Result<()>,
    ) -> Result<(), ReplayError> {
        let knowledge = Knowledge {
            sandbox: self.about.sandbox.clone(),
            clock: self.about.clock(),
            rules: &self.about.rules,
            names: None,
            judge: None,
        };
        let processes = &mut self.processes;
        let mut payload = std::mem::take(&mut self.first);
        loop {
            for entry in entries(&payload) {
                match entry? {
                    Entry::About(_) => {}
                    Entry::Note(line) => {
                        if let Some(running) = Running::of_line(line) {
                            processes.were(&running);
                        }
                        take(Stored::Note(line))?;
                    }
                    Entry::Event { bytes, said } => {
                        let event = decode(bytes)?;
                        self.sequences.insert(event.prefix.actor.sequence);
                        self.tally.add(event.kind, said.verdict, 1);
                        let record = knowledge.describe(&event, &said, processes, &self.sequences);
                        take(Stored::Event(&record))?;
                        learn(&event, &said, processes, &self.sequences);
                    }
                }
            }
            match self.frames.next()? {
                Some(next) => {
                    payload.clear();
                    payload.extend_from_slice(next);
                }
                None => return Ok(()),
            }
        }
    }
}

impl Store {
    /// Whether a recorder may still go on with the run of this log, although none does.
    pub(super) fn may_go_on(&self, run: &str) -> Result<bool, StoreError> {
        let replay = Replay::open(BufReader::new(self.log(run)?), run);
        Ok(replay.is_ok_and(|log| log.about().may_go_on()))
    }
}
