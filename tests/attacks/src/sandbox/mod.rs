//! The sandbox itself, and the kernel around it.

mod escape;
mod kernel;

use crate::Attack;

pub(crate) const ATTACKS: &[&[Attack]] = &[escape::ATTACKS, kernel::ATTACKS];
