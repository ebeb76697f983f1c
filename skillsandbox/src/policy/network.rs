//! A prefix of addresses.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

/// Addresses that share their first bits. IPv4 is held as IPv4-mapped IPv6 (RFC 4291, 2.5.5.2),
/// as the rule maps hold it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: [u8; 16],
    prefix_bits: u8,
}

/// Why a prefix is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The prefix is longer than the address.
    #[error("a prefix of {given} bits is longer than the address, which has {most}")]
    TooLong {
        /// Bits asked for.
        given: u8,
        /// Bits of the address.
        most: u8,
    },
}

impl Network {
    /// The addresses whose first `prefix_bits` are those of `address`; its other bits are
    /// cleared.
    pub fn new(address: IpAddr, prefix_bits: u8) -> Result<Self, NetworkError> {
        let (mapped, offset, most) = match address {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 96, 32),
            IpAddr::V6(v6) => (v6, 0, 128),
        };
        if prefix_bits > most {
            return Err(NetworkError::TooLong {
                given: prefix_bits,
                most,
            });
        }
        let prefix_bits = prefix_bits + offset;
        let address = (u128::from(mapped) & mask(prefix_bits)).to_be_bytes();
        Ok(Self {
            address,
            prefix_bits,
        })
    }

    /// This address alone.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        let mapped = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self {
            address: mapped.octets(),
            prefix_bits: 128,
        }
    }

    /// The first address, IPv4 as mapped.
    #[must_use]
    pub fn address(&self) -> [u8; 16] {
        self.address
    }

    /// Bits of the prefix, counted in the 128 of the mapped address.
    #[must_use]
    pub fn prefix_bits(&self) -> u8 {
        self.prefix_bits
    }

    /// Whether its addresses are those of IPv4.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.prefix_bits >= 96 && Ipv6Addr::from(self.address).to_ipv4_mapped().is_some()
    }

    /// Whether `address` (IPv4 as mapped) lies in it.
    #[must_use]
    pub fn contains(&self, address: [u8; 16]) -> bool {
        u128::from_be_bytes(address) & mask(self.prefix_bits) == u128::from_be_bytes(self.address)
    }

    /// Whether every address of `other` lies in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix_bits <= other.prefix_bits && self.contains(other.address)
    }

    /// The narrowest network that covers both.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let (one, two) = (
            u128::from_be_bytes(self.address),
            u128::from_be_bytes(other.address),
        );
        let prefix_bits = u8::try_from((one ^ two).leading_zeros()).unwrap_or(128);
        let prefix_bits = prefix_bits.min(self.prefix_bits).min(other.prefix_bits);
        self.widened(prefix_bits)
    }

    /// The network of the first `prefix_bits` of its own, counted in the 128 of the mapped address.
    #[must_use]
    pub fn widened(&self, prefix_bits: u8) -> Self {
        let prefix_bits = prefix_bits.min(self.prefix_bits);
        let mask = mask(prefix_bits);
        Self {
            address: (u128::from_be_bytes(self.address) & mask).to_be_bytes(),
            prefix_bits,
        }
    }
}

/// The bits of a prefix.
fn mask(prefix_bits: u8) -> u128 {
    u128::MAX
        .checked_shl(128 - u32::from(prefix_bits))
        .unwrap_or(0)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v6 = Ipv6Addr::from(self.address);
        match v6.to_ipv4_mapped() {
            Some(v4) if self.prefix_bits >= 96 => write!(f, "{v4}/{}", self.prefix_bits - 96),
            _ => write!(f, "{v6}/{}", self.prefix_bits),
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
