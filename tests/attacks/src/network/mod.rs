//! Reaching what was not declared, and being reached.

mod address;
mod inward;
mod kinds;
mod reach;
mod unix;

use crate::Attack;

pub(crate) const ATTACKS: &[&[Attack]] = &[
    reach::ATTACKS,
    kinds::ATTACKS,
    unix::ATTACKS,
    inward::ATTACKS,
];
