//! Which addresses names were given, and until when.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::policy::Age;

/// How long an address stays a name's, whatever its answer said.
const AT_LEAST: Duration = Duration::from_secs(30);
const AT_MOST: Duration = Duration::from_hours(1);
/// Most names that one address has at a time.
const NAMES_MAX: usize = 64;
/// Who was told an address may use it until the last moment.
const GRACE: Duration = Duration::from_secs(1);

/// A name that an address has or had.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) age: Age,
    until: Instant,
}

/// The addresses of one sandbox's names.
#[derive(Debug)]
pub(super) struct Table {
    addresses: BTreeMap<IpAddr, Vec<Named>>,
    most: usize,
}

/// What came of giving a name an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// It did not have it: rules must be made.
    Now,
    /// It had it already, and has it longer now.
    Again,
    /// There is no room.
    Full,
}

impl Table {
    /// With room for so many addresses.
    pub(super) fn new(most: usize) -> Self {
        Self {
            addresses: BTreeMap::new(),
            most,
        }
    }

    /// Seconds that an answer's `ttl` counts for.
    pub(super) fn seconds(ttl: u32) -> u64 {
        Duration::from_secs(ttl.into())
            .clamp(AT_LEAST, AT_MOST)
            .as_secs()
    }

    /// Gives a name an address for `ttl` seconds, within limits.
    pub(super) fn give(&mut self, name: &str, address: IpAddr, ttl: u32, now: Instant) -> Given {
        let until = now + Duration::from_secs(Self::seconds(ttl)) + GRACE;
        if !self.addresses.contains_key(&address) && self.addresses.len() >= self.most {
            return Given::Full;
        }
        let names = self.addresses.entry(address).or_default();
        if let Some(named) = names.iter_mut().find(|named| named.name == name) {
            named.until = named.until.max(until);
            return match std::mem::replace(&mut named.age, Age::Fresh) {
                Age::Fresh => Given::Again,
                Age::Aged => Given::Now,
            };
        }
        if names.len() >= NAMES_MAX {
            match names.iter().position(|named| named.age == Age::Aged) {
                Some(over) => drop(names.swap_remove(over)),
                None => return Given::Full,
            }
        }
        names.push(Named {
            name: name.to_owned(),
            age: Age::Fresh,
            until,
        });
        Given::Now
    }

    /// All addresses, with the names that each has or had.
    pub(super) fn all(&self) -> impl Iterator<Item = (IpAddr, &[Named])> {
        let addresses = self.addresses.iter();
        addresses.map(|(address, names)| (*address, names.as_slice()))
    }

    /// Takes an address over with names of it from another table. Whether there was room for it.
    pub(super) fn take_over(&mut self, address: IpAddr, names: Vec<Named>) -> bool {
        let fits = self.addresses.len() < self.most;
        if fits {
            self.addresses.insert(address, names);
        }
        fits
    }

    /// The names that an address has or had.
    pub(super) fn of(&self, address: IpAddr) -> &[Named] {
        self.addresses.get(&address).map_or(&[], Vec::as_slice)
    }

    /// Ages what is over, and says of which addresses.
    pub(super) fn age(&mut self, now: Instant) -> Vec<(IpAddr, String)> {
        let mut aged = Vec::new();
        for (address, names) in &mut self.addresses {
            for named in names {
                if named.age == Age::Fresh && named.until <= now {
                    named.age = Age::Aged;
                    aged.push((*address, named.name.clone()));
                }
            }
        }
        aged
    }

    /// Forgets an address.
    pub(super) fn forget(&mut self, address: IpAddr) {
        self.addresses.remove(&address);
    }

    /// An address that no name has any more, the one that was over first.
    pub(super) fn oldest(&self) -> Option<IpAddr> {
        let over = |names: &Vec<Named>| names.iter().all(|named| named.age == Age::Aged);
        self.addresses
            .iter()
            .filter(|(_, names)| over(names))
            .min_by_key(|(_, names)| names.iter().map(|named| named.until).max())
            .map(|(address, _)| *address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn ages(table: &Table) -> Vec<(&str, Age)> {
        let names = table.of(ADDRESS).iter();
        names
            .map(|named| (named.name.as_str(), named.age))
            .collect()
    }

    #[test]
    fn an_address_is_a_names_for_half_a_minute_at_least_and_an_hour_at_most() {
        assert_eq!(Table::seconds(0), 30);
        assert_eq!(Table::seconds(300), 300);
        assert_eq!(Table::seconds(u32::MAX), 3600);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut table = Table::new(8);
        assert_eq!(table.give("a", ADDRESS, 5, start), Given::Now);
        assert!(table.age(after(30)).is_empty());
        assert_eq!(table.age(after(31)), [(ADDRESS, "a".to_owned())]);
        assert!(table.age(after(32)).is_empty(), "told once");
        assert_eq!(ages(&table), [("a", Age::Aged)]);
    }

    #[test]
    fn a_later_answer_makes_it_longer_and_an_earlier_end_does_not_make_it_shorter() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut table = Table::new(8);
        table.give("a", ADDRESS, 600, start);
        assert_eq!(table.give("a", ADDRESS, 30, after(10)), Given::Again);
        assert!(table.age(after(599)).is_empty());
        assert_eq!(table.give("b", ADDRESS, 30, after(599)), Given::Now);
        assert_eq!(table.age(after(602)).len(), 1);
        assert_eq!(ages(&table), [("a", Age::Aged), ("b", Age::Fresh)]);
        assert_eq!(table.give("a", ADDRESS, 30, after(610)), Given::Now);
        assert_eq!(ages(&table), [("a", Age::Fresh), ("b", Age::Fresh)]);
    }

    #[test]
    fn an_address_has_so_many_names_and_no_more() {
        let start = Instant::now();
        let mut table = Table::new(1);
        for number in 0..NAMES_MAX {
            let name = format!("name-{number}");
            assert_eq!(table.give(&name, ADDRESS, 0, start), Given::Now);
        }
        assert_eq!(table.give("one-more", ADDRESS, 0, start), Given::Full);
        table.age(start + AT_MOST);
        assert_eq!(table.give("one-more", ADDRESS, 0, start), Given::Now);
        assert_eq!(table.of(ADDRESS).len(), NAMES_MAX);
    }

    #[test]
    fn a_full_table_takes_no_more_until_one_that_is_over_is_forgotten() {
        let start = Instant::now();
        let mut table = Table::new(1);
        table.give("a", ADDRESS, 0, start);
        let other = IpAddr::from([192, 0, 2, 2]);
        assert_eq!(table.give("a", other, 0, start), Given::Full);
        assert_eq!(table.oldest(), None);
        table.age(start + AT_MOST);
        assert_eq!(table.oldest(), Some(ADDRESS));
        table.forget(ADDRESS);
        assert_eq!(table.give("a", other, 0, start), Given::Now);
    }
}
