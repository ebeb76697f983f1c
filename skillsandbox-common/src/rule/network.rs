//! Rules on addresses.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Decision;
use crate::header::Reason;

/// Bytes of an address that a lookup compares.
pub const ADDRESS_KEY_LEN: usize = 16;

/// Most port ranges that one address prefix can hold, those of wider prefixes included.
pub const PORT_RANGES_MAX: usize = 16;

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

    /// Bits to shift those of a range by whose time has passed: what is connected goes on, and
    /// nothing connects any more.
    const AGED: u16 = 8;

    /// The same protocols, of a range whose time has passed.
    #[must_use]
    #[inline(always)]
    pub const fn aged(protocols: u16) -> u16 {
        protocols << Self::AGED
    }

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
    /// Bits of [`Protocols`], [`aged`](Protocols::aged) or not.
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
    /// The ranges that it has.
    pub fn stated(&self) -> impl Iterator<Item = &PortRange> {
        self.ranges.iter().take_while(|range| range.rule != 0)
    }

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
