//! What was counted, and whether it adds up.

use serde::Serialize;
use skillsandbox_common::{
    header::{Kind, Verdict},
    slot::SlotCounters,
};

use super::{clock::Time, code::Code, record::Ending, sequence::Sequences};

/// Accesses of one kind, by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdicts {
    /// Allowed.
    pub allowed: u64,
    /// Denied.
    pub denied: u64,
    /// Would have been denied, where a policy is only audited.
    #[serde(skip_serializing_if = "is_none")]
    pub would_deny: u64,
    /// With a verdict that this version does not know.
    pub unknown: u64,
}

/// What only an audited policy has is not written where there is none of it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

impl Verdicts {
    fn add(&mut self, verdict: Code<Verdict>, times: u64) {
        match verdict {
            Code::Known(Verdict::Allow) => self.allowed += times,
            Code::Known(Verdict::Deny) => self.denied += times,
            Code::Known(Verdict::WouldDeny) => self.would_deny += times,
            Code::Unknown(_) => self.unknown += times,
        }
    }

    fn sum(&self) -> u64 {
        self.allowed + self.denied + self.would_deny + self.unknown
    }
}

/// Records of a run, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Opens.
    pub open: Verdicts,
    /// Executions.
    pub exec: Verdicts,
    /// Connections.
    pub connect: Verdicts,
    /// Datagrams.
    pub sendmsg: Verdicts,
    /// Addresses of sockets' own.
    pub bind: Verdicts,
    /// Sockets made.
    pub socket: Verdicts,
    /// Connections of unix sockets.
    pub unix: Verdicts,
    /// Files mapped as code.
    pub map: Verdicts,
    /// Names taken from files.
    pub unlink: Verdicts,
    /// Old names of files that were renamed.
    pub rename: Verdicts,
    /// Their new names.
    pub rename_to: Verdicts,
    /// Names of files that were to have a second one.
    pub link: Verdicts,
    /// Their second names.
    pub link_to: Verdicts,
    /// Files cut by their path.
    pub truncate: Verdicts,
    /// Folders and symbolic links made.
    pub create: Verdicts,
    /// Modes and owners of files changed.
    pub attributes: Verdicts,
    /// Processes looked into.
    pub ptrace: Verdicts,
    /// Processes and threads made.
    pub fork: u64,
    /// Processes and threads ended.
    pub exit: u64,
}

impl Tally {
    /// Counts so many events of this kind.
    pub fn add(&mut self, kind: Kind, verdict: Code<Verdict>, times: u64) {
        let verdicts = match kind {
            Kind::Open => &mut self.open,
            Kind::Exec => &mut self.exec,
            Kind::Connect => &mut self.connect,
            Kind::Sendmsg => &mut self.sendmsg,
            Kind::Bind => &mut self.bind,
            Kind::Socket => &mut self.socket,
            Kind::Unix => &mut self.unix,
            Kind::Map => &mut self.map,
            Kind::Unlink => &mut self.unlink,
            Kind::Rename => &mut self.rename,
            Kind::RenameTo => &mut self.rename_to,
            Kind::Link => &mut self.link,
            Kind::LinkTo => &mut self.link_to,
            Kind::Truncate => &mut self.truncate,
            Kind::Create => &mut self.create,
            Kind::Attributes => &mut self.attributes,
            Kind::Ptrace => &mut self.ptrace,
            Kind::Fork => {
                self.fork += times;
                return;
            }
            Kind::Exit => {
                self.exit += times;
                return;
            }
        };
        verdicts.add(verdict, times);
    }

    fn verdicts(&self) -> Verdicts {
        let kinds = [
            self.open,
            self.exec,
            self.connect,
            self.sendmsg,
            self.bind,
            self.socket,
            self.unix,
            self.map,
            self.unlink,
            self.rename,
            self.rename_to,
            self.link,
            self.link_to,
            self.truncate,
            self.create,
            self.attributes,
            self.ptrace,
        ];
        kinds
            .iter()
            .fold(Verdicts::default(), |sum, kind| Verdicts {
                allowed: sum.allowed + kind.allowed,
                denied: sum.denied + kind.denied,
                would_deny: sum.would_deny + kind.would_deny,
                unknown: sum.unknown + kind.unknown,
            })
    }
}

/// Records that found no room, as the kernel side counted them. By the verdict of the kernel side:
/// on the fallback tier, which sees calls after the fact, that is never a denial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Allowed accesses.
    pub allowed: u64,
    /// Denied accesses.
    pub denied: u64,
    /// Forks and exits.
    pub processes: u64,
}

impl Dropped {
    /// As the kernel side counted.
    #[must_use]
    pub fn of(counters: &SlotCounters) -> Self {
        Self {
            allowed: counters.dropped_allowed,
            denied: counters.dropped_denied,
            processes: counters.dropped_processes,
        }
    }

    /// What was dropped after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            allowed: self.allowed.saturating_sub(earlier.allowed),
            denied: self.denied.saturating_sub(earlier.denied),
            processes: self.processes.saturating_sub(earlier.processes),
        }
    }

    /// All of them.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.allowed
            .saturating_add(self.denied)
            .saturating_add(self.processes)
    }
}

/// Counts of a run.
///
/// `emitted = allowed + denied + would_deny + unknown + processes + undecodable` holds by construction;
/// `emitted + dropped = records` is what [`Accounting`] checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Accesses that the kernel side decided on, recorded or not.
    pub decisions: u64,
    /// Records of allowed accesses.
    pub allowed: u64,
    /// Records of denied accesses.
    pub denied: u64,
    /// Records of accesses that would have been denied, where a policy is only audited.
    #[serde(skip_serializing_if = "is_none")]
    pub would_deny: u64,
    /// Records of accesses with a verdict that this version does not know.
    pub unknown: u64,
    /// Records of forks and exits.
    pub processes: u64,
    /// Records that were taken from a ring and not understood.
    pub undecodable: u64,
    /// Accesses that were counted with an earlier one and have no record of their own: they are in `allowed`, `denied` and
    /// `by_kind`.
    pub folded: u64,
    /// Records taken from the rings: the sum of those above, without `folded`.
    pub emitted: u64,
    /// Records that found no room on a ring.
    pub dropped: Dropped,
    /// Packets that did not leave or arrive, of which there are no records.
    pub refused_packets: u64,
    /// The records by kind.
    pub by_kind: Tally,
}

impl Counts {
    /// From what was received and what the kernel side counted.
    #[must_use]
    pub fn new(tally: Tally, undecodable: u64, folded: u64, counters: &SlotCounters) -> Self {
        let verdicts = tally.verdicts();
        let processes = tally.fork + tally.exit;
        Self {
            decisions: counters.decisions(),
            allowed: verdicts.allowed,
            denied: verdicts.denied,
            would_deny: verdicts.would_deny,
            unknown: verdicts.unknown,
            processes,
            undecodable,
            folded,
            emitted: (verdicts.sum() + processes + undecodable).saturating_sub(folded),
            dropped: Dropped::of(counters),
            refused_packets: counters.refused_packets,
            by_kind: tally,
        }
    }
}

/// Most missing ranges that are listed.
const MISSING_LISTED_MAX: usize = 100;

/// Whether every record that the kernel side began is here or counted as dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Accounting {
    /// Whether `emitted + dropped = records`, `decisions` agrees with the records of accesses,
    /// and no sequence number came twice or beyond the last one given out.
    pub balanced: bool,
    /// Records begun, as the kernel side counted.
    pub records: u64,
    /// `records - emitted - dropped`: what nothing explains. Negative when there are too many.
    pub unexplained: i128,
    /// Sequence numbers that came more than once.
    pub repeated: u64,
    /// First ranges of sequence numbers that never came, both ends included.
    pub missing: Vec<(u64, u64)>,
    /// Sequence numbers that never came and are not in `missing`.
    pub missing_unlisted: u64,
    /// Events of the whole host that the kernel did not run a tracepoint's program for: at most so
    /// many records of this run were never begun, which nothing else here can tell.
    pub skipped: u64,
}

impl Accounting {
    /// Compares what was received with what the kernel side counted. The counters must have been
    /// read after the last event was made and before this is asked.
    #[must_use]
    pub fn new(counts: &Counts, counters: &SlotCounters, sequences: &Sequences) -> Self {
        let records = counters.records;
        let unexplained =
            i128::from(records) - i128::from(counts.emitted) - i128::from(counts.dropped.sum());
        let never = records.saturating_sub(sequences.received());
        let mut missing: Vec<_> = sequences.missing().collect();
        if records > sequences.highest() {
            missing.push((sequences.highest() + 1, records));
        }
        missing.truncate(MISSING_LISTED_MAX);
        let listed: u64 = missing.iter().map(|(first, last)| last - first + 1).sum();
        let accesses = counts.emitted - counts.processes - counts.undecodable;
        // A record that was not understood may have been of either class.
        let accesses_agree = counts.undecodable > 0
            || accesses
                .saturating_add(counts.dropped.allowed)
                .saturating_add(counts.dropped.denied)
                .saturating_add(counts.folded)
                == counts.decisions;
        Self {
            balanced: unexplained == 0
                && accesses_agree
                && counts.folded == counters.folded
                && sequences.repeated() == 0
                && sequences.highest() <= records,
            records,
            unexplained,
            repeated: sequences.repeated(),
            missing,
            missing_unlisted: never.saturating_sub(listed),
            skipped: 0,
        }
    }
}

/// What every sink is told at the end of a run.
#[derive(Clone, Debug)]
pub struct Summary {
    /// When the run ended.
    pub completed: Time,
    /// How the skill ended.
    pub ending: Ending,
    /// Everything counted.
    pub counts: Counts,
    /// Whether it adds up.
    pub accounting: Accounting,
    /// Sinks that failed before the end, and how: what they hold is not complete.
    pub failed_sinks: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(counters: &SlotCounters, open: Verdicts, fork: u64, received: u64) -> Accounting {
        let tally = Tally {
            open,
            fork,
            ..Tally::default()
        };
        let mut sequences = Sequences::default();
        for number in 1..=received {
            sequences.insert(number);
        }
        let counts = Counts::new(tally, 0, 0, counters);
        Accounting::new(&counts, counters, &sequences)
    }

    const OPEN: Verdicts = Verdicts {
        allowed: 5,
        denied: 2,
        would_deny: 0,
        unknown: 0,
    };

    #[test]
    fn received_and_dropped_records_that_add_up_are_balanced() {
        let counters = SlotCounters {
            records: 12,
            processes: 2,
            denied: 3,
            dropped_allowed: 2,
            dropped_denied: 1,
            dropped_processes: 1,
            ..SlotCounters::default()
        };
        let accounting = account(&counters, OPEN, 1, 8);
        assert!(accounting.balanced, "{accounting:?}");
        assert_eq!(accounting.missing, vec![(9, 12)]);
    }

    #[test]
    fn a_record_that_nothing_explains_is_told() {
        let counters = SlotCounters {
            records: 9,
            processes: 1,
            denied: 2,
            ..SlotCounters::default()
        };
        let accounting = account(&counters, OPEN, 1, 8);
        assert!(!accounting.balanced);
        assert_eq!(accounting.unexplained, 1);
    }

    #[test]
    fn a_fork_that_is_missing_is_not_made_up_for_by_an_access_too_many() {
        let counters = SlotCounters {
            records: 8,
            processes: 2,
            ..SlotCounters::default()
        };
        let accounting = account(&counters, OPEN, 1, 8);
        assert_eq!(accounting.unexplained, 0);
        assert!(!accounting.balanced);
    }
}
