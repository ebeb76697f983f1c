//! Rules on names of hosts, and what they make of the addresses that the names turn out to have.

use std::{collections::HashMap, net::IpAddr};

use skillsandbox_common::{
    header::Reason,
    rule::{Decision, NetworkRule, PortRange, Protocols},
};

use super::{CompileError, Network, RuleSet, Subject, compile::merged};
use crate::manifest::DomainPattern;

/// Names of public resolvers over HTTPS and TLS, through which any name can be asked: a wildcard does
/// not cover them, they are declared by themselves or not at all.
pub const RESOLVERS: &[&str] = &[
    "chrome.cloudflare-dns.com",
    "cloudflare-dns.com",
    "dns.adguard-dns.com",
    "dns.alidns.com",
    "dns.controld.com",
    "dns.google",
    "dns.google.com",
    "dns.mullvad.net",
    "dns.nextdns.io",
    "dns.quad9.net",
    "dns.sb",
    "dns10.quad9.net",
    "dns11.quad9.net",
    "dns9.quad9.net",
    "dns64.dns.google",
    "doh.cleanbrowsing.org",
    "doh.dns.sb",
    "doh.familyshield.opendns.com",
    "doh.opendns.com",
    "doh.pub",
    "dot.pub",
    "family.cloudflare-dns.com",
    "freedns.controld.com",
    "mozilla.cloudflare-dns.com",
    "one.one.one.one",
    "security.cloudflare-dns.com",
    "unfiltered.adguard-dns.com",
];

/// Whether the answer that gave a name an address still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It does.
    Fresh,
    /// Its time has passed: what is connected goes on, nothing connects any more.
    Aged,
}

/// The rules on names, to be asked often.
#[derive(Debug, Default)]
pub struct HostRules {
    exact: HashMap<String, Vec<u16>>,
    wildcards: Vec<(DomainPattern, u16)>,
}

impl HostRules {
    /// Those of a rule set.
    #[must_use]
    pub fn of(rules: &RuleSet) -> Self {
        let mut of = Self::default();
        for (number, rule) in rules.numbered() {
            match &rule.subject {
                Subject::Host {
                    pattern: DomainPattern::Exact(name),
                    ..
                } => of.exact.entry(name.clone()).or_default().push(number),
                Subject::Host { pattern, .. } => of.wildcards.push((pattern.clone(), number)),
                _ => {}
            }
        }
        of
    }

    /// What [`RuleSet::naming`] says.
    #[must_use]
    pub fn naming(&self, name: &str) -> Vec<u16> {
        let wild = self.wildcards.iter();
        let wild = wild.filter(|(pattern, _)| names(pattern, name));
        let mut numbers = self.exact.get(name).cloned().unwrap_or_default();
        numbers.extend(wild.map(|(_, number)| *number));
        numbers.sort_unstable();
        numbers
    }

    /// Whether a rule has this name itself, not only a wildcard above it.
    #[must_use]
    pub fn states(&self, name: &str) -> bool {
        self.exact.contains_key(name)
    }
}

impl RuleSet {
    /// Numbers of the rules that cover a name, which is in lower case and without the last dot.
    pub fn naming<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u16> + 'a {
        self.numbered()
            .filter_map(move |(number, rule)| match &rule.subject {
                Subject::Host { pattern, .. } if names(pattern, name) => Some(number),
                _ => None,
            })
    }

    /// Whether a rule is about hosts by their names.
    #[must_use]
    pub fn names_hosts(&self) -> bool {
        let mut rules = self.rules().iter();
        rules.any(|rule| matches!(rule.subject, Subject::Host { .. }))
    }

    /// Whether a rule on addresses covers this one, whatever the port.
    #[must_use]
    pub fn covers_address(&self, address: IpAddr) -> bool {
        let address = Network::host(address).address();
        self.rules().iter().any(|rule| {
            matches!(&rule.subject, Subject::Address { network, .. } if network.contains(address))
        })
    }

    /// Decides on reaching a host by its name at `port` with one bit of [`Protocols`], whatever
    /// addresses it has.
    #[must_use]
    pub fn decide_host(&self, name: &str, port: u16, protocol: u16) -> Decision {
        let mut covered = false;
        for number in self.naming(name) {
            covered = true;
            if let Some(range) = self.range(number, Age::Fresh)
                && range.protocols & protocol != 0
                && (range.first..=range.last).contains(&port)
            {
                return Decision::allow(number);
            }
        }
        let reason = if covered {
            Reason::NotGranted
        } else {
            Reason::NoRule
        };
        Decision::deny(reason, 0)
    }

    /// The kernel's rule on one address, which names have by the rules of these numbers; `None` where
    /// nothing is to be said of this very address.
    pub fn compile_address(
        &self,
        address: IpAddr,
        named: &[(u16, Age)],
    ) -> Result<Option<NetworkRule>, CompileError> {
        let network = Network::host(address);
        let of = |wanted: &dyn Fn(&Network) -> bool| -> Vec<(u8, PortRange)> {
            let rules = self.numbered();
            rules
                .filter_map(|(number, rule)| match rule.subject {
                    Subject::Address {
                        network,
                        first,
                        last,
                        protocols,
                    } if wanted(&network) => Some((
                        network.prefix_bits(),
                        PortRange {
                            first,
                            last,
                            protocols,
                            rule: number,
                        },
                    )),
                    _ => None,
                })
                .collect()
        };
        let own = of(&|stated| *stated == network);
        if own.is_empty() && named.is_empty() {
            return Ok(None);
        }
        let mut wider = of(&|stated| *stated != network && stated.covers(&network));
        // The narrowest first, as a lookup would find them.
        wider.sort_by_key(|(bits, _)| std::cmp::Reverse(*bits));
        let named = named
            .iter()
            .filter_map(|(number, age)| self.range(*number, *age));
        let ranges = own
            .into_iter()
            .map(|(_, range)| range)
            .chain(named)
            .chain(wider.into_iter().map(|(_, range)| range));
        merged(network, ranges).map(Some)
    }

    fn range(&self, number: u16, age: Age) -> Option<PortRange> {
        match self.get(number.into())?.subject {
            Subject::Host {
                first,
                last,
                protocols,
                ..
            } => Some(PortRange {
                first,
                last,
                protocols: match age {
                    Age::Fresh => protocols,
                    Age::Aged => Protocols::aged(protocols),
                },
                rule: number,
            }),
            _ => None,
        }
    }
}

/// A name that is written with an escape is no host's, and could be read as another.
fn names(pattern: &DomainPattern, name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.bytes().all(is_plain) {
        return false;
    }
    match pattern {
        DomainPattern::Exact(_) => pattern.covers(name),
        DomainPattern::Below(_) => pattern.covers(name) && !RESOLVERS.contains(&name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> RuleSet {
        let mut rules = RuleSet::default();
        let mut host = |pattern: &str, port| {
            let pattern = pattern.parse().unwrap();
            let (first, last, protocols) = (port, port, Protocols::TCP);
            let subject = Subject::Host {
                pattern,
                first,
                last,
                protocols,
            };
            rules.push(subject, "network.egress", None);
        };
        host("api.example.com", 443);
        host("*.example.com", 80);
        host("*.cloudflare-dns.com", 443);
        rules.push(
            Subject::Address {
                network: Network::new([10, 0, 0, 0].into(), 8).unwrap(),
                first: 22,
                last: 22,
                protocols: Protocols::TCP,
            },
            "network.egress 10.0.0.0/8",
            None,
        );
        rules
    }

    #[test]
    fn a_wildcard_covers_every_depth_and_not_the_apex() {
        let rules = rules();
        let hosts = HostRules::of(&rules);
        let numbers = |name| {
            let numbers: Vec<_> = rules.naming(name).collect();
            assert_eq!(hosts.naming(name), numbers, "{name}");
            numbers
        };
        assert_eq!(numbers("api.example.com"), [1, 2]);
        assert_eq!(numbers("a.b.c.example.com"), [2]);
        assert!(numbers("example.com").is_empty());
        assert!(numbers("badexample.com").is_empty());
        assert!(numbers("example.com.evil.net").is_empty());
        assert!(numbers("a\\.example.com").is_empty());
        assert!(numbers("a\\046b.example.com").is_empty());
    }

    #[test]
    fn a_resolver_for_all_names_is_declared_by_itself_or_not_at_all() {
        let rules = rules();
        assert_eq!(rules.naming("mozilla.cloudflare-dns.com").count(), 0);
        assert_eq!(rules.naming("other.cloudflare-dns.com").count(), 1);
        let hosts = HostRules::of(&rules);
        assert!(hosts.naming("mozilla.cloudflare-dns.com").is_empty());
        assert!(hosts.states("api.example.com") && !hosts.states("b.example.com"));
    }

    #[test]
    fn an_address_has_the_ports_of_its_names_and_of_the_networks_around_it() {
        let rules = rules();
        let address = IpAddr::from([10, 1, 2, 3]);
        let fresh = rules
            .compile_address(address, &[(1, Age::Fresh), (2, Age::Aged)])
            .unwrap()
            .unwrap();
        let decide = |port, protocols| fresh.decide(port, protocols);
        assert_eq!(decide(443, Protocols::TCP), Decision::allow(1));
        assert_eq!(decide(22, Protocols::TCP), Decision::allow(4));
        assert_eq!(
            decide(80, Protocols::TCP),
            Decision::deny(Reason::NotGranted, 0)
        );
        let connected = Protocols::TCP | Protocols::aged(Protocols::TCP);
        assert_eq!(decide(80, connected), Decision::allow(2));
        assert_eq!(rules.compile_address(address, &[]).unwrap(), None);
    }

    #[test]
    fn a_name_is_reached_at_the_ports_that_its_rules_have() {
        let rules = rules();
        let decide = |name, port| rules.decide_host(name, port, Protocols::TCP);
        assert_eq!(decide("api.example.com", 443), Decision::allow(1));
        assert_eq!(decide("api.example.com", 80), Decision::allow(2));
        assert_eq!(
            decide("other.example.com", 443),
            Decision::deny(Reason::NotGranted, 0)
        );
        assert_eq!(
            decide("example.org", 443),
            Decision::deny(Reason::NoRule, 0)
        );
    }
}
