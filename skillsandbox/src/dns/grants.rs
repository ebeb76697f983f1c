//! Answers as rules: what a name turns out to have may be reached at the name's ports.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use skillsandbox_common::rule::NetworkRule;

use super::{
    public::is_public,
    table::{Given, Table},
};
use crate::{
    audit::{
        describe::Names,
        record::{AddressChange, Change, StatedRule},
    },
    isolate::firewall::{Firewall, FirewallError},
    kernel::{AddressRules, KernelError, NAMED_ADDRESSES_MAX},
    policy::{Age, CompileError, HostRules, Network, RuleSet},
};

/// Why an address cannot be given to a name.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// More addresses than there is room for.
    #[error(
        "the names of this sandbox have {NAMED_ADDRESSES_MAX} addresses, the most there can be"
    )]
    Full,
    /// Its ports do not fit.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A firewall was not to be told.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// Who tells the firewalls ended.
    #[error("the firewalls were not told: {0}")]
    NotTold(#[from] tokio::task::JoinError),
}

/// The addresses of the names of one sandbox, here, in the kernel and in the firewalls.
#[derive(Debug)]
pub struct Grants {
    hosts: HostRules,
    state: Mutex<State>,
    firewalls: Arc<tokio::sync::Mutex<Firewalls>>,
}

#[derive(Debug)]
struct State {
    rules: RuleSet,
    table: Table,
    /// None where nothing decides on addresses: in a build for tests.
    kernel: Option<AddressRules>,
    /// What the firewalls were not told yet.
    untold: Vec<(Network, Option<NetworkRule>)>,
    /// Changes so far.
    changes: u64,
    /// The addresses of those that the firewalls may not say yet, with the number of the last.
    unsettled: BTreeMap<IpAddr, u64>,
    /// Whose rules decide in the place of these.
    successor: Option<Arc<Grants>>,
}

/// Telling them takes milliseconds, in which others ask. So whoever has waited for its turn tells of all
/// that has changed since, and the others find that done.
#[derive(Debug)]
struct Firewalls {
    all: Vec<Firewall>,
    /// Changes that they were told of.
    told: u64,
}

impl Firewalls {
    /// Tells all of them, and says how the first failed that did. Each makes up for that itself when it is
    /// told of something next.
    fn tell(&mut self, changes: &[(Network, Option<NetworkRule>)]) -> Result<(), FirewallError> {
        let outcomes = self.all.iter_mut().map(|one| one.set(changes));
        outcomes.fold(Ok(()), Result::and)
    }
}

impl Grants {
    /// For the sandbox of these rules, which are in force in the kernel and in the firewalls.
    #[must_use]
    pub fn new(rules: RuleSet, kernel: Option<AddressRules>, firewalls: Vec<Firewall>) -> Self {
        Self {
            hosts: HostRules::of(&rules),
            state: Mutex::new(State {
                rules,
                table: Table::new(NAMED_ADDRESSES_MAX),
                kernel,
                untold: Vec::new(),
                changes: 0,
                unsettled: BTreeMap::new(),
                successor: None,
            }),
            firewalls: Arc::new(tokio::sync::Mutex::new(Firewalls {
                all: firewalls,
                told: 0,
            })),
        }
    }

    /// Number of the first rule that covers this name.
    pub(super) fn rule_of(&self, name: &str) -> Option<u16> {
        self.hosts.naming(name).first().copied()
    }

    /// A rule, for the record.
    pub(super) fn stated(&self, number: u16) -> Option<StatedRule> {
        let state = self.state();
        let rule = state.rules.get(number.into())?;
        Some(StatedRule {
            number: number.into(),
            text: rule.text.clone(),
            line: rule.line,
        })
    }

    /// Whether the manifest has this name itself, not only a wildcard.
    pub(super) fn is_stated(&self, name: &str) -> bool {
        self.hosts.states(name)
    }

    /// Whether a name may have this address: a public one, or one that a rule on addresses covers. Or
    /// a name could be made to lead into the host's own networks.
    pub(super) fn may_have(&self, address: IpAddr) -> bool {
        is_public(address) || self.state().rules.covers_address(address)
    }

    /// Lets the addresses of an answer be reached, each for so many seconds, as far as the kernel's
    /// programs decide; [`settle`](Self::settle) has the firewalls agree. Says what changed, also where it
    /// fails on the way.
    pub(super) fn grant(
        &self,
        name: &str,
        addresses: &[(IpAddr, u32)],
        now: Instant,
    ) -> (Vec<AddressChange>, Result<(), GrantError>) {
        let mut state = self.state();
        if let Some(successor) = &state.successor {
            // An answer to a question that was asked before.
            let successor = Arc::clone(successor);
            drop(state);
            return successor.grant(name, addresses, now);
        }
        let mut changes = Vec::new();
        for (address, ttl) in addresses {
            match state.give(&self.hosts, name, *address, *ttl, now) {
                Ok(true) => changes.push(AddressChange {
                    change: Change::Granted,
                    name: name.to_owned(),
                    address: *address,
                    seconds: Some(Table::seconds(*ttl)),
                }),
                Ok(false) => {}
                Err(error) => return (changes, Err(error)),
            }
        }
        (changes, Ok(()))
    }

    /// Takes back what is over, as [`grant`](Self::grant) gives it.
    pub(super) fn expire(&self, now: Instant) -> (Vec<AddressChange>, Result<(), GrantError>) {
        let mut state = self.state();
        let mut changes = Vec::new();
        let mut outcome = Ok(());
        for (address, name) in state.table.age(now) {
            match state.apply(&self.hosts, address) {
                Ok(()) => changes.push(AddressChange {
                    change: Change::Expired,
                    name,
                    address,
                    seconds: None,
                }),
                Err(error) => outcome = Err(error),
            }
        }
        (changes, outcome)
    }

    /// Has other rules decide: `switch` does that. Names that these cover keep their addresses, and no answer that is given
    /// meanwhile is forgotten.
    pub fn hand_over<E: From<GrantError>>(
        &self,
        successor: &Arc<Self>,
        switch: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = self.state();
        successor.adopt(&state.table)?;
        switch()?;
        state.successor = Some(Arc::clone(successor));
        Ok(())
    }

    fn adopt(&self, table: &Table) -> Result<(), GrantError> {
        let mut state = self.state();
        for (address, names) in table.all() {
            let covered = names
                .iter()
                .filter(|named| self.rule_of(&named.name).is_some());
            let covered: Vec<_> = covered.cloned().collect();
            let may_have = is_public(address) || state.rules.covers_address(address);
            if may_have && !covered.is_empty() && state.table.take_over(address, covered) {
                state.apply(&self.hosts, address)?;
            }
        }
        Ok(())
    }

    /// Waits until the firewalls say what has changed of these addresses.
    pub(super) async fn settle(&self, addresses: &[IpAddr]) -> Result<(), GrantError> {
        let wanted = {
            let state = self.state();
            let numbers = addresses.iter().map(|address| state.unsettled.get(address));
            numbers.max().flatten().copied()
        };
        let Some(wanted) = wanted else {
            return Ok(());
        };
        let mut firewalls = Arc::clone(&self.firewalls).lock_owned().await;
        if firewalls.told >= wanted {
            return Ok(());
        }
        let (untold, last) = {
            let mut state = self.state();
            (std::mem::take(&mut state.untold), state.changes)
        };
        let told = tokio::task::spawn_blocking(move || {
            firewalls.tell(&untold)?;
            firewalls.told = last;
            Ok(())
        });
        told.await?.inspect(|()| {
            self.state().unsettled.retain(|_, number| *number > last);
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a thread that panicked left is whole: each change is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the name did not have the address before.
    fn give(
        &mut self,
        hosts: &HostRules,
        name: &str,
        address: IpAddr,
        ttl: u32,
        now: Instant,
    ) -> Result<bool, GrantError> {
        let mut given = self.table.give(name, address, ttl, now);
        if given == Given::Full
            && let Some(oldest) = self.table.oldest()
        {
            self.table.forget(oldest);
            self.apply(hosts, oldest)?;
            given = self.table.give(name, address, ttl, now);
        }
        match given {
            Given::Again => Ok(false),
            Given::Full => Err(GrantError::Full),
            Given::Now => {
                if let Err(error) = self.apply(hosts, address) {
                    self.table.forget(address);
                    // What the other names of the address had goes with it, in the kernel as well.
                    self.apply(hosts, address)?;
                    return Err(error);
                }
                Ok(true)
            }
        }
    }

    /// Has the kernel decide on an address as the table says.
    fn apply(&mut self, hosts: &HostRules, address: IpAddr) -> Result<(), GrantError> {
        let mut named: Vec<(u16, Age)> = Vec::new();
        for entry in self.table.of(address) {
            let rules = hosts.naming(&entry.name).into_iter();
            named.extend(rules.map(|rule| (rule, entry.age)));
        }
        // Fresh before aged, so that the same ports of two names are told of by the one that counts.
        named.sort_by_key(|(rule, age)| (*age == Age::Aged, *rule));
        named.dedup();
        let rule = self.rules.compile_address(address, &named)?;
        let network = Network::host(address);
        if let Some(kernel) = &mut self.kernel {
            kernel.set(network, rule.as_ref())?;
        }
        self.untold.push((network, rule));
        self.changes += 1;
        self.unsettled.insert(address, self.changes);
        Ok(())
    }
}

impl Names for Grants {
    fn name_of(&self, address: IpAddr) -> Option<String> {
        let state = self.state();
        let names = state.table.of(address);
        let fresh = names.iter().find(|named| named.age == Age::Fresh);
        fresh.or(names.first()).map(|named| named.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use skillsandbox_common::rule::Protocols;

    use super::*;
    use crate::policy::Subject;

    fn grants() -> Grants {
        let mut rules = RuleSet::default();
        rules.push(
            Subject::Host {
                pattern: "*.example.com".parse().unwrap(),
                first: 443,
                last: 443,
                protocols: Protocols::TCP,
            },
            "network.egress",
            None,
        );
        rules.push(
            Subject::Address {
                network: Network::new([10, 0, 0, 0].into(), 8).unwrap(),
                first: 1,
                last: 1,
                protocols: Protocols::TCP,
            },
            "network.egress",
            None,
        );
        Grants::new(rules, None, Vec::new())
    }

    #[test]
    fn an_address_is_granted_once_and_taken_back_once() {
        let grants = grants();
        let now = Instant::now();
        let address = IpAddr::from([192, 0, 2, 1]);
        let grant = |name| grants.grant(name, &[(address, 60)], now).0;
        let changes = grant("a.example.com");
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].seconds, Some(60));
        assert!(grant("a.example.com").is_empty());
        assert_eq!(grants.name_of(address).as_deref(), Some("a.example.com"));
        let (changes, outcome) = grants.expire(now + Duration::from_secs(61));
        assert!(outcome.is_ok());
        assert_eq!(changes[0].change, Change::Expired);
        let again = grants.expire(now + Duration::from_secs(99)).0;
        assert!(again.is_empty());
    }

    #[test]
    fn a_private_address_takes_a_rule_on_addresses() {
        let grants = grants();
        assert!(grants.may_have([192, 0, 2, 1].into()));
        assert!(grants.may_have([10, 9, 9, 9].into()));
        assert!(!grants.may_have([127, 0, 0, 1].into()));
        assert!(!grants.may_have([169, 254, 169, 254].into()));
    }
}
