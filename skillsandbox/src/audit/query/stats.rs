//! What happened most.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write},
};

use serde_json::Value;

use super::{REPEAT, show::object};
use crate::audit::field::{number, text};
use crate::audit::text::{Escaped, Quoted};

/// Different things of one kind that are counted: a skill may have named any number of files.
const DIFFERENT_MAX: usize = 1_000_000;
/// Minutes that are shown: those with most records, in the order of time.
const MINUTES_SHOWN: usize = 60;
/// Width of the longest bar.
const BAR: u64 = 40;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum List {
    /// What was denied, and to which program
    Denials,
    /// Programs that did something
    Programs,
    /// Hosts that were connected to or asked for
    Hosts,
    /// Files and unix sockets
    Paths,
    /// Records of each minute
    Minutes,
}

/// Counts of records.
#[derive(Debug, Default)]
pub struct Stats {
    /// What is not asked for is not counted; nothing given is everything.
    asked: Vec<List>,
    records: Count,
    kinds: BTreeMap<String, Count>,
    minutes: BTreeMap<String, Count>,
    denials: Most,
    paths: Most,
    hosts: Most,
    programs: Most,
}

/// How often, and how often of that it was denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Count {
    pub(crate) all: u64,
    pub(crate) denied: u64,
}

impl Count {
    pub(crate) fn one(denied: bool) -> Self {
        Self {
            all: 1,
            denied: denied.into(),
        }
    }

    fn times(self, times: u64) -> Self {
        Self {
            all: self.all.saturating_mul(times),
            denied: self.denied.saturating_mul(times),
        }
    }
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.all += other.all;
        self.denied += other.denied;
    }
}

/// How often each of many different things was.
#[derive(Debug, Default)]
struct Most {
    counts: HashMap<String, Count>,
    /// Of things that came when there were too many.
    others: Count,
}

impl Most {
    fn add(&mut self, thing: &str, count: Count) {
        if let Some(known) = self.counts.get_mut(thing) {
            *known += count;
        } else if self.counts.len() >= DIFFERENT_MAX {
            self.others += count;
        } else {
            self.counts.insert(thing.to_owned(), count);
        }
    }

    fn merge(&mut self, other: Self) {
        for (thing, count) in other.counts {
            self.add(&thing, count);
        }
        self.others += other.others;
    }

    /// Writes so many of them, each as `shown`.
    fn write(
        &self,
        out: &mut impl Write,
        title: &str,
        top: usize,
        shown: fn(&str) -> String,
    ) -> io::Result<()> {
        if self.counts.is_empty() {
            return Ok(());
        }
        let mut most: Vec<_> = self.counts.iter().collect();
        most.sort_by(|(one, first), (other, second)| (second.all, one).cmp(&(first.all, other)));
        writeln!(out, "\n{title}: {} different", most.len())?;
        for (thing, count) in most.iter().take(top) {
            writeln!(out, "{:>12}{} {}", count.all, denied(**count), shown(thing))?;
        }
        if self.others.all > 0 {
            writeln!(
                out,
                "{:>12} of still others, which are not told apart",
                self.others.all
            )?;
        }
        Ok(())
    }
}

fn denied(count: Count) -> String {
    match count.denied {
        0 => String::new(),
        denied => format!(" ({denied} denied)"),
    }
}

impl Stats {
    /// Counts these lists, or with none given all.
    #[must_use]
    pub fn of(asked: Vec<List>) -> Self {
        Self {
            asked,
            ..Self::default()
        }
    }

    /// Whether a list is asked for.
    pub(crate) fn wants(&self, list: List) -> bool {
        self.asked.is_empty() || self.asked.contains(&list)
    }

    /// Takes a record.
    pub fn add(&mut self, record: &Value) {
        let of = |pointer: &str| text(record, pointer);
        let Some(kind) = of("/kind") else { return };
        let mut count = Count::one(of("/verdict") == Some("deny"));
        let mut kind = kind;
        if let (REPEAT, Some(of), Some(times)) = (kind, of("/of"), number(record, "/count")) {
            kind = of;
            count = count.times(times);
        }
        self.kind(kind, count);
        // `2026-11-27T18:00`
        if let Some(minute) = of("/time").and_then(|time| time.get(..16)) {
            self.minute(minute.to_owned(), count);
        }
        if count.denied > 0 {
            self.denial(record, count);
        }
        if let Some(path) = of("/path") {
            self.path(path, count);
        }
        if let Some(host) = host(
            kind == "dns",
            of("/name"),
            of("/address"),
            number(record, "/port"),
        ) {
            self.host(&host, count);
        }
        let program = of("/executable").or(of("/comm"));
        if let Some(program) = program.filter(|_| of("/verdict").is_some()) {
            self.program(program, count);
        }
    }

    pub(crate) fn kind(&mut self, kind: &str, count: Count) {
        self.records += count;
        match self.kinds.get_mut(kind) {
            Some(all) => *all += count,
            None => {
                self.kinds.insert(kind.to_owned(), count);
            }
        }
    }

    /// Records of a minute, as RFC 3339 begins.
    pub(crate) fn minute(&mut self, minute: String, count: Count) {
        if self.wants(List::Minutes) {
            *self.minutes.entry(minute).or_default() += count;
        }
    }

    /// Denials like this one.
    pub(crate) fn denial(&mut self, record: &Value, count: Count) {
        if !self.wants(List::Denials) {
            return;
        }
        let of = |pointer: &str| text(record, pointer);
        let program = of("/executable").or(of("/comm"));
        let by = program.map_or("the name server".to_owned(), quoted);
        let kind = of("/kind").filter(|kind| *kind != REPEAT).or(of("/of"));
        let kind = kind.unwrap_or_default();
        self.denials
            .add(&format!("{kind} {} by {by}", object(record)), count);
    }

    pub(crate) fn path(&mut self, path: &str, count: Count) {
        if self.wants(List::Paths) {
            self.paths.add(path, count);
        }
    }

    /// A host, as [`host`] has it.
    pub(crate) fn host(&mut self, host: &str, count: Count) {
        if self.wants(List::Hosts) {
            self.hosts.add(host, count);
        }
    }

    pub(crate) fn program(&mut self, program: &str, count: Count) {
        if self.wants(List::Programs) {
            self.programs.add(program, count);
        }
    }

    /// Takes everything that another one has counted.
    pub(crate) fn merge(&mut self, other: Self) {
        self.records += other.records;
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        for (minute, count) in other.minutes {
            *self.minutes.entry(minute).or_default() += count;
        }
        self.denials.merge(other.denials);
        self.paths.merge(other.paths);
        self.hosts.merge(other.hosts);
        self.programs.merge(other.programs);
    }

    /// Whether there is anything to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.all == 0
    }

    /// Writes them: of each list so many.
    pub fn write(&self, out: &mut impl Write, top: usize) -> io::Result<()> {
        writeln!(
            out,
            "{:>12}{} records",
            self.records.all,
            denied(self.records)
        )?;
        for (kind, count) in &self.kinds {
            writeln!(
                out,
                "{:>12}{} {}",
                count.all,
                denied(*count),
                Escaped(kind.as_bytes())
            )?;
        }
        self.denials.write(out, "denials", top, str::to_owned)?;
        self.programs.write(out, "programs", top, quoted)?;
        self.hosts.write(out, "hosts", top, str::to_owned)?;
        self.paths.write(out, "paths", top, quoted)?;
        self.write_minutes(out)
    }

    fn write_minutes(&self, out: &mut impl Write) -> io::Result<()> {
        let mut most: Vec<_> = self.minutes.iter().collect();
        let Some(longest) = most.iter().map(|(_, count)| count.all).max() else {
            return Ok(());
        };
        most.sort_by_key(|(_, count)| std::cmp::Reverse(count.all));
        most.truncate(MINUTES_SHOWN);
        most.sort();
        writeln!(out, "\nminutes: {} with records", self.minutes.len())?;
        for (minute, count) in most {
            let bar = count.all.saturating_mul(BAR).div_ceil(longest);
            let bar = "#".repeat(usize::try_from(bar).unwrap_or_default());
            writeln!(
                out,
                "{} {bar} {}{}",
                Escaped(minute.as_bytes()),
                count.all,
                denied(*count)
            )?;
        }
        Ok(())
    }
}

/// The host of a record: by its name where it has one.
pub(crate) fn host(
    is_question: bool,
    name: Option<&str>,
    address: Option<&str>,
    port: Option<u64>,
) -> Option<String> {
    match (name, address, port) {
        (Some(name), Some(_), Some(port)) => Some(format!("{}:{port}", Escaped(name.as_bytes()))),
        (None, Some(address), Some(port)) => Some(format!("{address} {port}")),
        (Some(name), ..) if is_question => Some(Escaped(name.as_bytes()).to_string()),
        _ => None,
    }
}

fn quoted(text: &str) -> String {
    Quoted(text.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_most_comes_first_and_denials_are_told() {
        let mut stats = Stats::default();
        let open = |path: &str, verdict: &str, minute: &str| {
            json!({"kind": "open", "time": format!("2026-11-27T18:{minute}:01Z"), "verdict": verdict,
                "path": path, "comm": "cat", "executable": "/usr/bin/cat", "reason": "no_rule"})
        };
        stats.add(&open("/a", "allow", "00"));
        for _ in 0..4 {
            stats.add(&open("/b c", "deny", "01"));
        }
        stats.add(
            &json!({"kind": "connect", "time": "2026-11-27T18:01:09Z", "verdict": "allow",
            "address": "203.0.113.1", "port": 443, "name": "api.example", "comm": "curl"}),
        );
        stats.add(&json!({"kind": "end", "time": "2026-11-27T18:01:10Z"}));
        let mut out = Vec::new();
        stats.write(&mut out, 1).unwrap();
        let expected = "           7 (4 denied) records\n\
            \x20          1 connect\n\
            \x20          1 end\n\
            \x20          5 (4 denied) open\n\
            \n\
            denials: 1 different\n\
            \x20          4 (4 denied) open \"/b c\" by /usr/bin/cat\n\
            \n\
            programs: 2 different\n\
            \x20          5 (4 denied) /usr/bin/cat\n\
            \n\
            hosts: 1 different\n\
            \x20          1 api.example:443\n\
            \n\
            paths: 2 different\n\
            \x20          4 (4 denied) \"/b c\"\n\
            \n\
            minutes: 2 with records\n\
            2026-11-27T18:00 ####### 1\n\
            2026-11-27T18:01 ######################################## 6 (4 denied)\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
