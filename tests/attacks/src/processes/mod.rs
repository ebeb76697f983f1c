//! Secrets of other processes, and what they left to us.

mod descriptors;
mod inspect;
mod signals;

use crate::Attack;

pub(crate) const ATTACKS: &[&[Attack]] =
    &[inspect::ATTACKS, descriptors::ATTACKS, signals::ATTACKS];
