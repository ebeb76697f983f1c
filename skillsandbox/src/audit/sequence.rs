//! Which sequence numbers have arrived. A number that has not is a lost record, or a late one.

use std::collections::BTreeMap;

/// Most separate holes that are remembered; of the oldest beyond, only the count is.
pub const HOLES_MAX: usize = 4096;

/// Accounting of the numbers 1, 2, 3, ….
#[derive(Debug, Default)]
pub struct Sequences {
    /// Highest number that arrived.
    highest: u64,
    /// First missing number → last missing number, all below `highest`.
    holes: BTreeMap<u64, u64>,
    /// Numbers missing from holes that were forgotten, all at or below `forgotten_to`.
    forgotten: u64,
    forgotten_to: u64,
    received: u64,
    repeated: u64,
}

impl Sequences {
    /// A number arrived.
    pub fn insert(&mut self, number: u64) {
        if number > self.highest {
            if number - self.highest > 1 {
                self.holes.insert(self.highest + 1, number - 1);
                self.bound();
            }
            self.highest = number;
            self.received += 1;
        } else if self.fill(number) {
            self.received += 1;
        } else {
            self.repeated += 1;
        }
    }

    /// A late number fills its hole; answers whether there was one.
    fn fill(&mut self, number: u64) -> bool {
        if let Some((&first, &last)) = self.holes.range(..=number).next_back()
            && number <= last
        {
            self.holes.remove(&first);
            if first < number {
                self.holes.insert(first, number - 1);
            }
            if number < last {
                self.holes.insert(number + 1, last);
                self.bound();
            }
            return true;
        }
        // Below the forgotten mark a number may be late or repeated: late is what rings produce.
        if number <= self.forgotten_to && self.forgotten > 0 {
            self.forgotten -= 1;
            return true;
        }
        false
    }

    fn bound(&mut self) {
        if self.holes.len() > HOLES_MAX
            && let Some((first, last)) = self.holes.pop_first()
        {
            self.forgotten = self.forgotten.saturating_add(last - first + 1);
            self.forgotten_to = self.forgotten_to.max(last);
        }
    }

    /// Different numbers that arrived.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Numbers that arrived again. None should.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Highest number that arrived; 0 when none did.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Ranges still missing, both ends included, in order.
    pub fn missing(&self) -> impl Iterator<Item = (u64, u64)> {
        self.holes.iter().map(|(&first, &last)| (first, last))
    }

    /// Missing numbers whose place is no longer known.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Whether everything from `first` up to `last` has arrived.
    #[must_use]
    pub fn complete(&self, first: u64, last: u64) -> bool {
        let forgotten = self.forgotten > 0 && first <= self.forgotten_to;
        let hole = self
            .holes
            .range(..=last)
            .next_back()
            .is_some_and(|(_, &end)| end >= first);
        !forgotten && !hole && last <= self.highest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_late_number_splits_and_then_closes_its_hole() {
        let mut sequences = Sequences::default();
        for number in [1, 6, 4] {
            sequences.insert(number);
        }
        assert_eq!(
            sequences.missing().collect::<Vec<_>>(),
            vec![(2, 3), (5, 5)]
        );
        for number in [2, 3, 5] {
            sequences.insert(number);
        }
        assert_eq!(sequences.missing().count(), 0);
        assert_eq!((sequences.received(), sequences.repeated()), (6, 0));
    }

    #[test]
    fn holes_beyond_the_bound_are_still_counted() {
        let mut sequences = Sequences::default();
        let odd = u64::try_from(HOLES_MAX).unwrap() + 10;
        for number in 1..=odd {
            sequences.insert(number * 2);
        }
        assert_eq!(sequences.missing().count(), HOLES_MAX);
        assert_eq!(sequences.forgotten(), 10);
        assert!(!sequences.complete(2, 2));
    }

    #[test]
    fn the_largest_number_does_not_overflow() {
        let mut sequences = Sequences::default();
        sequences.insert(u64::MAX);
        sequences.insert(u64::MAX);
        assert_eq!(
            sequences.missing().collect::<Vec<_>>(),
            vec![(1, u64::MAX - 1)]
        );
        assert_eq!(sequences.repeated(), 1);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_set(numbers in prop::collection::vec(1u64..200, 0..200)) {
            let mut sequences = Sequences::default();
            let mut set = BTreeSet::new();
            for &number in &numbers {
                sequences.insert(number);
                set.insert(number);
            }
            prop_assert_eq!(sequences.received(), set.len() as u64);
            prop_assert_eq!(sequences.repeated(), (numbers.len() - set.len()) as u64);
            let missing: BTreeSet<u64> =
                sequences.missing().flat_map(|(first, last)| first..=last).collect();
            let highest = set.last().copied().unwrap_or(0);
            prop_assert_eq!(&missing, &(1..=highest).filter(|n| !set.contains(n)).collect());
            for first in 1..20 {
                for last in first..20 {
                    prop_assert_eq!(
                        sequences.complete(first, last),
                        (first..=last).all(|n| set.contains(&n))
                    );
                }
            }
        }
    }
}
