//! How often a sandbox met the limits of its cgroup, as the controllers count it.

use std::io;

use super::cgroup::Cgroup;
use super::error::{Result, Step};

/// Counted since the cgroup was made. Zero where it has no such controller: the kernel counts
/// nothing there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Times that usage was about to go over `memory.max`: `max` of `memory.events`.
    pub memory: u64,
    /// Processes that were killed for that: `oom_kill` of `memory.events`.
    pub killed: u64,
    /// Forks and threads refused at `pids.max`: `max` of `pids.events`.
    pub refused: u64,
}

impl Met {
    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            memory: self.memory.saturating_sub(earlier.memory),
            killed: self.killed.saturating_sub(earlier.killed),
            refused: self.refused.saturating_sub(earlier.refused),
        }
    }
}

impl Cgroup {
    /// Reads the counters (`Documentation/admin-guide/cgroup-v2.rst`).
    pub fn met(&self) -> Result<Met> {
        let read = |name: &str| match self.read(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other.step(format!("read {name} of the cgroup")),
        };
        let (memory, processes) = (read("memory.events")?, read("pids.events")?);
        Ok(Met {
            memory: counter(&memory, "max"),
            killed: counter(&memory, "oom_kill"),
            refused: counter(&processes, "max"),
        })
    }
}

/// The counter of this name, one of the lines `name number`.
fn counter(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(found, _)| *found == name)
        .and_then(|(_, number)| number.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let events = "low 0\nhigh 0\nmax 41\noom 2\noom_kill 3\noom_group_kill 1\n";
        assert_eq!(counter(events, "max"), 41);
        assert_eq!(counter(events, "oom_kill"), 3);
        assert_eq!(counter(events, "oom_killed"), 0);
        assert_eq!(counter("", "max"), 0);
    }
}
