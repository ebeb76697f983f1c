//! What `iptables-restore` reads, for one sandbox: a chain of its own, asked for what leaves its
//! cgroup.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter, Write},
    path::PathBuf,
};

use skillsandbox_common::rule::{NetworkRule, Protocols};

use crate::{isolate::cgroup::place_of, policy::Network};

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

    /// The addresses of a network that are of this family, as the program reads them.
    fn of(self, network: &Network) -> Option<String> {
        (network.is_ipv4() == (self == Self::V4)).then(|| network.to_string())
    }

    fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.1",
            Self::V6 => "::1",
        }
    }
}

/// The chain of a sandbox and what leads there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Its name: at most 28 bytes (`XT_EXTENSION_MAXNAMELEN`, `include/uapi/linux/netfilter/x_tables.h`).
    name: String,
    /// The cgroup, from the root of the hierarchy on.
    cgroup: PathBuf,
}

impl Chain {
    /// For the sandbox of this id, whose last part is a number of eight digits.
    pub(super) fn new(id: &str) -> Self {
        let number: String = id.chars().rev().take(8).collect();
        let number: String = number.chars().rev().collect();
        Self {
            name: format!("SKILLSANDBOX-{number}"),
            cgroup: place_of(id),
        }
    }

    fn jump(&self) -> String {
        format!(
            "OUTPUT -m cgroup --path \"{}\" -j {}",
            self.cgroup.display(),
            self.name
        )
    }

    /// Makes the chain, and has the cgroup's packets asked about. It refuses one port of UDP.
    pub(super) fn make(&self, refused: u16) -> String {
        format!(
            "*filter\n:{name} - [0:0]\n-A {name} -p udp --dport {refused} -j REJECT\n-I {}\nCOMMIT\n",
            self.jump(),
            name = self.name,
        )
    }

    /// Has the chain say this, and nothing else.
    pub(super) fn replace(&self, content: &Content<'_>) -> String {
        format!(
            "*filter\n:{} - [0:0]\n{}COMMIT\n",
            self.name,
            content.of(self)
        )
    }

    /// Has the chain let one network through as well.
    pub(super) fn add(&self, family: Family, network: &Network, rule: &NetworkRule) -> String {
        let mut lines = String::new();
        for accept in accepts(family, network, rule) {
            let _infallible = writeln!(lines, "-I {} 1 {accept}", self.name);
        }
        format!("*filter\n{lines}COMMIT\n")
    }

    /// Takes away what a listing of the table has of it: others may have taken a part of it. Nothing
    /// where it has nothing.
    pub(super) fn remove(&self, listing: &str) -> Option<String> {
        let has = |start: &str, end: &str| {
            let mut lines = listing.lines().map(str::trim_end);
            lines.any(|line| line.starts_with(start) && line.ends_with(end))
        };
        let mut text = String::new();
        if has("-A OUTPUT ", &format!(" -j {}", self.name)) {
            let _infallible = writeln!(text, "-D {}", self.jump());
        }
        if has("-N ", &format!(" {}", self.name)) {
            let _infallible = writeln!(text, "-F {name}\n-X {name}", name = self.name);
        }
        (!text.is_empty()).then(|| format!("*filter\n{text}COMMIT\n"))
    }
}

/// What a chain says.
pub(super) struct Content<'a> {
    pub(super) family: Family,
    /// Port of the sandbox's name server at loopback, or 0.
    pub(super) name_server: u16,
    /// Ports that others may call, over TCP.
    pub(super) listen: &'a NetworkRule,
    pub(super) rules: &'a BTreeMap<Network, NetworkRule>,
}

impl Content<'_> {
    fn of(&self, chain: &Chain) -> String {
        let mut text = String::new();
        let mut line = |rule: &dyn Display| {
            let _infallible = writeln!(text, "-A {} {rule}", chain.name);
        };
        if self.name_server != 0 {
            for protocol in ["udp", "tcp"] {
                let (host, port) = (self.family.loopback(), self.name_server);
                line(&format_args!(
                    "-d {host} -p {protocol} --dport {port} -j ACCEPT"
                ));
            }
        }
        for range in self
            .listen
            .ranges
            .iter()
            .take_while(|range| range.rule != 0)
        {
            // What answers a call, and calls nobody.
            let (first, last) = (range.first, range.last);
            line(&format_args!(
                "-p tcp ! --syn --sport {first}:{last} -j ACCEPT"
            ));
        }
        for (network, rule) in self.rules {
            for accept in accepts(self.family, network, rule) {
                line(&accept);
            }
        }
        line(&"-p tcp -j REJECT --reject-with tcp-reset");
        line(&"-j REJECT");
        text
    }
}

/// One line that lets something through.
struct Accept {
    to: String,
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
fn accepts(family: Family, network: &Network, rule: &NetworkRule) -> Vec<Accept> {
    let Some(to) = family.of(network) else {
        return Vec::new();
    };
    let stated = rule.ranges.iter().take_while(|range| range.rule != 0);
    let mut accepts = Vec::new();
    for range in stated {
        for (protocol, bit) in [("tcp", Protocols::TCP), ("udp", Protocols::UDP)] {
            let fresh = range.protocols & bit != 0;
            let aged = range.protocols & Protocols::aged(bit) != 0;
            if fresh || aged {
                accepts.push(Accept {
                    to: to.clone(),
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

    fn rule(first: u16, last: u16, protocols: u16) -> NetworkRule {
        let mut rule = NetworkRule::default();
        rule.ranges[0] = PortRange {
            first,
            last,
            protocols,
            rule: 1,
        };
        rule
    }

    fn chain() -> Chain {
        Chain::new("weather-0123abcd")
    }

    #[test]
    fn a_chain_lets_the_name_server_and_the_rules_through_and_nothing_else() {
        let rules = BTreeMap::from([
            (
                Network::new([192, 0, 2, 0].into(), 24).unwrap(),
                rule(443, 443, Protocols::TCP),
            ),
            (
                Network::new("2001:db8::".parse().unwrap(), 32).unwrap(),
                rule(5000, 5009, Protocols::ANY),
            ),
        ]);
        let (listen, none) = (rule(8000, 8009, Protocols::TCP), NetworkRule::default());
        let content = |family, name_server| Content {
            family,
            name_server,
            listen: if family == Family::V4 { &listen } else { &none },
            rules: &rules,
        };
        assert_eq!(
            chain().replace(&content(Family::V4, 5353)),
            "*filter\n\
             :SKILLSANDBOX-0123abcd - [0:0]\n\
             -A SKILLSANDBOX-0123abcd -d 127.0.0.1 -p udp --dport 5353 -j ACCEPT\n\
             -A SKILLSANDBOX-0123abcd -d 127.0.0.1 -p tcp --dport 5353 -j ACCEPT\n\
             -A SKILLSANDBOX-0123abcd -p tcp ! --syn --sport 8000:8009 -j ACCEPT\n\
             -A SKILLSANDBOX-0123abcd -d 192.0.2.0/24 -p tcp --dport 443:443 -j ACCEPT\n\
             -A SKILLSANDBOX-0123abcd -p tcp -j REJECT --reject-with tcp-reset\n\
             -A SKILLSANDBOX-0123abcd -j REJECT\n\
             COMMIT\n"
        );
        assert_eq!(
            chain().make(1),
            "*filter\n\
             :SKILLSANDBOX-0123abcd - [0:0]\n\
             -A SKILLSANDBOX-0123abcd -p udp --dport 1 -j REJECT\n\
             -I OUTPUT -m cgroup --path \"/skillsandbox/weather-0123abcd\" -j SKILLSANDBOX-0123abcd\n\
             COMMIT\n"
        );
        assert_eq!(
            chain().replace(&content(Family::V6, 0)),
            "*filter\n\
             :SKILLSANDBOX-0123abcd - [0:0]\n\
             -A SKILLSANDBOX-0123abcd -d 2001:db8::/32 -p tcp --dport 5000:5009 -j ACCEPT\n\
             -A SKILLSANDBOX-0123abcd -d 2001:db8::/32 -p udp --dport 5000:5009 -j ACCEPT\n\
             -A SKILLSANDBOX-0123abcd -p tcp -j REJECT --reject-with tcp-reset\n\
             -A SKILLSANDBOX-0123abcd -j REJECT\n\
             COMMIT\n"
        );
    }

    #[test]
    fn what_is_aged_goes_on_and_does_not_begin() {
        let host = Network::host([192, 0, 2, 1].into());
        let aged = Protocols::aged(Protocols::TCP | Protocols::UDP);
        let text = chain().add(Family::V4, &host, &rule(1, 2, aged));
        assert_eq!(
            text,
            "*filter\n\
             -I SKILLSANDBOX-0123abcd 1 -d 192.0.2.1/32 -p tcp ! --syn --dport 1:2 -j ACCEPT\n\
             -I SKILLSANDBOX-0123abcd 1 -d 192.0.2.1/32 -p udp --dport 1:2 -j ACCEPT\n\
             COMMIT\n"
        );
        let six = chain().add(Family::V6, &host, &rule(1, 2, Protocols::TCP));
        assert_eq!(six, "*filter\nCOMMIT\n");
    }

    #[test]
    fn every_address_is_every_address_of_its_family() {
        let any4 = Network::new([0, 0, 0, 0].into(), 0).unwrap();
        let public6 = Network::new("2000::".parse().unwrap(), 3).unwrap();
        assert_eq!(Family::V4.of(&any4).as_deref(), Some("0.0.0.0/0"));
        assert_eq!(Family::V6.of(&any4), None);
        assert_eq!(Family::V6.of(&public6).as_deref(), Some("2000::/3"));
        assert_eq!(Family::V4.of(&public6), None);
    }

    #[test]
    fn what_is_there_of_a_chain_is_removed_and_nothing_else() {
        let chain = chain();
        let made = "-N SKILLSANDBOX-0123abcd\n";
        let jump = "-A OUTPUT -m cgroup --path \"/skillsandbox/weather-0123abcd\" \
            -j SKILLSANDBOX-0123abcd\n";
        let others = "-P INPUT ACCEPT\n-N SKILLSANDBOX-0123abce\n-A OUTPUT -j X\n";
        assert_eq!(chain.remove(others), None);
        let removed = "-F SKILLSANDBOX-0123abcd\n-X SKILLSANDBOX-0123abcd\n";
        assert_eq!(
            chain.remove(&[others, made].concat()),
            Some(format!("*filter\n{removed}COMMIT\n"))
        );
        let detached = jump.replacen("-A", "-D", 1);
        assert_eq!(
            chain.remove(&[made, others, jump].concat()),
            Some(format!("*filter\n{detached}{removed}COMMIT\n"))
        );
    }
}
