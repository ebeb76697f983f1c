//! What sockets a sandbox may have, whatever its rules.

use super::Decision;
use crate::header::Reason;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::Verdict;

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
