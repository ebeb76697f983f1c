//! Counts what is in a segment without making records of its rows: texts are counted by their number in the
//! dictionary of a group, and looked at once a group.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    Array, ArrayRef, DictionaryArray, RecordBatch, StringArray, TimestampNanosecondArray,
    UInt16Array, cast::AsArray, types::Int32Type,
};

use serde_json::Value;

use super::{RunPart, Segment, SegmentError, columns::Row};
use crate::audit::{
    clock::Time,
    json,
    query::{Count, Filter, List, REPEAT, Stats, host},
};

/// Rows that are read at once.
const BATCH: usize = 64 * 1024;
const MINUTE: i64 = 60_000_000_000;

impl Segment {
    /// Counts the records that are asked for, of the runs that are wanted. `false` if columns alone cannot
    /// decide which these are: then nothing is counted.
    pub fn tally(
        &self,
        filter: &Filter,
        wanted: &dyn Fn(&RunPart) -> bool,
        stats: &mut Stats,
    ) -> Result<bool, SegmentError> {
        if !filter.addresses.is_empty() {
            return Ok(false);
        }
        let mut columns = vec!["kind", "verdict", "note"];
        for (list, names) in [
            (List::Minutes, &["time"] as &[&str]),
            (List::Paths, &["path"]),
            (List::Programs, &["executable", "comm"]),
            (List::Hosts, &["name", "address", "port"]),
        ] {
            if stats.wants(list) {
                columns.extend(names);
            }
        }
        // A denial can be of anything.
        let columns = (!stats.wants(List::Denials)).then_some(columns);
        let Some(search) = self.search(filter, wanted, usize::MAX)? else {
            return Ok(true);
        };
        for piece in 0..search.pieces() {
            let mut counters = Counters::default();
            for batch in search.batches(piece, columns.as_deref(), BATCH)? {
                counters.add(&batch?, filter, stats)?;
            }
            counters.flush(stats);
        }
        Ok(true)
    }
}

/// What is counted until the texts are others.
#[derive(Default)]
struct Counters {
    kinds: Counter,
    paths: Counter,
    executables: Counter,
    comms: Counter,
    minute: Option<(i64, Count)>,
}

impl Counters {
    fn add(
        &mut self,
        batch: &RecordBatch,
        filter: &Filter,
        stats: &mut Stats,
    ) -> Result<(), SegmentError> {
        // A row of these is as many records as it says.
        let kinds = batch.column_by_name("kind");
        let kinds = kinds.and_then(|column| column.as_dictionary_opt::<Int32Type>());
        let repeat = kinds.and_then(|kinds| code_of(kinds, REPEAT));
        let mut start = 0;
        if let (Some(kinds), Some(repeat)) = (kinds, repeat) {
            for (row, key) in kinds.keys().iter().enumerate() {
                if key == Some(repeat) {
                    self.add_like(&batch.slice(start, row - start), stats)?;
                    let one = record(batch, row)?;
                    if filter.matches(&one) {
                        stats.add(&one);
                    }
                    start = row + 1;
                }
            }
        }
        self.add_like(&batch.slice(start, batch.num_rows() - start), stats)
    }

    /// Adds rows that are a record each.
    fn add_like(&mut self, batch: &RecordBatch, stats: &mut Stats) -> Result<(), SegmentError> {
        let texts = |name: &str| {
            batch
                .column_by_name(name)
                .and_then(|column| column.as_dictionary_opt::<Int32Type>())
        };
        let (Some(kinds), Some(verdicts)) = (texts("kind"), texts("verdict")) else {
            return Err(SegmentError::Row(0));
        };
        let deny = code_of(verdicts, "deny");
        let keys = verdicts.keys();
        let denied: Vec<bool> = match deny {
            None => vec![false; keys.len()],
            Some(deny) => keys.iter().map(|key| key == Some(deny)).collect(),
        };
        self.kinds.add(
            kinds,
            &denied,
            |_| true,
            |kind, count| {
                stats.kind(kind, count);
            },
        );
        if let Some(paths) = texts("path") {
            self.paths.add(
                paths,
                &denied,
                |_| true,
                |path, count| {
                    stats.path(path, count);
                },
            );
        }
        if let (Some(executables), Some(comms)) = (texts("executable"), texts("comm")) {
            // A fork has nobody who decided on it.
            let decided = |at: usize| verdicts.is_valid(at);
            let mut add = |program: &str, count| stats.program(program, count);
            self.executables
                .add(executables, &denied, decided, &mut add);
            let unknown = |at: usize| decided(at) && executables.is_null(at);
            self.comms.add(comms, &denied, unknown, &mut add);
        }
        if stats.wants(List::Minutes) {
            self.minutes(batch, &denied, stats);
        }
        if stats.wants(List::Hosts) {
            hosts(batch, &denied, stats);
        }
        if stats.wants(List::Denials) {
            denials(batch, &denied, stats)?;
        }
        Ok(())
    }

    /// Times are nearly in order: a minute is said when another begins.
    fn minutes(&mut self, batch: &RecordBatch, denied: &[bool], stats: &mut Stats) {
        let times = batch.column_by_name("time");
        let times =
            times.and_then(|times| times.as_any().downcast_ref::<TimestampNanosecondArray>());
        for (time, denied) in times.into_iter().flatten().zip(denied) {
            let count = Count::one(*denied);
            let minute = time.unwrap_or_default().div_euclid(MINUTE);
            match &mut self.minute {
                Some((same, sum)) if *same == minute => *sum += count,
                _ => {
                    self.flush_minute(stats);
                    self.minute = Some((minute, count));
                }
            }
        }
    }

    fn flush_minute(&mut self, stats: &mut Stats) {
        if let Some((minute, count)) = self.minute.take() {
            let begins = u64::try_from(minute.saturating_mul(MINUTE)).unwrap_or_default();
            let text = Time::at(begins).to_string();
            stats.minute(text.get(..16).unwrap_or(&text).to_owned(), count);
        }
    }

    fn flush(&mut self, stats: &mut Stats) {
        self.kinds.flush(&mut |kind, count| stats.kind(kind, count));
        self.paths.flush(&mut |path, count| stats.path(path, count));
        for counter in [&mut self.executables, &mut self.comms] {
            counter.flush(&mut |program, count| stats.program(program, count));
        }
        self.flush_minute(stats);
    }
}

/// Counts the texts of one column.
#[derive(Default)]
struct Counter {
    texts: Option<ArrayRef>,
    counts: Vec<Count>,
}

impl Counter {
    /// Counts the rows that are `wanted`, and says what was counted if the texts are others now.
    fn add(
        &mut self,
        column: &DictionaryArray<Int32Type>,
        denied: &[bool],
        wanted: impl Fn(usize) -> bool,
        mut said: impl FnMut(&str, Count),
    ) {
        let texts = column.values();
        if !self
            .texts
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, texts))
        {
            self.flush(&mut said);
            self.counts.clear();
            self.counts.resize(texts.len(), Count::default());
            self.texts = Some(Arc::clone(texts));
        }
        let nulls = column.nulls();
        for (at, (key, denied)) in column.keys().values().iter().zip(denied).enumerate() {
            let place = usize::try_from(*key).ok();
            if nulls.is_none_or(|nulls| nulls.is_valid(at))
                && wanted(at)
                && let Some(place) = place.and_then(|place| self.counts.get_mut(place))
            {
                *place += Count::one(*denied);
            }
        }
    }

    fn flush(&mut self, said: &mut impl FnMut(&str, Count)) {
        let Some(texts) = self.texts.take() else {
            return;
        };
        let texts = texts.as_any().downcast_ref::<StringArray>();
        for (text, count) in texts.into_iter().flatten().zip(&self.counts) {
            if let Some(text) = text.filter(|_| count.all > 0) {
                said(text, *count);
            }
        }
    }
}

/// The number of a text in a column's dictionary.
fn code_of(column: &DictionaryArray<Int32Type>, text: &str) -> Option<i32> {
    let texts = column.values().as_any().downcast_ref::<StringArray>()?;
    let at = texts.iter().position(|known| known == Some(text))?;
    at.try_into().ok()
}

/// A text of a row.
fn text<'b>(batch: &'b RecordBatch, name: &str, row: usize) -> Option<&'b str> {
    let column = batch
        .column_by_name(name)?
        .as_dictionary_opt::<Int32Type>()?;
    let texts = column.values().as_any().downcast_ref::<StringArray>()?;
    let key = column.key(row).filter(|key| *key < texts.len())?;
    Some(texts.value(key))
}

/// Numbers of a row's texts, and its port: rows with the same are about the same.
type Same = ([Option<usize>; 6], Option<u16>);

fn same(batch: &RecordBatch, names: &[&str], row: usize) -> Same {
    let mut codes = [None; 6];
    for (code, name) in codes.iter_mut().zip(names) {
        let column = batch.column_by_name(name);
        let column = column.and_then(|column| column.as_dictionary_opt::<Int32Type>());
        *code = column.and_then(|column| column.key(row));
    }
    let ports = batch.column_by_name("port");
    let ports = ports.and_then(|ports| ports.as_any().downcast_ref::<UInt16Array>());
    let port = ports
        .filter(|ports| ports.is_valid(row))
        .map(|ports| ports.value(row));
    (codes, port)
}

fn hosts(batch: &RecordBatch, denied: &[bool], stats: &mut Stats) {
    let has = |name: &str, row: usize| {
        batch
            .column_by_name(name)
            .is_some_and(|column| column.is_valid(row))
    };
    let mut groups: HashMap<Same, (usize, Count)> = HashMap::new();
    for (row, denied) in denied.iter().enumerate() {
        if has("name", row) || has("address", row) {
            let group = groups.entry(same(batch, &["kind", "name", "address"], row));
            group.or_insert((row, Count::default())).1 += Count::one(*denied);
        }
    }
    for ((_, port), (row, count)) in groups {
        let of = |name: &str| text(batch, name, row);
        let is_question = of("kind") == Some("dns");
        if let Some(host) = host(is_question, of("name"), of("address"), port.map(u64::from)) {
            stats.host(&host, count);
        }
    }
}

fn denials(batch: &RecordBatch, denied: &[bool], stats: &mut Stats) -> Result<(), SegmentError> {
    const NAMES: [&str; 6] = ["kind", "path", "address", "name", "executable", "comm"];
    let mut groups: HashMap<Same, (usize, Count)> = HashMap::new();
    let mut others = Vec::new();
    let one = Count::one(true);
    for row in (0..denied.len()).filter(|row| denied.get(*row) == Some(&true)) {
        let key = same(batch, &NAMES, row);
        let ([_, path, address, ..], port) = key;
        // What else there is to say of one is in other columns.
        if path.is_some() || address.is_some() && port.is_some() {
            groups.entry(key).or_insert((row, Count::default())).1 += one;
        } else {
            others.push((row, one));
        }
    }
    for (row, count) in groups.into_values().chain(others) {
        stats.denial(&record(batch, row)?, count);
    }
    Ok(())
}

/// The record of a row.
fn record(batch: &RecordBatch, row: usize) -> Result<Value, SegmentError> {
    let mut line = Vec::new();
    let row_of_it = Row::get(batch, row);
    row_of_it.line(&mut line).ok_or(SegmentError::Row(row))?;
    Ok(serde_json::from_slice(&line).map_err(std::io::Error::other)?)
}

impl Row<'_> {
    /// Columns that [`line`](Self::line) does not ask for: what a run has, and what follows from another.
    pub(super) const NOT_IN_LINE: [&'static str; 6] = [
        "skill_name",
        "skill_version",
        "host",
        "tier",
        "error",
        "signal_name",
    ];

    /// Appends the record as it was written out.
    pub(super) fn line(&self, out: &mut Vec<u8>) -> Option<()> {
        match &self.note {
            Some(note) => out.extend_from_slice(note.as_bytes()),
            None => json::write(out, &self.record()?).ok()?,
        }
        Some(())
    }
}
