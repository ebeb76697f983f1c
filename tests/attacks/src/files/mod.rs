//! Which file is it, really?

mod attributes;
mod links;
mod names;
mod namespaces;
mod open;
mod persistence;

use crate::Attack;

pub(crate) use open::{invalid_name, odd_name};

pub(crate) const ATTACKS: &[&[Attack]] = &[
    open::ATTACKS,
    links::ATTACKS,
    names::ATTACKS,
    attributes::ATTACKS,
    namespaces::ATTACKS,
    persistence::ATTACKS,
];
