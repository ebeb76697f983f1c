//! Addresses that a name of the internet has no business with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is one of the internet's own: not this host, its networks, its provider's
/// metadata, nor a way to write one of these in another form. By the registries of special-purpose
/// addresses (RFC 6890), but for those that are for examples, which lead nowhere.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public4(v4),
        IpAddr::V6(v6) => is_public6(v6),
    }
}

fn is_public4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let special = match first {
        // This network, private, loopback.
        0 | 10 | 127 => true,
        // Carriers' (RFC 6598).
        100 => second & 0xc0 == 64,
        // Link-local; the metadata of clouds.
        169 => second == 254,
        172 => second & 0xf0 == 16,
        // Private, and protocols' (RFC 6890, 2.2.2).
        192 => second == 168 || second == 0 && third == 0,
        // Tests of devices (RFC 2544).
        198 => second & 0xfe == 18,
        // Multicast, reserved, broadcast.
        _ => first >= 224,
    };
    !special
}

fn is_public6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [first, second, ..] = segments;
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Unspecified, loopback, mapped, compatible, translated.
        [0, 0, 0, 0, ..] => match address.to_ipv4_mapped() {
            Some(v4) => is_public4(v4),
            None => false,
        },
        // Translation by a well-known prefix (RFC 6052), 6to4 (RFC 3056).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // Translation by a prefix of a network's own (RFC 8215), discard-only (RFC 6666).
        [0x64, 0xff9b, 1, ..] | [0x100, 0, 0, 0, ..] => false,
        // Teredo and its neighbours (RFC 2928).
        [0x2001, second, ..] if second < 0x200 => false,
        // Unique local, link-local, site-local of old, multicast. Everything else is of 2000::/3.
        _ => first & 0xe000 == 0x2000 && (first, second) != (0x3fff, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_networks_and_metadata_are_not_public_in_any_form() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.251",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2001::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "100::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        for text in [
            "1.1.1.1",
            "9.9.9.9",
            "100.63.255.255",
            "100.128.0.1",
            "169.253.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.2.1",
            "192.167.0.1",
            "198.17.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "223.255.255.1",
            "2001:db8::1",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }
}
