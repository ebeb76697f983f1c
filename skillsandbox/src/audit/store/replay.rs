//! Makes records of a log: the same that were written out while it ran.

use std::io::{self, Read};

use skillsandbox_common::header::Reason;

use super::{
    About, EntryError, FORMAT, FrameError,
    entry::{Entry, Said, entries},
    frame::{Chain, Frames},
};
use crate::audit::{
    code::Code,
    collect::learn,
    decode::{DecodeError, decode},
    describe::Knowledge,
    process::Processes,
    record::{Event, Record, What},
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
}

impl<R: Read> Replay<R> {
    /// Reads what the log of this run says of the run.
    pub fn open(from: R, run: &str) -> Result<Self, ReplayError> {
        let mut frames = Frames::new(from, run);
        let first = frames.next()?.ok_or(ReplayError::NoAbout)?.to_vec();
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
        let mut processes = Processes::default();
        let mut payload = std::mem::take(&mut self.first);
        loop {
            for entry in entries(&payload) {
                match entry? {
                    Entry::About(_) => {}
                    Entry::Note(line) => take(Stored::Note(line))?,
                    Entry::Event { bytes, said } => {
                        let event = decode(bytes)?;
                        self.sequences.insert(event.prefix.actor.sequence);
                        let mut record = knowledge.describe(&event, &processes, &self.sequences);
                        say(&mut record, said, &knowledge);
                        take(Stored::Event(&record))?;
                        let allowed = record.is_allowed();
                        learn(&event, allowed, &mut processes, &self.sequences);
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

/// Has a record say what was said of it when it was made.
fn say<'r>(record: &mut Record<'r>, said: Said<'_>, knowledge: &Knowledge<'r>) {
    if let What::Event(Event::Connect(reach) | Event::Sendmsg(reach)) = &mut record.what {
        reach.name = said.host.map(Into::into);
    }
    if let Some(decided) = record.decision_mut() {
        decided.verdict = Code::verdict(said.verdict);
        decided.reason = Code::<Reason>::reason(said.reason);
        decided.rule = knowledge.rule(said.rule);
        decided.permit = said.permit.map(Into::into);
        decided.remedy = said.remedy.map(Into::into);
    }
}
