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

/// Decides on an address of a socket's own. Nobody may be called: the one address that can be
/// had is a port that the kernel chooses, as a client's.
#[must_use]
#[inline(always)]
pub const fn decide_bind(port: u16) -> Decision {
    if port == 0 {
        Decision {
            reason: Reason::AnyPort,
            ..Decision::allow(0)
        }
    } else {
        Decision::deny(Reason::NotGranted, 0)
    }
}

/// Decides on a new socket: whether the programs that decide on addresses see all that it can
/// reach. The arguments are those of `socket(2)`, the type without its flags.
///
/// - TCP, multipath TCP and UDP, over IPv4 and IPv6. UDP-Lite, SCTP and DCCP connect without
///   asking (no `pre_connect` in their `struct proto`), ping sockets send without.
/// - Unix sockets that connect. Datagrams go anywhere without.
/// - Routing netlink, which the C library reads its own addresses from.
#[must_use]
#[inline(always)]
pub const fn decide_socket(family: u32, socket_type: u32, protocol: u32) -> Decision {
    const UNIX: u32 = 1;
    const INET: u32 = 2;
    const INET6: u32 = 10;
    const NETLINK: u32 = 16;
    const STREAM: u32 = 1;
    const DATAGRAM: u32 = 2;
    const RAW: u32 = 3;
    const SEQUENCED: u32 = 5;
    const TCP: u32 = 6;
    const MPTCP: u32 = 262;
    const UDP: u32 = 17;
    const NETLINK_ROUTE: u32 = 0;
    let seen = match (family, socket_type) {
        (INET | INET6, STREAM) => matches!(protocol, 0 | TCP | MPTCP),
        (INET | INET6, DATAGRAM) => matches!(protocol, 0 | UDP),
        (UNIX, STREAM | SEQUENCED) => true,
        (NETLINK, DATAGRAM | RAW) => protocol == NETLINK_ROUTE,
        _ => false,
    };
    if seen {
        Decision::allow(0)
    } else {
        Decision::deny(Reason::AddressFamily, 0)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn is_made(family: u32, socket_type: u32, protocol: u32) -> bool {
        decide_socket(family, socket_type, protocol).verdict == Verdict::Allow
    }

    #[test]
    fn sockets_whose_addresses_are_decided_on_can_be_made() {
        for family in [2, 10] {
            assert!(is_made(family, 1, 0) && is_made(family, 1, 6) && is_made(family, 1, 262));
            assert!(is_made(family, 2, 0) && is_made(family, 2, 17));
        }
        assert!(is_made(1, 1, 0) && is_made(1, 5, 0) && is_made(16, 3, 0));
    }

    #[test]
    fn no_other_socket_can_be_made() {
        // Unix datagrams, raw, ping, UDP-Lite, SCTP, DCCP, packet, uevents, AF_ALG, vsock.
        let others = [
            (1, 2, 0),
            (2, 3, 1),
            (10, 3, 58),
            (2, 2, 1),
            (10, 2, 58),
            (2, 2, 136),
            (2, 1, 132),
            (2, 5, 132),
            (2, 6, 33),
            (17, 3, 3),
            (16, 3, 15),
            (38, 5, 0),
            (40, 1, 0),
            (44, 3, 0),
        ];
        for (family, socket_type, protocol) in others {
            assert!(
                !is_made(family, socket_type, protocol),
                "{family} {socket_type} {protocol}"
            );
        }
    }

    #[test]
    fn only_a_port_that_the_kernel_chooses_can_be_bound() {
        assert_eq!(decide_bind(0).verdict, Verdict::Allow);
        for port in [1, 53, 8080, u16::MAX] {
            assert_eq!(decide_bind(port), Decision::deny(Reason::NotGranted, 0));
        }
    }
}
