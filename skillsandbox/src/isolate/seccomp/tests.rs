use std::collections::BTreeSet;

use super::*;

const PROFILES: [Profile; 3] = [Profile::Permissive, Profile::Default, Profile::Strict];

fn listed(profile: Profile) -> BTreeSet<&'static str> {
    allow::allowed(profile).map(|call| call.name).collect()
}

fn always_denied(profile: Profile) -> BTreeSet<&'static str> {
    let denials = DENIALS.iter().filter(|denial| denial.from <= profile);
    let always = denials.filter(|denial| denial.when.is_empty() && denial.unless.is_none());
    always
        .flat_map(|denial| denial.calls)
        .map(|call| call.name)
        .collect()
}

#[test]
fn every_profile_compiles_to_programs_that_the_kernel_takes() {
    for profile in PROFILES {
        for program in Filters::compile(profile, Permitted::default())
            .unwrap()
            .programs
        {
            assert!(program.len() <= 4096, "{profile:?}: {}", program.len());
        }
    }
}

#[test]
fn no_call_is_both_listed_and_always_denied() {
    for profile in PROFILES {
        let both: Vec<_> = listed(Profile::Default)
            .intersection(&always_denied(profile))
            .copied()
            .collect();
        assert!(both.is_empty(), "{profile:?}: {both:?}");
    }
}

#[test]
fn each_profile_allows_less_than_the_one_before() {
    let (default, strict) = (listed(Profile::Default), listed(Profile::Strict));
    assert!(strict.is_subset(&default) && strict.len() < default.len());
    assert!(default.is_disjoint(&always_denied(Profile::Permissive)));
    assert!(always_denied(Profile::Permissive).is_subset(&always_denied(Profile::Default)));
    assert!(always_denied(Profile::Default).is_subset(&always_denied(Profile::Strict)));
}

#[test]
fn no_call_is_listed_twice() {
    let calls: Vec<_> = allow::allowed(Profile::Default).collect();
    let mut seen = BTreeSet::new();
    for call in calls {
        assert!(seen.insert(call.number), "{}", call.name);
    }
}

#[test]
fn the_tables_hold_no_call_that_is_newer_than_themselves() {
    let denied = DENIALS.iter().flat_map(|denial| denial.calls);
    for call in denied.chain(allow::allowed(Profile::Default)) {
        assert!(call.number <= i64::from(NEWEST), "{}", call.name);
    }
}

#[test]
fn a_condition_is_said_in_words() {
    for denial in DENIALS {
        assert_eq!(denial.when.is_empty(), denial.what.is_empty());
    }
}

#[test]
fn a_description_says_what_the_tables_say() {
    let default = Description::of(Profile::Default, Permitted::default());
    assert!(default.allowed.contains("openat") && !default.allowed.contains("clone"));
    assert_eq!(
        default.conditional["clone"][0].asks_for,
        "making namespaces"
    );
    assert_eq!(default.conditional["socket"].len(), 4);
    assert!(default.denied["ENOSYS"].contains("clone3"));
    assert_eq!(default.others, "EPERM");
    let strict = Description::of(Profile::Strict, Permitted::default());
    assert!(!strict.conditional.contains_key("memfd_create"));
    let permissive = Description::of(Profile::Permissive, Permitted::default());
    assert!(default.denied["EPERM"].contains("listen") && !default.allowed.contains("listen"));
    let permitted = Permitted {
        listening: true,
        unix_sockets: true,
    };
    let called = Description::of(Profile::Default, permitted);
    assert!(called.allowed.contains("listen") && !called.denied["EPERM"].contains("listen"));
    assert_eq!(called.conditional["socket"].len(), 3);
    assert!(permissive.allowed.is_empty() && permissive.conditional.contains_key("memfd_create"));
    assert_eq!(permissive.others, "allowed");
}
