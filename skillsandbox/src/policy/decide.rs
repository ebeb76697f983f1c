//! The reference evaluator: what a rule set says of an access, read straight off the rules.
//!
//! It shares nothing with [`compile`](super::compile) but the meaning of a rule, so that the
//! kernel's answers can be tested against it.

use skillsandbox_common::{
    header::{Reason, Verdict},
    rule::{Access, Decision, Protocols},
};

use super::{Grant, RuleSet, Subject};

/// How specific a rule that covers an object is: the longer, the more.
pub(super) fn specificity(subject: &Subject, path: &[u8]) -> Option<(usize, Grant)> {
    match subject {
        Subject::Path(rule, grant) => {
            let rest = path.strip_prefix(rule.as_slice())?;
            (rest.is_empty() || rest.first() == Some(&b'/')).then_some((rule.len(), *grant))
        }
        Subject::Exact(rule, grant) => (path == rule).then_some((rule.len(), *grant)),
        Subject::Nameless(start, grant) => path.starts_with(start).then_some((start.len(), *grant)),
        Subject::Name(_)
        | Subject::Persistent { .. }
        | Subject::Address { .. }
        | Subject::Listen { .. }
        | Subject::Unix { .. }
        | Subject::Host { .. } => None,
    }
}

/// How specific a rule on names is to the part of a path from a component on.
fn name_specificity(subject: &Subject, part: &[u8]) -> Option<usize> {
    let (name, below) = match subject {
        Subject::Name(name) => (name, true),
        Subject::Persistent { name, below } => (name, *below),
        _ => return None,
    };
    let rest = part.strip_prefix(name.as_slice())?;
    (rest.is_empty() || below && rest.first() == Some(&b'/')).then_some(name.len())
}

fn grants(bit: u16) -> impl Fn(Grant) -> bool {
    move |grant| matches!(grant, Grant::Allow(bits) if bits & bit != 0)
}

impl RuleSet {
    /// Decides on an access to the file of this resolved path. Every bit of `access` must be
    /// granted; for each the most specific rule that grants it counts, the earlier of two alike.
    #[must_use]
    pub fn decide_file(&self, path: &[u8], access: u16) -> Decision {
        if let Some(number) = self.name_in(path, |rule| matches!(rule, Subject::Name(_))) {
            return Decision::deny(Reason::DenyRule, number);
        }
        let covering: Vec<(u16, usize, Grant)> = self
            .numbered()
            .filter_map(|(number, rule)| {
                specificity(&rule.subject, path).map(|(length, grant)| (number, length, grant))
            })
            .collect();
        // `max_by_key` answers the last of equals, hence the reversal.
        let strongest = |wanted: &dyn Fn(Grant) -> bool| {
            covering
                .iter()
                .rev()
                .filter(|(_, _, grant)| wanted(*grant))
                .max_by_key(|(_, length, _)| *length)
                .map(|(number, _, _)| *number)
        };
        if covering.is_empty() {
            let reason = if path.first() == Some(&b'/') {
                Reason::NoRule
            } else {
                Reason::NoPath
            };
            return Decision::deny(reason, 0);
        }
        if let Some(number) = strongest(&|grant| grant == Grant::Deny) {
            return Decision::deny(Reason::DenyRule, number);
        }
        let mut decided = Decision::deny(Reason::NotGranted, 0);
        for bit in [Access::READ, Access::WRITE, Access::EXEC, Access::MAP] {
            if access & bit == 0 {
                continue;
            }
            match strongest(&grants(bit)) {
                Some(number) => decided = Decision::allow(number),
                None => return Decision::deny(Reason::NotGranted, 0),
            }
        }
        if decided.verdict == Verdict::Allow && access & Access::WRITE != 0 && !self.persists(path)
        {
            let obeyed = self.name_in(path, |rule| matches!(rule, Subject::Persistent { .. }));
            if let Some(number) = obeyed {
                return Decision::deny(Reason::Persistence, number);
            }
        }
        decided
    }

    /// The rule on names that is met first on the way down a path; the longest of those that are
    /// met together, the earlier of two alike.
    fn name_in(&self, path: &[u8], wanted: impl Fn(&Subject) -> bool) -> Option<u16> {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes
            .filter_map(|(slash, _)| path.get(slash + 1..))
            .find_map(|part| {
                self.numbered()
                    .filter(|(_, rule)| wanted(&rule.subject))
                    .filter_map(|(number, rule)| {
                        name_specificity(&rule.subject, part).map(|length| (number, length))
                    })
                    .min_by_key(|(_, length)| std::cmp::Reverse(*length))
                    .map(|(number, _)| number)
            })
    }

    /// Decides on the kernel's own open of a program or its interpreter for an `execve`:
    /// reading is enough, because whether a program may run is decided where it is run.
    #[must_use]
    pub fn decide_open_for_exec(&self, path: &[u8]) -> Decision {
        let decision = self.decide_file(path, Access::EXEC);
        match decision.verdict {
            Verdict::Allow => decision,
            Verdict::Deny | Verdict::WouldDeny => self.decide_file(path, Access::READ),
        }
    }

    /// Decides on taking this name from its file: a folder with something denied in it keeps its
    /// name, under another of which the rule would deny nothing.
    #[must_use]
    pub fn decide_removal(&self, path: &[u8]) -> Decision {
        let decision = self.decide_file(path, Access::WRITE);
        let inside = |rule: &[u8]| {
            rule.strip_prefix(path)
                .is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        let held = self.numbered().find(|(_, rule)| {
            matches!(&rule.subject, Subject::Path(path, Grant::Deny) | Subject::Exact(path, Grant::Deny) if inside(path))
        });
        match held {
            Some((number, _)) if decision.verdict == Verdict::Allow => {
                Decision::deny(Reason::DenyRule, number)
            }
            _ => decision,
        }
    }

    /// Decides on giving this name to a file whose name is or was `from`, which may be removed:
    /// no access may be granted here that is not granted there.
    #[must_use]
    pub fn decide_arrival(&self, from: &[u8], path: &[u8]) -> Decision {
        let decision = self.decide_removal(path);
        if decision.verdict == Verdict::Allow && self.persists(from) && !self.persists(path) {
            return Decision::deny(Reason::Persistence, 0);
        }
        let granted = |path, bit| self.grants_bit(path, bit);
        let more = [Access::READ, Access::WRITE, Access::EXEC, Access::MAP]
            .into_iter()
            .any(|bit| granted(path, bit) && !granted(from, bit));
        if decision.verdict == Verdict::Allow && more {
            return Decision::deny(Reason::MoreGranted, 0);
        }
        decision
    }

    /// Whether names that others obey may be written here: no narrower grant to write than the one
    /// that says so comes without it.
    fn persists(&self, path: &[u8]) -> bool {
        let longest = |bit| {
            let covering = self
                .rules()
                .iter()
                .filter_map(|rule| specificity(&rule.subject, path));
            covering
                .filter(|(_, grant)| grants(bit)(*grant))
                .map(|(length, _)| length)
                .max()
        };
        longest(Access::PERSIST).is_some_and(|length| Some(length) >= longest(Access::WRITE))
    }

    /// Whether a rule that covers this path grants this bit of [`Access`], and none denies the path.
    fn grants_bit(&self, path: &[u8], bit: u16) -> bool {
        let mut covering = self
            .rules()
            .iter()
            .filter_map(|rule| specificity(&rule.subject, path));
        covering.any(|(_, grant)| grants(bit)(grant))
    }

    /// Decides on an address of a socket's own, of one bit of [`Protocols`].
    #[must_use]
    pub fn decide_bind(&self, port: u16, protocol: u16) -> Decision {
        if port == 0 {
            return Decision {
                reason: Reason::AnyPort,
                ..Decision::allow(0)
            };
        }
        let called = self.numbered().find(|(_, rule)| {
            matches!(rule.subject, Subject::Listen { first, last } if (first..=last).contains(&port))
        });
        match called {
            Some((number, _)) if protocol == Protocols::TCP => Decision::allow(number),
            _ => Decision::deny(Reason::NotGranted, 0),
        }
    }

    /// Decides on connecting to the unix socket of this file.
    #[must_use]
    pub fn decide_unix(&self, device: u32, inode: u64) -> Decision {
        let same = (device, inode);
        let granted = self.numbered().find(|(_, rule)| {
            matches!(rule.subject, Subject::Unix { device, inode, .. } if (device, inode) == same)
        });
        match granted {
            Some((number, _)) => Decision::allow(number),
            None => Decision::deny(Reason::NoRule, 0),
        }
    }

    /// Decides on reaching `address` (IPv4 as mapped) at `port` with one bit of
    /// [`Protocols`].
    #[must_use]
    pub fn decide_address(&self, address: [u8; 16], port: u16, protocol: u16) -> Decision {
        let mut covered = false;
        let mut best: Option<(u8, u16)> = None;
        for (number, rule) in self.numbered() {
            let Subject::Address {
                network,
                first,
                last,
                protocols,
            } = &rule.subject
            else {
                continue;
            };
            if !network.contains(address) {
                continue;
            }
            covered = true;
            let grants = protocols & protocol != 0 && (*first..=*last).contains(&port);
            if grants && best.is_none_or(|(bits, _)| network.prefix_bits() > bits) {
                best = Some((network.prefix_bits(), number));
            }
        }
        match best {
            Some((_, number)) => Decision::allow(number),
            None if covered => Decision::deny(Reason::NotGranted, 0),
            None => Decision::deny(Reason::NoRule, 0),
        }
    }
}
