//! What sockets a sandbox may have, where it may be called, and which unix sockets it may reach.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Decision, NetworkRule};
use crate::header::Reason;

/// Most unix sockets of the host that one sandbox may connect to.
pub const UNIX_SOCKETS_MAX: usize = 16;

/// A unix socket of the host, by its file.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
pub struct UnixRule {
    /// `struct inode.i_ino` of the socket's file.
    pub inode: u64,
    /// `struct super_block.s_dev` of its file system: 12 bits major, 20 bits minor.
    pub device: u32,
    /// Rule number from 1; 0 ends the list.
    pub rule: u16,
    /// Zero.
    pub reserved: u16,
}

const _: () = assert!(size_of::<UnixRule>() == 16);

/// Decides on an address of a socket's own: a port that the kernel chooses, as a client's, or one
/// that is listened on.
#[must_use]
#[inline(always)]
pub fn decide_bind(listen: &NetworkRule, port: u16, protocol: u16) -> Decision {
    if port == 0 {
        Decision {
            reason: Reason::AnyPort,
            ..Decision::allow(0)
        }
    } else {
        listen.decide(port, protocol)
    }
}

/// Decides on connecting to the unix socket of this file; one without a file is on device 0.
#[must_use]
#[inline(always)]
pub fn decide_unix(rules: &[UnixRule; UNIX_SOCKETS_MAX], device: u32, inode: u64) -> Decision {
    for known in rules {
        if known.rule == 0 {
            break;
        }
        if known.device == device && known.inode == inode {
            return Decision::allow(known.rule);
        }
    }
    Decision::deny(Reason::NoRule, 0)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        header::Verdict,
        rule::{PortRange, Protocols},
    };

    fn is_made(family: u32, socket_type: u32, protocol: u32) -> bool {
        decide_socket(family, socket_type, protocol).verdict == Verdict::Allow
    }

    #[test]
    fn only_the_ports_that_are_listened_on_and_any_port_are_had() {
        let mut listen = NetworkRule::default();
        listen.ranges[0] = PortRange {
            first: 8000,
            last: 8001,
            protocols: Protocols::TCP,
            rule: 3,
        };
        let decided = |port| decide_bind(&listen, port, Protocols::TCP);
        assert_eq!(decided(0).verdict, Verdict::Allow);
        assert_eq!(decided(8001), Decision::allow(3));
        assert_eq!(decided(8002), Decision::deny(Reason::NotGranted, 0));
        let udp = decide_bind(&listen, 8000, Protocols::UDP);
        assert_eq!(udp, Decision::deny(Reason::NotGranted, 0));
    }

    #[test]
    fn a_unix_socket_is_reached_by_its_file_alone() {
        let mut rules = [UnixRule::default(); UNIX_SOCKETS_MAX];
        rules[0] = UnixRule {
            inode: 7,
            device: 9,
            rule: 4,
            reserved: 0,
        };
        let denied = Decision::deny(Reason::NoRule, 0);
        assert_eq!(decide_unix(&rules, 9, 7), Decision::allow(4));
        assert_eq!(decide_unix(&rules, 9, 8), denied);
        assert_eq!(decide_unix(&rules, 8, 7), denied);
        assert_eq!(decide_unix(&rules, 0, 0), denied, "none of the rest");
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
}
