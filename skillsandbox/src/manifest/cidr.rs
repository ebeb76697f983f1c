//! Networks in CIDR notation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::error::Refusal;

/// Prefix length of `::ffff:0:0/96`, the IPv4-mapped addresses (RFC 4291, section 2.5.5.2).
const MAPPED_PREFIX: u8 = 96;

/// A network: an address with no bit set behind its prefix.
///
/// An IPv6 network neither holds nor lies in the IPv4-mapped addresses, so that an IPv6 rule can
/// never decide about IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix_length: u8,
}

impl Cidr {
    /// The network's first address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Bits of the prefix: up to 32 for IPv4, up to 128 for IPv6.
    #[must_use]
    pub const fn prefix_length(self) -> u8 {
        self.prefix_length
    }

    /// Whether `address` lies in it. Both must be of one family.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && masked(address, self.prefix_length) == self.address
    }

    /// Whether any address lies in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

impl FromStr for Cidr {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let Some((address, length)) = text.split_once('/') else {
            return Err(match text.parse::<IpAddr>() {
                Ok(address) => Refusal::new(
                    "the prefix length is missing",
                    format!("write `{address}/{}` for this address alone", bits(address)),
                ),
                Err(_) => not_a_network(),
            });
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return Err(not_a_network());
        };
        // Rust also parses "+8", and "08" has two readings.
        let is_number = length == "0" || length.starts_with(|c: char| ('1'..='9').contains(&c));
        let prefix_length = match length.parse::<u8>() {
            Ok(prefix_length) if is_number && prefix_length <= bits(address) => prefix_length,
            _ => {
                return Err(Refusal::new(
                    format!("the prefix length goes from 0 to {}", bits(address)),
                    format!("write `{address}/{}` for this address alone", bits(address)),
                ));
            }
        };
        let network = Self {
            address: masked(address, prefix_length),
            prefix_length,
        };
        if network.address != address {
            return Err(Refusal::new(
                "bits are set behind the prefix",
                format!("write `{network}`, or `{address}/{}`", bits(address)),
            ));
        }
        refuse_mapped(network)?;
        Ok(network)
    }
}

fn not_a_network() -> Refusal {
    Refusal::new(
        "this is no network",
        "write an address and a prefix length: `192.0.2.0/24` or `2001:db8::/32`",
    )
}

fn refuse_mapped(network: Cidr) -> Result<(), Refusal> {
    let IpAddr::V6(address) = network.address else {
        return Ok(());
    };
    let mapped = IpAddr::V6(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped());
    if let (Some(inner), true) = (
        address.to_ipv4_mapped(),
        network.prefix_length >= MAPPED_PREFIX,
    ) {
        let length = network.prefix_length - MAPPED_PREFIX;
        return Err(Refusal::new(
            "these are IPv4 addresses in IPv6 spelling",
            format!("write `{inner}/{length}`"),
        ));
    }
    if network.contains(mapped) {
        return Err(Refusal::new(
            "the network holds the IPv4-mapped addresses",
            "write `2000::/3` for every public IPv6 address, and `0.0.0.0/0` for IPv4",
        ));
    }
    Ok(())
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix_length: u8) -> IpAddr {
    let cleared = u32::from(bits(address).saturating_sub(prefix_length));
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(cleared).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(cleared).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix_length)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_both_families_parse_up_to_the_limits() {
        for text in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "192.0.2.1/32",
            "2001:db8::/32",
            "::1/128",
            "2000::/3",
            "::/128",
            "::fffe:0:0/96",
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let network: Cidr = "10.1.0.0/16".parse().unwrap();
        assert!(network.contains("10.1.255.255".parse().unwrap()));
        assert!(!network.contains("10.2.0.0".parse().unwrap()));
        assert!(!network.contains("::ffff:10.1.0.1".parse().unwrap()));
    }

    #[test]
    fn networks_overlap_when_one_holds_the_other() {
        let [wide, narrow, other]: [Cidr; 3] =
            ["10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8"].map(|text| text.parse().unwrap());
        assert!(wide.overlaps(narrow) && narrow.overlaps(wide));
        assert!(!wide.overlaps(other) && !narrow.overlaps(other));
    }

    #[test]
    fn the_remedy_is_the_network_that_was_meant() {
        let refusal = "10.1.2.3/8".parse::<Cidr>().unwrap_err();
        assert_eq!(refusal.remedy, "write `10.0.0.0/8`, or `10.1.2.3/32`");
        let refusal = "::ffff:10.0.0.0/104".parse::<Cidr>().unwrap_err();
        assert_eq!(refusal.remedy, "write `10.0.0.0/8`");
    }

    #[test]
    fn no_ipv6_network_reaches_ipv4() {
        for text in [
            "::/0",
            "::/1",
            "::/80",
            "::ffff:0:0/96",
            "::ffff:1.2.3.4/128",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "::1/129",
            "010.0.0.0/8",
            "10.0.0/8",
            "example.com/8",
            "10.0.0.0/8/8",
            "fe80::1%lo/64",
            "10.0.0.1",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
