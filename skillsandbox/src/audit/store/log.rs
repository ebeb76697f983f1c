//! Writes the log of one run.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufReader, Seek, SeekFrom, Write},
    sync::Arc,
};

use serde_json::Value;

use super::{
    About, FrameError, Replay, ReplayError, Stored,
    entry::Entry,
    folder::Writer,
    frame::{Chain, PAYLOAD_MAX},
    ledger::What,
    sync::{DISK, Synced},
};
use crate::audit::{
    clock::Time,
    collect::Resumed,
    counts::Summary,
    field, json,
    record::{Note, Record, What as Recorded},
    sink::{Seen, Sink},
};

/// A batch this long is more than one frame.
const FRAME_BYTES: usize = PAYLOAD_MAX / 4;

/// The log of one run, and a sink of its records.
pub struct Log {
    store: Writer,
    run: String,
    file: Arc<File>,
    /// Bytes of whole frames.
    length: u64,
    chain: Chain,
    payload: Vec<u8>,
    /// For a frame.
    room: Vec<u8>,
    denied: bool,
    sync: Synced,
}

impl Log {
    /// Begins the log of a run.
    pub fn begin(store: Writer, about: &About, started: Time) -> io::Result<Self> {
        Self::synced(store, about, started, |file| {
            DISK.add(file, File::sync_data)
        })
    }

    /// Goes on with the log of a run whose recorder ended before the run did, and says what that had come to. What was
    /// not written to its end goes.
    pub fn resume(store: Writer, run: &str) -> Result<(Self, About, Resumed), ResumeError> {
        let file = store.reopen(run)?.ok_or(ResumeError::Nothing)?;
        let mut replay = match Replay::open(BufReader::new(&file), run) {
            // Its writer was killed before it had written anything: there is nothing to go on with.
            Err(ReplayError::Empty | ReplayError::Frame(FrameError::Cut { number: 0 })) => {
                store.state_now(run, What::Removed)?;
                store.remove(run)?;
                return Err(ResumeError::Nothing);
            }
            opened => opened?,
        };
        let mut resumed = Resumed::default();
        let read = replay.each(|stored| {
            if let Stored::Note(line) = stored {
                add_lost(&mut resumed, line);
            }
            Ok(())
        });
        match read {
            Ok(()) | Err(ReplayError::Frame(FrameError::Cut { .. })) => {}
            Err(error) => return Err(error.into()),
        }
        let length = replay.length();
        let about = replay.about().clone();
        let chain;
        (resumed.known, chain) = replay.into_known();
        file.set_len(length)?;
        (&file).seek(SeekFrom::Start(length))?;
        let file = Arc::new(file);
        let sync = DISK.add(Arc::clone(&file), File::sync_data)?;
        let log = Self::at(store, run, file, (length, chain), sync);
        Ok((log, about, resumed))
    }

    /// The same, with `sync` to have the disk have what was written.
    fn synced(
        store: Writer,
        about: &About,
        started: Time,
        sync: impl FnOnce(Arc<File>) -> io::Result<Synced>,
    ) -> io::Result<Self> {
        let file = Arc::new(store.begin(&about.run, started.to_string())?);
        let sync = sync(Arc::clone(&file))?;
        let chain = Chain::of(&about.run);
        let mut log = Self::at(store, &about.run, file, (0, chain), sync);
        Entry::About(&serde_json::to_vec(about)?).write(&mut log.payload);
        log.write()?;
        Ok(log)
    }

    /// A log that has come to a length.
    fn at(
        store: Writer,
        run: &str,
        file: Arc<File>,
        (length, chain): (u64, Chain),
        sync: Synced,
    ) -> Self {
        Self {
            store,
            run: run.to_owned(),
            file,
            length,
            chain,
            payload: Vec::new(),
            room: Vec::new(),
            denied: false,
            sync,
        }
    }

    /// Writes what there is as one frame.
    fn write(&mut self) -> io::Result<()> {
        if self.payload.is_empty() {
            return Ok(());
        }
        let frame = self.chain.seal(&self.payload, &mut self.room)?;
        self.payload.clear();
        if let Err(error) = (&*self.file).write_all(frame) {
            // No half of a frame stays, where that can be helped: the log ends with a whole one.
            let _left = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += frame.len() as u64;
        self.sync.written(std::mem::take(&mut self.denied))
    }

    fn added(&mut self) -> io::Result<()> {
        if self.payload.len() > FRAME_BYTES {
            return self.write();
        }
        Ok(())
    }
}

impl Sink for Log {
    fn event(&mut self, event: &Seen<'_>) -> io::Result<()> {
        self.denied |= event.said.is_denial();
        let (bytes, said) = (event.bytes, Cow::Borrowed(event.said));
        Entry::Event { bytes, said }.write(&mut self.payload);
        self.added()
    }

    fn record(&mut self, record: &Record<'_>) -> io::Result<()> {
        if let Recorded::Note(Note::Dns(dns)) = &record.what {
            self.denied |= dns.is_denial();
        }
        let mut line = Vec::new();
        json::write(&mut line, record)?;
        Entry::Note(&line).write(&mut self.payload);
        self.added()
    }

    fn end_batch(&mut self) -> io::Result<()> {
        self.write()
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        self.write()?;
        self.sync.settle()?;
        self.file.sync_data()?;
        let end = What::end(&self.chain, summary.accounting.balanced);
        self.store
            .state(&self.run, summary.completed.to_string(), end)
    }
}

/// Why nobody can go on with a log.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// It never began, has nothing, or has ended.
    #[error("there is nothing to go on with")]
    Nothing,
    /// The system refused.
    #[error(transparent)]
    System(#[from] io::Error),
    /// It is not as it was written.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// Adds what a line of JSON says was lost, if it does.
fn add_lost(resumed: &mut Resumed, line: &[u8]) {
    let Ok(note) = serde_json::from_slice::<Value>(line) else {
        return;
    };
    let number = |pointer: &str| field::number(&note, pointer).unwrap_or_default();
    let is_lost = field::text(&note, "/kind") == Some("lost");
    if is_lost || resumed.looked == 0 {
        resumed.looked = number("/boot_ns");
    }
    if !is_lost {
        return;
    }
    let (dropped, undecodable, skipped) = &mut resumed.told;
    dropped.allowed += number("/dropped/allowed");
    dropped.denied += number("/dropped/denied");
    dropped.processes += number("/dropped/processes");
    *undecodable += number("/undecodable");
    *skipped += number("/skipped");
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use skillsandbox_common::header::{Kind, Reason};

    use super::*;
    use crate::audit::{
        clock::Clock,
        collect::Collector,
        describe::Knowledge,
        store::sync::Disk,
        testing::{self, Scratch},
    };

    const NEVER: Duration = Duration::from_hours(24);
    const PATIENCE: Duration = Duration::from_mins(1);

    #[test]
    fn a_denial_is_on_the_disk_before_its_time_comes_and_another_record_waits() {
        let scratch = Scratch::new("synced");
        let about = About {
            booted_unix_ns: 0,
            ..testing::about("run")
        };
        let clock = Clock::with_offset(0);
        let (synced, told) = mpsc::channel();
        let sync = move |file: &File| {
            synced
                .send(file.metadata()?.len())
                .map_err(io::Error::other)
        };
        let writer = Writer::open(&scratch.path("audit")).unwrap();
        let disk = Box::leak(Box::new(Disk::new(NEVER)));
        let log = Log::synced(writer, &about, clock.time(0), |file| disk.add(file, sync)).unwrap();
        let mut collector = Collector::new(Knowledge {
            sandbox: about.sandbox.clone(),
            clock,
            rules: &[],
            names: None,
            judge: None,
        });
        collector.add("store", Box::new(log));
        let mut open = |prefix| {
            let body = testing::path_body(1);
            let event = testing::path(prefix, Kind::Open, body, "/etc/shadow");
            collector.push(&event).unwrap();
            collector.end_batch().unwrap();
        };
        open(testing::prefix(1));
        open(testing::denied(2, Reason::NoRule));
        // Nothing asked for it before: both records are in the file by then.
        let length = told
            .recv_timeout(PATIENCE)
            .expect("the denial waits for nothing");
        let log = scratch.path("audit").join("runs/run.log");
        assert_eq!(length, std::fs::metadata(log).unwrap().len());
        assert!(told.try_recv().is_err(), "once");
    }
}
