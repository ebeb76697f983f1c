//! Rules as lines of iptables.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    net::{Ipv4Addr, Ipv6Addr},
};

use skillsandbox_common::rule::{NetworkRule, Protocols};

use crate::policy::Network;

/// A family of addresses, which has tables and programs of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `iptables`.
    V4,
    /// `ip6tables`.
    V6,
}

impl Family {
    /// The program, and the name of the layer.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::V4 => "iptables",
            Self::V6 => "ip6tables",
        }
    }

    /// All of its addresses.
    pub(super) fn every(self) -> Network {
        match self {
            Self::V4 => Network::host(Ipv4Addr::UNSPECIFIED.into()).widened(96),
            Self::V6 => Network::host(Ipv6Addr::UNSPECIFIED.into()).widened(0),
        }
    }

    fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.1",
            Self::V6 => "::1",
        }
    }
}

/// The first chain's lines after those of the rules.
pub(super) const LAST: [&str; 2] = ["-p tcp -j REJECT --reject-with tcp-reset", "-j REJECT"];

/// What the chains of a sandbox say in one family.
pub(super) struct Content<'a> {
    pub(super) family: Family,
    /// Port of the sandbox's name server at loopback, or 0.
    pub(super) name_server: u16,
    /// Ports that others may call, over TCP.
    pub(super) listen: &'a NetworkRule,
    /// Those of this family.
    pub(super) rules: &'a BTreeMap<Network, NetworkRule>,
}

impl Content<'_> {
    /// The first chain's lines before those of the rules.
    pub(super) fn first(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.name_server != 0 {
            for protocol in ["udp", "tcp"] {
                let (host, port) = (self.family.loopback(), self.name_server);
                lines.push(format!("-d {host} -p {protocol} --dport {port} -j ACCEPT"));
            }
        }
        for range in self.listen.stated() {
            // What answers a call, and calls nobody.
            let (first, last) = (range.first, range.last);
            lines.push(format!("-p tcp ! --syn --sport {first}:{last} -j ACCEPT"));
        }
        lines
    }

    /// The lines of one network.
    pub(super) fn accepts_of(&self, network: &Network) -> Vec<Accept> {
        let rule = self.rules.get(network);
        rule.map_or_else(Vec::new, |rule| accepts(network, rule))
    }
}

/// One line that lets something through.
pub(super) struct Accept {
    to: Network,
    protocol: &'static str,
    ports: (u16, u16),
    /// Whether only what is connected goes on.
    connected: bool,
}

impl Display for Accept {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (first, last) = self.ports;
        write!(f, "-d {} -p {}", self.to, self.protocol)?;
        if self.connected {
            write!(f, " ! --syn")?;
        }
        write!(f, " --dport {first}:{last} -j ACCEPT")
    }
}

/// Other protocols than TCP and UDP are let out by no rule.
fn accepts(network: &Network, rule: &NetworkRule) -> Vec<Accept> {
    let mut accepts = Vec::new();
    for range in rule.stated() {
        for (protocol, bit) in [("tcp", Protocols::TCP), ("udp", Protocols::UDP)] {
            let fresh = range.protocols & bit != 0;
            let aged = range.protocols & Protocols::aged(bit) != 0;
            if fresh || aged {
                accepts.push(Accept {
                    to: *network,
                    protocol,
                    ports: (range.first, range.last),
                    // A datagram does not say whether its socket is connected.
                    connected: !fresh && protocol == "tcp",
                });
            }
        }
    }
    accepts
}

#[cfg(test)]
mod tests {
    use skillsandbox_common::rule::PortRange;

    use super::*;

    #[test]
    fn what_is_aged_goes_on_and_does_not_begin() {
        let mut rule = NetworkRule::default();
        rule.ranges[0] = PortRange {
            first: 1,
            last: 2,
            protocols: Protocols::aged(Protocols::TCP | Protocols::UDP),
            rule: 1,
        };
        let host = Network::host([192, 0, 2, 1].into());
        let lines = accepts(&host, &rule)
            .iter()
            .map(Accept::to_string)
            .collect::<Vec<_>>();
        assert_eq!(
            lines,
            [
                "-d 192.0.2.1/32 -p tcp ! --syn --dport 1:2 -j ACCEPT",
                "-d 192.0.2.1/32 -p udp --dport 1:2 -j ACCEPT"
            ]
        );
    }

    #[test]
    fn every_address_is_every_address_of_its_family() {
        assert_eq!(Family::V4.every().to_string(), "0.0.0.0/0");
        assert_eq!(Family::V6.every().to_string(), "::/0");
    }
}
