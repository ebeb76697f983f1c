//! Programs that were not declared.

mod execute;
mod gain;
mod map;

use crate::Attack;

pub(crate) const ATTACKS: &[&[Attack]] = &[execute::ATTACKS, map::ATTACKS, gain::ATTACKS];
