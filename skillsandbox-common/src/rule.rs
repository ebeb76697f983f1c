//! Values of the rule maps, and the one decision that is made on each.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::header::{Reason, Verdict};

/// Longest path a rule can name, in bytes: the data of a longest-prefix-match key is at most
/// 256 bytes (`LPM_DATA_SIZE_MAX`, `kernel/bpf/lpm_trie.c`), and one is the terminator.
pub const RULE_PATH_MAX: usize = 255;

/// Bytes of path that a lookup compares.
pub const PATH_KEY_LEN: usize = RULE_PATH_MAX + 1;

/// Bytes of an address that a lookup compares.
pub const ADDRESS_KEY_LEN: usize = 16;

/// Most port ranges that one address prefix can hold, those of wider prefixes included.
pub const PORT_RANGES_MAX: usize = 16;

/// Bits of access to a file.
pub struct Access;

impl Access {
    /// Read its content, or list a folder.
    pub const READ: u16 = 1;
    /// Change its content.
    pub const WRITE: u16 = 2;
    /// Execute it as a program.
    pub const EXEC: u16 = 4;
    /// Every access that can be granted.
    pub const ALL: u16 = Self::READ | Self::WRITE | Self::EXEC;
}

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

/// Value of a path prefix: what is granted below it, wider prefixes included, and by which rule.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
pub struct FileRule {
    /// Rule that grants reading, or 0.
    pub read: u16,
    /// Rule that grants writing, or 0.
    pub write: u16,
    /// Rule that grants executing, or 0.
    pub exec: u16,
    /// Rule that denies everything, or 0. Wins over the grants.
    pub deny: u16,
}

const _: () = assert!(size_of::<FileRule>() == 8);

impl FileRule {
    /// Decides on `access`, bits of [`Access`]. Every bit asked for must be granted; the rule
    /// named is that of the strongest one (execute, then write, then read).
    #[must_use]
    #[inline(always)]
    pub const fn decide(&self, access: u16) -> Decision {
        if self.deny != 0 {
            return Decision::deny(Reason::DenyRule, self.deny);
        }
        let mut rule = 0;
        if access & Access::READ != 0 {
            if self.read == 0 {
                return Decision::deny(Reason::NotGranted, 0);
            }
            rule = self.read;
        }
        if access & Access::WRITE != 0 {
            if self.write == 0 {
                return Decision::deny(Reason::NotGranted, 0);
            }
            rule = self.write;
        }
        if access & Access::EXEC != 0 {
            if self.exec == 0 {
                return Decision::deny(Reason::NotGranted, 0);
            }
            rule = self.exec;
        }
        if rule == 0 {
            // No access that rules know was asked for: nothing grants it.
            return Decision::deny(Reason::NotGranted, 0);
        }
        Decision::allow(rule)
    }
}

/// Transport protocols as bits, for port ranges.
pub struct Protocols;

impl Protocols {
    /// TCP, MPTCP included.
    pub const TCP: u16 = 1;
    /// UDP, UDP-Lite included.
    pub const UDP: u16 = 2;
    /// Any other that has ports (SCTP, DCCP).
    pub const OTHER: u16 = 4;
    /// `protocol: any`.
    pub const ANY: u16 = Self::TCP | Self::UDP | Self::OTHER;

    /// The bit of an `IPPROTO_*` number (`include/uapi/linux/in.h`).
    #[must_use]
    #[inline(always)]
    pub const fn of_ip_protocol(protocol: u32) -> u16 {
        match protocol {
            6 | 262 => Self::TCP,
            17 | 136 => Self::UDP,
            _ => Self::OTHER,
        }
    }
}

/// Ports and protocols that a rule grants.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, itself included.
    pub last: u16,
    /// Bits of [`Protocols`].
    pub protocols: u16,
    /// Rule number from 1; 0 ends the list.
    pub rule: u16,
}

/// Value of an address prefix: the ports granted below it, those of wider prefixes included.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
pub struct NetworkRule {
    /// The first entry with rule 0 ends the list.
    pub ranges: [PortRange; PORT_RANGES_MAX],
}

const _: () = assert!(size_of::<NetworkRule>() == 8 * PORT_RANGES_MAX);

impl NetworkRule {
    /// Decides on a destination port (host byte order) and one bit of [`Protocols`]. The first
    /// range that covers it is the rule named.
    #[must_use]
    #[inline(always)]
    pub fn decide(&self, port: u16, protocol: u16) -> Decision {
        for range in &self.ranges {
            if range.rule == 0 {
                break;
            }
            if range.protocols & protocol != 0 && range.first <= port && port <= range.last {
                return Decision::allow(range.rule);
            }
        }
        Decision::deny(Reason::NotGranted, 0)
    }
}
