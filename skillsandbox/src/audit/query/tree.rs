//! The processes of a run: who started whom, and what each did.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write},
};

use serde_json::Value;

use super::{REPEAT, show::object};
use crate::audit::field::{number, text};
use crate::audit::text::Quoted;

/// Different denials of one process, and programs, that are kept; the others are counted.
const DENIALS_MAX: usize = 10;
const PROGRAMS_MAX: usize = 10;

/// Bytes that a line is moved to the right at most: a skill may make a chain of any length.
const INDENTED_MAX: usize = 256;

/// The processes of a run.
#[derive(Debug, Default)]
pub struct Tree {
    processes: Vec<Process>,
    /// The process that has this id now.
    current: HashMap<u64, usize>,
    /// Who made the process that will have this id.
    makers: HashMap<u64, usize>,
    roots: Vec<usize>,
}

#[derive(Debug, Default)]
struct Process {
    id: u64,
    /// What it executed, in order.
    programs: Vec<String>,
    more_programs: u64,
    comm: String,
    ending: Option<String>,
    /// Accesses by kind.
    counts: BTreeMap<String, u64>,
    denials: BTreeMap<String, u64>,
    more_denials: u64,
    children: Vec<usize>,
}

impl Tree {
    /// Takes a record, in the order of the run.
    pub fn add(&mut self, record: &Value) {
        let (Some(id), Some(kind)) = (number(record, "/tgid"), text(record, "/kind")) else {
            return;
        };
        let index = self.process(id, record);
        match kind {
            "fork" => {
                if let Some(child) = number(record, "/child") {
                    self.makers.insert(child, index);
                    // The kernel gives the id of one that has ended again.
                    let had = self
                        .current
                        .get(&child)
                        .and_then(|had| self.processes.get(*had));
                    if had.is_some_and(|had| had.ending.is_some()) {
                        self.current.remove(&child);
                    }
                }
                return;
            }
            // Of the process, and not of one of its threads.
            "exit" if number(record, "/pid") == Some(id) => {
                let signal = text(record, "/signal_name").map(str::to_owned);
                let code = record.pointer("/exit_code").and_then(Value::as_i64);
                let ending = signal.or(code.map(|code| format!("exit {code}")));
                if let Some(process) = self.processes.get_mut(index) {
                    process.ending = Some(ending.unwrap_or_else(|| "ended".to_owned()));
                }
                return;
            }
            "exit" => return,
            _ => {}
        }
        let Some(process) = self.processes.get_mut(index) else {
            return;
        };
        // One that was counted with an earlier one is as many as it says.
        let (kind, times) = match (kind, text(record, "/of"), number(record, "/count")) {
            (REPEAT, Some(of), Some(times)) => (of, times),
            _ => (kind, 1),
        };
        if text(record, "/verdict") == Some("deny") {
            let denial = format!("{kind} {}", object(record));
            if process.denials.len() < DENIALS_MAX || process.denials.contains_key(&denial) {
                *process.denials.entry(denial).or_default() += times;
            } else {
                process.more_denials += times;
            }
        } else {
            *process.counts.entry(kind.to_owned()).or_default() += times;
            if kind == "exec"
                && let Some(path) = text(record, "/path")
            {
                if process.programs.len() < PROGRAMS_MAX {
                    process.programs.push(Quoted(path.as_bytes()).to_string());
                } else {
                    process.more_programs += 1;
                }
            }
        }
    }

    /// The process of this id, which a record is the first of if it is not known.
    fn process(&mut self, id: u64, record: &Value) -> usize {
        if let Some(index) = self.current.get(&id) {
            return *index;
        }
        let comm = text(record, "/comm").unwrap_or_default();
        let program = text(record, "/executable").filter(|_| text(record, "/kind") != Some("exec"));
        let maker = self.makers.remove(&id);
        let maker = maker.or_else(|| {
            let parent = number(record, "/ppid")?;
            self.current.get(&parent).copied()
        });
        let index = self.processes.len();
        self.processes.push(Process {
            id,
            comm: Quoted(comm.as_bytes()).to_string(),
            programs: program
                .map(|path| Quoted(path.as_bytes()).to_string())
                .into_iter()
                .collect(),
            ..Process::default()
        });
        self.current.insert(id, index);
        match maker.and_then(|maker| self.processes.get_mut(maker)) {
            Some(maker) => maker.children.push(index),
            None => self.roots.push(index),
        }
        index
    }

    /// Whether there is anything to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Draws it.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        // Not by recursion, for the same reason.
        let mut ahead: Vec<(usize, String, String)> = Vec::new();
        for root in self.roots.iter().rev() {
            ahead.push((*root, String::new(), String::new()));
        }
        while let Some((index, first, rest)) = ahead.pop() {
            let Some(process) = self.processes.get(index) else {
                continue;
            };
            process.write(out, &first, &rest, !process.children.is_empty())?;
            for (place, child) in process.children.iter().enumerate().rev() {
                let is_last = place + 1 == process.children.len();
                let (branch, below) = if is_last {
                    ("└─ ", "   ")
                } else {
                    ("├─ ", "│  ")
                };
                let deeper = if rest.len() < INDENTED_MAX { below } else { "" };
                ahead.push((*child, format!("{rest}{branch}"), format!("{rest}{deeper}")));
            }
        }
        Ok(())
    }
}

impl Process {
    fn write(&self, out: &mut impl Write, first: &str, rest: &str, above: bool) -> io::Result<()> {
        let mut program = if self.programs.is_empty() {
            self.comm.clone()
        } else {
            self.programs.join(" → ")
        };
        if self.more_programs > 0 {
            program = format!("{program} → {} more", self.more_programs);
        }
        write!(out, "{first}{program}[{}]", self.id)?;
        if let Some(ending) = &self.ending {
            write!(out, " {ending}")?;
        }
        let mut counts: Vec<_> = self
            .counts
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        let denied = self.denials.values().sum::<u64>() + self.more_denials;
        if denied > 0 {
            counts.push(format!("DENIED {denied}"));
        }
        if !counts.is_empty() {
            write!(out, "  {}", counts.join(", "))?;
        }
        writeln!(out)?;
        let line = if above { "│  " } else { "   " };
        for (denial, count) in &self.denials {
            let times = if *count > 1 {
                format!(" ({count} times)")
            } else {
                String::new()
            };
            writeln!(out, "{rest}{line}denied {denial}{times}")?;
        }
        if self.more_denials > 0 {
            writeln!(
                out,
                "{rest}{line}and {} of others: `audit query --verdict deny --process {}`",
                self.more_denials, self.id
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn drawn(records: &[Value]) -> String {
        let mut tree = Tree::default();
        for record in records {
            tree.add(record);
        }
        let mut out = Vec::new();
        tree.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn did(kind: &str, tgid: u64, more: &Value) -> Value {
        let mut record = json!({"kind": kind, "tgid": tgid, "pid": tgid, "ppid": 1, "comm": "sh", "verdict": "allow"});
        for (field, value) in more.as_object().unwrap() {
            record[field] = value.clone();
        }
        record
    }

    #[test]
    fn processes_are_below_who_made_them_with_what_they_did() {
        let tree = drawn(&[
            did("exec", 10, &json!({"path": "/usr/bin/dash"})),
            did("fork", 10, &json!({"child": 11})),
            did("fork", 10, &json!({"child": 12})),
            did("exec", 11, &json!({"path": "/usr/bin/cat"})),
            did("open", 11, &json!({"path": "/a b", "verdict": "deny"})),
            did("open", 11, &json!({"path": "/a b", "verdict": "deny"})),
            did("exit", 11, &json!({"exit_code": 1})),
            did("open", 12, &json!({"path": "/c"})),
            did("exit", 12, &json!({"pid": 13, "exit_code": 0})),
            did("exit", 12, &json!({"signal_name": "SIGKILL"})),
            did("fork", 10, &json!({"child": 11})),
            did("exec", 11, &json!({"path": "/usr/bin/true"})),
        ]);
        assert_eq!(
            tree,
            "/usr/bin/dash[10]  exec 1\n\
             ├─ /usr/bin/cat[11] exit 1  exec 1, DENIED 2\n\
             │     denied open \"/a b\" (2 times)\n\
             ├─ sh[12] SIGKILL  open 1\n\
             └─ /usr/bin/true[11]  exec 1\n"
        );
    }

    #[test]
    fn a_long_chain_is_drawn_and_what_is_no_process_is_not() {
        let mut records = vec![json!({"kind": "end", "exit_code": 0})];
        for id in 1..2000 {
            records.push(did("open", id, &json!({"path": "/x"})));
            records.push(did("fork", id, &json!({"child": id + 1})));
        }
        assert_eq!(drawn(&records).lines().count(), 1999);
    }
}
