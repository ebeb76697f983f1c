//! Values of the rule maps, and the one decision that is made on each.

mod file;
mod network;
mod socket;

pub use file::{ANYWHERE, Access, FileRule, PATH_KEY_LEN, RULE_PATH_MAX};
pub use network::{ADDRESS_KEY_LEN, NetworkRule, PORT_RANGES_MAX, PortRange, Protocols};
pub use socket::{UNIX_SOCKETS_MAX, UnixRule, decide_bind, decide_socket, decide_unix};

use crate::header::{Reason, Verdict};

/// What was decided, why, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Allow or deny.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Rule number from 1; 0 when no rule decided.
    pub rule: u16,
}

impl Decision {
    /// An allowance by a rule.
    #[must_use]
    #[inline(always)]
    pub const fn allow(rule: u16) -> Self {
        Self {
            verdict: Verdict::Allow,
            reason: Reason::Rule,
            rule,
        }
    }

    /// A denial.
    #[must_use]
    #[inline(always)]
    pub const fn deny(reason: Reason, rule: u16) -> Self {
        Self {
            verdict: Verdict::Deny,
            reason,
            rule,
        }
    }
}
