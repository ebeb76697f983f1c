//! Whether a store is as it was written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufReader, Read},
};

use serde_json::Value;

use crate::audit::field;

use super::{
    About, FrameError, Replay, ReplayError, Store, StoreError, Stored,
    hex::Hex,
    key::PublicKey,
    ledger::{self, Statement, What},
    seal::Stated,
};

/// Something that cannot be proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The file, from the store's folder on.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Logs that are there, or should be.
    pub runs: usize,
    /// Of these, those that are still written.
    pub running: usize,
    /// Those whose recorder was killed, as the ledger says: what came after that moment is on no record.
    pub killed: usize,
    /// Those whose logs were taken away on purpose.
    pub removed: usize,
    /// Those whose records are in segments.
    pub sealed: usize,
    /// Segments that are as they were written.
    pub segments: u64,
    /// Frames that are as they were written.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// Events that were lost when they were recorded, as the logs themselves say.
    pub lost: u64,
    /// Everything that is not as it should be.
    pub troubles: Vec<Trouble>,
}

/// Reads the whole store. With `key`, a line of hexadecimal, that is the key which must have signed
/// it, and not the one that lies in the store.
pub fn verify(store: &Store, key: Option<&str>) -> Result<Report, StoreError> {
    let key = match key {
        None => store.key()?,
        Some(line) => PublicKey::parse(line).ok_or_else(|| StoreError::System {
            path: store.path().to_owned(),
            what: "use the key given",
            source: io::Error::other("it is not 64 hexadecimal digits of a key"),
        })?,
    };
    // First who is still written: who ends has said so in the ledger before.
    let (present, foreign) = store.runs()?;
    let mut running = BTreeSet::new();
    for run in &present {
        // One that is gone by now is said to be by the ledger.
        if let Ok(log) = store.log(run)
            && store.is_written(&log)?
        {
            running.insert(run.as_str());
        }
    }
    let (statements, wrong) = ledger::read(&store.ledger()?, &key);
    let mut report = Report::default();
    for (line, what) in wrong {
        report.trouble("ledger".to_owned(), format!("line {line} {what}"));
    }
    for name in foreign {
        report.trouble(format!("runs/{name}"), "is not a log".to_owned());
    }
    segments(store, &statements, &mut report)?;
    let in_segments = Stated::of(&statements).sealed;
    let stated = stated(&statements, &mut report);
    let runs: BTreeSet<&str> = present
        .iter()
        .map(String::as_str)
        .chain(stated.keys().copied())
        .collect();
    report.runs = runs.len();
    for run in runs {
        let file = format!("runs/{run}.log");
        // A log that is still there was not taken away yet: the segments are what counts.
        if in_segments.contains_key(run) {
            report.sealed += 1;
            continue;
        }
        if stated.get(run) == Some(&Some(&What::Removed)) {
            report.removed += 1;
            if store.log(run).is_ok() {
                report.trouble(
                    file,
                    "is there, and the ledger says that it was taken away".to_owned(),
                );
            }
            continue;
        }
        if present
            .binary_search_by(|there| there.as_str().cmp(run))
            .is_err()
        {
            // Its log may have been made after we looked.
            if store.log(run).is_err() {
                report.trouble(file, "is gone: the ledger says that it began".to_owned());
            }
            continue;
        }
        let running = running.contains(run);
        // Its line is written after its log is made, and before anything is in that.
        if !running && !stated.contains_key(run) {
            let is_new = |log: File| log.metadata().is_ok_and(|log| log.len() == 0);
            if store.log(run).is_ok_and(is_new) {
                continue;
            }
            report.trouble(file.clone(), "is not in the ledger".to_owned());
        }
        let end = stated.get(run).copied().flatten();
        let running = running || end.is_none() && store.may_go_on(run)?;
        if let Err(error) = one(store, run, end, running, &mut report, |_, _| Ok(())) {
            report.trouble(file, error.to_string());
        }
    }
    Ok(report)
}

impl Report {
    /// Looks for a line of the ledger that was taken off the host.
    pub fn checkpoint(&mut self, store: &Store, line: &[u8]) -> Result<(), StoreError> {
        let ledger = store.ledger()?;
        let mut lines = ledger.split(|byte| *byte == b'\n');
        let line = line.trim_ascii_end();
        if line.is_empty() || !lines.any(|there| there == line) {
            self.trouble(
                "ledger".to_owned(),
                "lacks the line of the checkpoint: its end was cut off, or it is another ledger"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn trouble(&mut self, file: String, what: String) {
        self.troubles.push(Trouble { file, what });
    }
}

/// Looks at every segment, and whether each run has all its records there.
fn segments(
    store: &Store,
    statements: &[Statement],
    report: &mut Report,
) -> Result<(), StoreError> {
    let stated = Stated::of(statements);
    // Before the ledger says so, and after they are gone, there are others.
    if !store.is_sealed_now()? {
        for file in store
            .segment_files()
            .map_err(store.cannot("list the segments"))?
        {
            if !stated.segments.contains_key(file.as_str()) {
                report.trouble(
                    format!("segments/{file}"),
                    "is not in the ledger".to_owned(),
                );
            }
        }
    }
    let mut rows: BTreeMap<String, u64> = BTreeMap::new();
    let mut all_there = stated.removed.is_empty();
    for (file, sealed) in &stated.segments {
        let name = format!("segments/{file}");
        match store.segment_file(file) {
            Err(error) => {
                all_there = false;
                report.trouble(name, format!("is gone: {error}"));
                continue;
            }
            Ok(opened) => {
                let mut hasher = blake3::Hasher::new();
                io::copy(&mut BufReader::new(opened), &mut hasher)
                    .map_err(store.failed("read a segment"))?;
                if Hex(hasher.finalize().as_bytes()).to_string() != sealed.hash {
                    all_there = false;
                    report.trouble(
                        name,
                        "is not what was written: its hash is another".to_owned(),
                    );
                    continue;
                }
            }
        }
        let segment = match store.segment(file) {
            Ok(segment) => segment,
            Err(error) => {
                all_there = false;
                report.trouble(name, error.to_string());
                continue;
            }
        };
        report.segments += 1;
        report.records += sealed.rows;
        for part in segment.runs() {
            *rows.entry(part.about.run.clone()).or_default() += part.rows;
            report.lost += part.lost;
        }
    }
    for (run, stated) in &stated.sealed {
        let there = rows.get(*run).copied().unwrap_or_default();
        if all_there && there != *stated {
            report.trouble(
                "segments".to_owned(),
                format!("have {there} records of {run}, and the ledger says {stated}"),
            );
        }
    }
    Ok(())
}

/// The runs of the ledger, each with its end.
fn stated<'s>(
    statements: &'s [Statement],
    report: &mut Report,
) -> BTreeMap<&'s str, Option<&'s What>> {
    let mut runs = BTreeMap::new();
    for statement in statements {
        let run = statement.run.as_str();
        let fits = match &statement.what {
            // These are looked at by themselves.
            What::Sealed { .. }
            | What::Shipped { .. }
            | What::SegmentRemoved { .. }
            | What::Refused(_) => true,
            What::Begin => runs.insert(run, None).is_none(),
            end @ (What::End { .. } | What::Killed { .. }) => {
                report.killed += usize::from(matches!(end, What::Killed { .. }));
                runs.insert(run, Some(end)) == Some(None)
            }
            // Ended or not.
            removed @ What::Removed => runs
                .insert(run, Some(removed))
                .is_some_and(|before| before != Some(removed)),
        };
        if !fits {
            let what = format!(
                "says twice that {run} began, ended or was taken away, or not that it began"
            );
            report.trouble("ledger".to_owned(), what);
        }
    }
    runs
}

/// Looks at one log, and hands out its records: what is wrong with it may come to light after the last of them.
pub(super) fn one(
    store: &Store,
    run: &str,
    end: Option<&What>,
    running: bool,
    report: &mut Report,
    mut take: impl FnMut(&About, Stored<'_>) -> io::Result<()>,
) -> Result<(), StoreError> {
    let file = format!("runs/{run}.log");
    let log = store.log(run)?;
    // Not what is written meanwhile: it could be written faster than it is read.
    let length = log.metadata().map_err(store.failed("look at a log"))?.len();
    let mut replay = match Replay::open(BufReader::new(log.take(length)), run) {
        Ok(replay) => replay,
        // Not written yet, or not to its end.
        Err(
            ReplayError::Empty | ReplayError::NoAbout | ReplayError::Frame(FrameError::Cut { .. }),
        ) if running => {
            report.running += 1;
            return Ok(());
        }
        Err(error) => {
            report.trouble(file, error.to_string());
            return Ok(());
        }
    };
    let about = replay.about().clone();
    let (mut records, mut lost, mut balanced) = (0, 0, None);
    let read = replay.each(|stored| {
        records += 1;
        if let Stored::Note(line) = &stored {
            let note: Value = serde_json::from_slice(line)?;
            lost += field::lost(&note);
            if field::text(&note, "/kind") == Some("end") {
                balanced = note.pointer("/balanced").and_then(Value::as_bool);
            }
        }
        take(&about, stored)
    });
    report.frames += replay.chain().frames();
    report.records += records;
    report.lost += lost;
    let mut trouble = |what: String| report.trouble(file.clone(), what);
    match read {
        Err(ReplayError::Frame(FrameError::Cut { .. }))
            if running || matches!(end, Some(What::Killed { .. })) => {}
        Err(error) => {
            trouble(error.to_string());
            return Ok(());
        }
        Ok(()) => {}
    }
    let sequences = replay.sequences();
    if sequences.repeated() > 0 {
        trouble(format!("holds {} events twice", sequences.repeated()));
    }
    match end {
        // It goes on, or it has ended since we looked.
        _ if running => report.running += 1,
        Some(What::End {
            frames,
            root,
            balanced: stated,
        }) => {
            let chain = replay.chain();
            if (chain.frames(), Hex(&chain.root()).to_string()) != (*frames, root.clone()) {
                trouble(format!(
                    "is not what the ledger says: it has {} frames, and had {frames}",
                    chain.frames()
                ));
            } else if balanced != Some(*stated) {
                trouble("does not end as the ledger says".to_owned());
            } else if !stated {
                trouble(
                    "was not complete when it was written: its counts did not add up".to_owned(),
                );
            }
            let missing = sequences.highest() - sequences.received();
            if *stated && missing > lost {
                trouble(format!(
                    "lacks {missing} events, and says of {lost} that they were lost"
                ));
            }
        }
        Some(What::Killed { frames, root }) => {
            let chain = replay.chain();
            if (chain.frames(), Hex(&chain.root()).to_string()) != (*frames, root.clone()) {
                trouble(format!(
                    "is not what the ledger says: it has {} whole frames, and had {frames}",
                    chain.frames()
                ));
            }
        }
        _ => trouble(
            "has no end in the ledger: whoever wrote it was killed, or its end was taken away; \
             `audit seal` ends it where it is"
                .to_owned(),
        ),
    }
    Ok(())
}
