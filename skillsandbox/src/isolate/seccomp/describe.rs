//! What a profile lets through, in words, from the tables that the filters are built of.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::allow;
use super::call::Call;
use super::deny::DENIALS;
use super::profile::{Permitted, Profile};

/// What the system calls of a skill answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The profile.
    pub profile: Profile,
    /// Calls that are allowed whatever their arguments; empty where the profile has no list.
    pub allowed: BTreeSet<&'static str>,
    /// Calls that are allowed unless their arguments ask for one of these.
    pub conditional: BTreeMap<&'static str, Vec<Unless>>,
    /// Calls with a denial of their own, by their answer.
    pub denied: BTreeMap<&'static str, BTreeSet<&'static str>>,
    /// What every other call answers, `allowed` where it is let through.
    pub others: &'static str,
    /// What calls that are newer than the tables answer.
    pub newer: &'static str,
}

/// What a call is denied for, and what it answers then.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Unless {
    /// What the arguments ask for.
    pub asks_for: &'static str,
    /// The answer.
    pub answer: &'static str,
}

impl Description {
    /// Describes a profile, with what a manifest has it leave to other layers.
    #[must_use]
    pub fn of(profile: Profile, permitted: Permitted) -> Self {
        let mut allowed: BTreeSet<_> = allow::allowed(profile).map(|call| call.name).collect();
        let has_list = !allowed.is_empty();
        let mut conditional: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut denied: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for denial in DENIALS
            .iter()
            .filter(|denial| denial.holds(profile, permitted))
        {
            let answer = name_of(denial.errno);
            for &Call { name, .. } in denial.calls {
                if denial.when.is_empty() {
                    allowed.remove(name);
                    denied.entry(answer).or_default().insert(name);
                } else if !has_list || allowed.contains(name) || conditional.contains_key(name) {
                    allowed.remove(name);
                    let asks_for = denial.what;
                    let unless = Unless { asks_for, answer };
                    conditional.entry(name).or_default().push(unless);
                }
            }
        }
        Self {
            profile,
            allowed,
            conditional,
            denied,
            others: if has_list { "EPERM" } else { "allowed" },
            newer: "ENOSYS",
        }
    }
}

/// The name of an error number that the tables use.
fn name_of(errno: i32) -> &'static str {
    match errno {
        libc::EPERM => "EPERM",
        libc::ENOSYS => "ENOSYS",
        libc::EAFNOSUPPORT => "EAFNOSUPPORT",
        libc::EPROTONOSUPPORT => "EPROTONOSUPPORT",
        _ => "an error",
    }
}
