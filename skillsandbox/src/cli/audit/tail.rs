//! `skillsandbox audit tail`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::File,
    io::{self, Read, Write},
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{self, SyncSender},
    },
    thread,
    time::Duration,
};

use clap::Args;

use super::asked::Asked;
use crate::audit::{
    json,
    query::{Format, Output},
    store::{About, Replay, ReplayError, Store, Stored},
    text::Escaped,
};

/// Exit code when no record is what was asked for.
const NOTHING: u8 = 1;
/// How often it is looked whether there is more.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Lines that wait for a slow terminal.
const WAITING_MAX: usize = 10_000;

/// Show the last records that are asked for, and with `--follow` those that come, until it is interrupted.
///
/// The options are those of `audit query`.
/// Exit code 0 when there are such records, 1 when there are none, 123 when some could not be read.
#[derive(Args, Debug)]
pub(super) struct TailArguments {
    #[command(flatten)]
    asked: Asked,
    /// So many of those that are there.
    #[arg(long, short = 'n', value_name = "COUNT", default_value = "10")]
    lines: usize,
    /// Go on with those that come, of every run.
    #[arg(long, short, conflicts_with = "run")]
    follow: bool,
    /// How records are shown.
    #[arg(long, value_enum, default_value = "lines")]
    format: Format,
}

pub(super) fn run(folder: &Path, arguments: &TailArguments) -> anyhow::Result<ExitCode> {
    let store = Arc::new(Store::open(folder)?);
    // Where each log has come to, before it is read: what comes after is not missed.
    let mut followed = Followed::default();
    let (mut lengths, mut growing) = (BTreeMap::new(), Vec::new());
    for (run, log) in followed.new_ones(&store)? {
        let log = log?;
        if store.is_written(&log)? {
            let length = log.metadata()?.len();
            lengths.insert(run.clone(), length);
            growing.push((run, log, length));
        } else {
            // It is over, and has no more to come.
            lengths.insert(run, u64::MAX);
        }
    }
    let mut last: VecDeque<(String, Vec<u8>)> = VecDeque::new();
    let (from_logs, unread) = arguments
        .asked
        .each_within(&store, &lengths, |about, _, line| {
            last.push_back((about.run.clone(), line.to_vec()));
            if last.len() > arguments.lines {
                last.pop_front();
            }
            Ok(())
        })?;
    let mut output = Output::new(io::stdout(), arguments.format);
    for (run, line) in &last {
        output.record(run, &serde_json::from_slice(line)?, line)?;
    }
    let rows = output.rows();
    if !arguments.follow {
        output.finish()?;
        return Ok(match unread {
            Some(code) => ExitCode::from(code),
            None if rows == 0 => ExitCode::from(NOTHING),
            None => ExitCode::SUCCESS,
        });
    }
    let (send, lines) = mpsc::sync_channel(WAITING_MAX);
    for (run, log, length) in growing {
        // Another was taken whole, from its segment.
        if from_logs.contains(&run) {
            follow_aside(&store, run, log, length, &send);
        }
    }
    loop {
        while let Ok((about, line)) = lines.recv_timeout(LOOK_EVERY) {
            let record = serde_json::from_slice(&line)?;
            if arguments.asked.is(&about, &record) {
                output.record(&about.run, &record, &line)?;
                io::stdout().flush()?;
            }
        }
        for (run, log) in followed.new_ones(&store)? {
            follow_aside(&store, run, log?, 0, &send);
        }
    }
}

/// A record of a run, as it was written out.
type Line = (Arc<About>, Vec<u8>);

/// The logs that are followed.
#[derive(Default)]
struct Followed(BTreeSet<String>);

impl Followed {
    /// Logs that are new, each opened when it is its turn. What is open is read to its end, also when it is sealed meanwhile.
    fn new_ones<'f>(
        &'f mut self,
        store: &'f Store,
    ) -> anyhow::Result<impl Iterator<Item = (String, io::Result<File>)> + 'f> {
        let runs = store.runs()?.0.into_iter();
        Ok(runs.filter_map(|run| {
            if self.0.contains(&run) {
                return None;
            }
            // One that was sealed meanwhile is over.
            let log = store.log(&run).ok()?;
            // One that is only just made is looked at again.
            match log.metadata() {
                Ok(status) if status.len() == 0 => None,
                status => {
                    self.0.insert(run.clone());
                    Some((run, status.map(|_| log)))
                }
            }
        }))
    }
}

/// Sends every record that comes after so many bytes of a log, until the log is over.
fn follow_aside(store: &Arc<Store>, run: String, log: File, after: u64, send: &SyncSender<Line>) {
    let (store, send) = (Arc::clone(store), send.clone());
    thread::spawn(move || {
        if let Err(error) = follow(&store, &run, log, after, &send) {
            tracing::error!("runs/{}.log {error}", Escaped(run.as_bytes()));
        }
    });
}

fn follow(
    store: &Store,
    run: &str,
    file: File,
    after: u64,
    send: &SyncSender<Line>,
) -> Result<(), ReplayError> {
    let at = Arc::new(AtomicU64::new(0));
    let growing = Growing {
        lock: file.try_clone()?,
        file,
        store,
        at: Arc::clone(&at),
    };
    let mut replay = Replay::open(growing, run)?;
    let about = Arc::new(replay.about().clone());
    replay.each(|stored| {
        // A frame is read to its end, and no further, before its records are handed out.
        if at.load(Relaxed) <= after {
            return Ok(());
        }
        let mut line = Vec::new();
        match stored {
            Stored::Event(record) => json::write(&mut line, record)?,
            Stored::Note(note) => line.extend_from_slice(note),
        }
        send.send((Arc::clone(&about), line))
            .map_err(io::Error::other)
    })
}

/// A log that ends when nobody writes it any more.
struct Growing<'s> {
    file: File,
    lock: File,
    store: &'s Store,
    /// Bytes that were read.
    at: Arc<AtomicU64>,
}

impl Read for Growing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // First who writes it: what was written before is read after.
            let is_written = self
                .store
                .is_written(&self.lock)
                .map_err(io::Error::other)?;
            let read = self.file.read(buffer)?;
            if read > 0 || !is_written {
                self.at.fetch_add(read as u64, Relaxed);
                return Ok(read);
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}
