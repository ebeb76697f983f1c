//! Which program each process runs, learnt from exec and fork events. Bounded.

use std::{collections::BTreeMap, sync::Arc};

use skillsandbox_common::event::PathSource;

use super::{code::Code, record::Running, sequence::Sequences};

/// Most processes that are remembered. Those beyond have no known executable.
pub const PROCESSES_MAX: usize = 16 * 1024;

/// The last program that a process was seen to execute.
#[derive(Clone, Debug)]
pub struct Executable {
    /// Its path.
    pub path: Arc<[u8]>,
    /// Where the path comes from.
    pub source: Code<PathSource>,
    /// Sequence number of the execution.
    pub since: u64,
}

/// Processes by id.
#[derive(Debug, Default)]
pub struct Processes {
    running: BTreeMap<u32, Executable>,
}

impl Processes {
    /// What this process runs, as of the record `now`. Only if no record between the execution
    /// and `now` is missing: the missing one could be another execution, or an exit after which
    /// the id was used again.
    #[must_use]
    pub fn executable(&self, tgid: u32, now: u64, sequences: &Sequences) -> Option<&Executable> {
        self.running
            .get(&tgid)
            .filter(|program| program.since <= now && sequences.complete(program.since, now))
    }

    /// The process was there before the first record, and ran this.
    pub(super) fn were(&mut self, running: &Running) {
        let Some(source) = Code::parse(&running.executable_source, Code::<PathSource>::path_source)
        else {
            return;
        };
        let program = Executable {
            path: running.executable.as_bytes().into(),
            source,
            since: 0,
        };
        self.insert(running.tgid, program);
    }

    /// What is running as of the last record, for the records of the next run. A path that is not UTF-8 is not told.
    pub(crate) fn running(&self, sequences: &Sequences) -> Vec<Running> {
        let now = sequences.highest();
        let known = self.running.iter().filter_map(|(tgid, program)| {
            let is_known = self.executable(*tgid, now, sequences).is_some();
            let path = str::from_utf8(&program.path).ok()?;
            is_known.then(|| Running {
                tgid: *tgid,
                executable: path.to_owned(),
                executable_source: program.source.to_string(),
            })
        });
        let mut known: Vec<_> = known.collect();
        known.sort_by_key(|running| running.tgid);
        known
    }

    /// The process executed another program, as the record of `program.since` says. A late record teaches
    /// nothing, as more may have happened since: the process is forgotten.
    pub fn exec(&mut self, tgid: u32, program: Executable, sequences: &Sequences) {
        self.running.remove(&tgid);
        if !program.path.is_empty() && program.since == sequences.highest() {
            self.insert(tgid, program);
        }
    }

    /// The process made a child, which runs the same program, as the record `now` says.
    pub fn fork(&mut self, tgid: u32, child: u32, now: u64, sequences: &Sequences) {
        let program = self.executable(tgid, now, sequences).cloned();
        self.running.remove(&child);
        if let Some(program) = program
            && now == sequences.highest()
        {
            self.insert(child, program);
        }
    }

    /// The thread ended. That of the same id as its process is the process's first one.
    pub fn exit(&mut self, pid: u32) {
        self.running.remove(&pid);
    }

    fn insert(&mut self, pid: u32, executable: Executable) {
        if self.running.len() < PROCESSES_MAX {
            self.running.insert(pid, executable);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &[u8], since: u64) -> Executable {
        Executable {
            path: path.into(),
            source: Code::Known(PathSource::Resolved),
            since,
        }
    }

    fn received(numbers: impl IntoIterator<Item = u64>) -> Sequences {
        let mut sequences = Sequences::default();
        for number in numbers {
            sequences.insert(number);
        }
        sequences
    }

    fn path(processes: &Processes, tgid: u32, now: u64, seen: &Sequences) -> Option<String> {
        let executable = processes.executable(tgid, now, seen)?;
        Some(String::from_utf8(executable.path.to_vec()).unwrap())
    }

    #[test]
    fn a_child_runs_its_parents_program_until_it_executes_its_own() {
        let mut processes = Processes::default();
        processes.exec(10, program(b"/bin/sh", 1), &received(1..=1));
        processes.fork(10, 11, 2, &received(1..=2));
        assert_eq!(
            path(&processes, 11, 3, &received(1..=3)).unwrap(),
            "/bin/sh"
        );
        processes.exec(11, program(b"/bin/ls", 4), &received(1..=4));
        let seen = received(1..=6);
        assert_eq!(path(&processes, 11, 5, &seen).unwrap(), "/bin/ls");
        assert_eq!(path(&processes, 10, 5, &seen).unwrap(), "/bin/sh");
        processes.exit(11);
        assert_eq!(path(&processes, 11, 6, &seen), None);
    }

    #[test]
    fn an_executable_is_not_known_when_a_record_since_is_missing() {
        let mut processes = Processes::default();
        processes.exec(10, program(b"/bin/sh", 1), &received(1..=1));
        let mut seen = received([1, 2, 4]);
        assert_eq!(path(&processes, 10, 2, &seen).unwrap(), "/bin/sh");
        assert_eq!(path(&processes, 10, 4, &seen), None);
        seen.insert(3);
        assert_eq!(path(&processes, 10, 4, &seen).unwrap(), "/bin/sh");
    }

    #[test]
    fn a_child_made_while_a_record_is_missing_has_no_known_program() {
        let mut processes = Processes::default();
        processes.exec(10, program(b"/bin/sh", 1), &received(1..=1));
        processes.fork(10, 11, 3, &received([1, 3]));
        assert_eq!(path(&processes, 11, 4, &received(1..=4)), None);
    }

    #[test]
    fn a_late_execution_or_fork_is_not_taken_for_the_present() {
        let mut processes = Processes::default();
        let seen = received(1..=9);
        processes.exec(10, program(b"/bin/sh", 5), &seen);
        assert_eq!(path(&processes, 10, 9, &seen), None);
        processes.exec(10, program(b"/bin/ls", 9), &seen);
        processes.fork(10, 11, 8, &seen);
        assert_eq!(path(&processes, 11, 9, &seen), None);
    }

    #[test]
    fn an_id_used_again_by_the_child_of_an_unknown_process_is_unknown() {
        let mut processes = Processes::default();
        processes.exec(10, program(b"/bin/sh", 1), &received(1..=1));
        processes.fork(99, 10, 2, &received(1..=2));
        assert_eq!(path(&processes, 10, 2, &received(1..=2)), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut processes = Processes::default();
        let seen = received(1..=1);
        processes.exec(1, program(b"/bin/sh", 1), &seen);
        for child in 0..40_000 {
            processes.fork(1, child + 2, 1, &seen);
        }
        assert_eq!(processes.running.len(), PROCESSES_MAX);
    }
}
