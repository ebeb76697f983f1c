//! The tables answer as the reference evaluator does, looked up as the kernel looks them up.

use std::net::IpAddr;

use proptest::prelude::*;
use skillsandbox_common::{
    header::{Reason, Verdict},
    rule::{
        ANYWHERE, Access, Decision, FileRule, PATH_KEY_LEN, Protocols, decide_bind, decide_unix,
    },
};

use super::{CompileError, Grant, Network, RuleSet, Subject, Tables};

fn entry(tables: &Tables, mut key: Vec<u8>) -> Option<FileRule> {
    key.push(0);
    key.truncate(PATH_KEY_LEN);
    let covering = tables
        .files
        .iter()
        .filter(|entry| key.starts_with(&entry.prefix));
    let narrowest = covering.max_by_key(|entry| entry.prefix.len());
    narrowest.map(|entry| entry.rule)
}

/// The entries of names in any folder, on the way down a path.
fn names(tables: &Tables, path: &[u8]) -> Vec<FileRule> {
    let slashes = (0..path.len()).filter(|place| path[*place] == b'/');
    slashes
        .filter_map(|slash| entry(tables, [&[ANYWHERE], &path[slash + 1..]].concat()))
        .collect()
}

/// What a name that others obey makes of a decision by this rule.
fn unless_obeyed(
    tables: &Tables,
    path: &[u8],
    rule: FileRule,
    access: u16,
    decision: Decision,
) -> Decision {
    let obeyed = names(tables, path)
        .into_iter()
        .map(|rule| rule.persist)
        .find(|number| *number != 0);
    match obeyed {
        Some(number) if decision.verdict == Verdict::Allow && rule.asks_names(access) => {
            Decision::deny(Reason::Persistence, number)
        }
        _ => decision,
    }
}

/// Longest-prefix match as `trie_lookup_elem` does it, on whole bytes.
fn look_up(tables: &Tables, path: &[u8]) -> Result<FileRule, Decision> {
    let mut denied = names(tables, path).into_iter().map(|rule| rule.deny);
    if let Some(number) = denied.find(|number| *number != 0) {
        return Err(Decision::deny(Reason::DenyRule, number));
    }
    entry(tables, path.to_vec()).ok_or_else(|| {
        let absolute = path.first() == Some(&b'/');
        let reason = if absolute {
            Reason::NoRule
        } else {
            Reason::NoPath
        };
        Decision::deny(reason, 0)
    })
}

fn look_up_file(tables: &Tables, path: &[u8], access: u16) -> Decision {
    look_up(tables, path).map_or_else(
        |decision| decision,
        |rule| unless_obeyed(tables, path, rule, access, rule.decide(access)),
    )
}

/// As the programs do for a rename: the old name, and if that may go, the new one.
fn look_up_rename(tables: &Tables, from: &[u8], to: &[u8]) -> (Decision, Option<Decision>) {
    let source = look_up(tables, from);
    let write = |path, rule, decision| unless_obeyed(tables, path, rule, Access::WRITE, decision);
    let removal = source.map_or_else(
        |decision| decision,
        |rule| write(from, rule, rule.decide_removal()),
    );
    let arrival = (removal.verdict == Verdict::Allow).then(|| {
        let target = look_up(tables, to);
        let source = source.unwrap();
        target.map_or_else(
            |decision| decision,
            |rule| write(to, rule, rule.decide_arrival(&source)),
        )
    });
    (removal, arrival)
}

fn look_up_address(tables: &Tables, address: [u8; 16], port: u16, protocol: u16) -> Decision {
    tables
        .networks
        .iter()
        .filter(|entry| entry.network.contains(address))
        .max_by_key(|entry| entry.network.prefix_bits())
        .map_or(Decision::deny(Reason::NoRule, 0), |entry| {
            entry.rule.decide(port, protocol)
        })
}

/// Few names, so that random paths meet, with some that differ only past a component's end.
fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("ab".to_owned()),
        Just("a b".to_owned()),
        "[a-c]{1,3}",
        Just("x".repeat(100)),
    ]
}

pub(super) fn path() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(component(), 1..6)
        .prop_map(|parts| format!("/{}", parts.join("/")).into_bytes())
}

fn names_in_a_row() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(component(), 1..3).prop_map(|parts| parts.join("/").into_bytes())
}

fn rule_path() -> impl Strategy<Value = Vec<u8>> {
    path().prop_filter("a key holds it", |path| path.len() < PATH_KEY_LEN)
}

fn grant() -> impl Strategy<Value = Grant> {
    prop_oneof![
        4 => (1..=Access::ALL | Access::PERSIST).prop_map(Grant::Allow),
        1 => Just(Grant::Deny),
    ]
}

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        6 => (rule_path(), grant()).prop_map(|(path, grant)| Subject::Path(path, grant)),
        1 => (rule_path(), grant()).prop_map(|(path, grant)| Subject::Exact(path, grant)),
        1 => names_in_a_row().prop_map(Subject::Name),
        1 => (names_in_a_row(), any::<bool>())
            .prop_map(|(name, below)| Subject::Persistent { name, below }),
        1 => Just(Subject::Nameless(b"pipe:[".to_vec(), Grant::WRITE)),
        1 => (any::<u16>(), any::<u16>()).prop_map(|(a, b)| Subject::Listen {
            first: a.min(b).max(1),
            last: a.max(b).max(1),
        }),
        1 => (0..3_u32, 0..3_u64).prop_map(|(device, inode)| Subject::Unix {
            path: b"/run/socket".to_vec(),
            device,
            inode,
        }),
        4 => (network(), any::<u16>(), any::<u16>(), 1..=Protocols::ANY).prop_map(
            |(network, a, b, protocols)| Subject::Address {
                network,
                first: a.min(b),
                last: a.max(b),
                protocols,
            }
        ),
    ]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..4_u8, 0..4_u8).prop_map(|(c, d)| IpAddr::from([10, 0, c, d])),
        (0..4_u16, 0..4_u16).prop_map(|(g, h)| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, g, h])),
    ]
}

fn network() -> impl Strategy<Value = Network> {
    (address(), 0..=128_u8).prop_map(|(address, bits)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        Network::new(address, bits.min(most)).unwrap()
    })
}

pub(super) fn rules() -> impl Strategy<Value = RuleSet> {
    prop::collection::vec(subject(), 0..12).prop_map(|subjects| {
        let mut rules = RuleSet::default();
        for subject in subjects {
            rules.push(subject, "a rule", None);
        }
        rules
    })
}

proptest! {
    #[test]
    fn the_path_table_decides_as_the_rules_do(rules in rules(), path in path(), access in 1..=Access::ALL) {
        let tables = rules.compile().unwrap();
        prop_assert_eq!(look_up_file(&tables, &path, access), rules.decide_file(&path, access));
    }

    #[test]
    fn the_path_table_decides_on_renames_as_the_rules_do(
        rules in rules(), from in path(), to in path(),
    ) {
        let tables = rules.compile().unwrap();
        let (removal, arrival) = look_up_rename(&tables, &from, &to);
        prop_assert_eq!(removal, rules.decide_removal(&from));
        if let Some(arrival) = arrival {
            prop_assert_eq!(arrival, rules.decide_arrival(&from, &to));
        }
    }

    #[test]
    fn the_tables_of_sockets_decide_as_the_rules_do(
        rules in rules(), port in any::<u16>(), device in 0..3_u32, inode in 0..3_u64,
        protocol in prop_oneof![Just(Protocols::TCP), Just(Protocols::UDP), Just(Protocols::OTHER)],
    ) {
        let tables = rules.compile().unwrap();
        prop_assert_eq!(
            decide_bind(&tables.listen, port, protocol),
            rules.decide_bind(port, protocol)
        );
        prop_assert_eq!(
            decide_unix(&tables.unix, device, inode),
            rules.decide_unix(device, inode)
        );
    }

    #[test]
    fn the_address_table_grants_as_the_rules_do(
        rules in rules(), address in address(), port in any::<u16>(),
        protocol in prop_oneof![Just(Protocols::TCP), Just(Protocols::UDP), Just(Protocols::OTHER)],
    ) {
        let tables = rules.compile().unwrap();
        let address = Network::host(address).address();
        prop_assert_eq!(
            look_up_address(&tables, address, port, protocol),
            rules.decide_address(address, port, protocol)
        );
    }
}

fn one(subject: Subject) -> RuleSet {
    let mut rules = RuleSet::default();
    rules.push(subject, "a rule", Some(3));
    rules
}

#[test]
fn a_folder_rule_covers_what_is_below_and_not_its_longer_namesake() {
    let rules = one(Subject::Path(b"/a/b".to_vec(), Grant::READ));
    for (path, verdict) in [
        ("/a/b", Verdict::Allow),
        ("/a/b/c", Verdict::Allow),
        ("/a/bc", Verdict::Deny),
        ("/a", Verdict::Deny),
    ] {
        assert_eq!(
            rules.decide_file(path.as_bytes(), Access::READ).verdict,
            verdict,
            "{path}"
        );
    }
}

#[test]
fn a_denied_folder_stays_denied_below_an_allowed_one_and_above_one() {
    let mut rules = one(Subject::Path(b"/a".to_vec(), Grant::READ));
    rules.push(
        Subject::Path(b"/a/secret".to_vec(), Grant::Deny),
        "deny",
        None,
    );
    rules.push(
        Subject::Path(b"/a/secret/key".to_vec(), Grant::READ),
        "allow again",
        None,
    );
    let decided = rules.decide_file(b"/a/secret/key", Access::READ);
    assert_eq!(decided, Decision::deny(Reason::DenyRule, 2));
}

#[test]
fn a_folder_with_something_denied_in_it_cannot_be_renamed_at_any_height() {
    let mut rules = one(Subject::Path(b"/a".to_vec(), Grant::WRITE));
    let deny = Subject::Path(b"/a/b/c/secret".to_vec(), Grant::Deny);
    rules.push(deny, "deny", None);
    let held = Decision::deny(Reason::DenyRule, 2);
    for folder in ["/a", "/a/b", "/a/b/c", "/a/b/c/secret"] {
        assert_eq!(rules.decide_removal(folder.as_bytes()), held, "{folder}");
    }
    assert_eq!(rules.decide_arrival(b"/a/x", b"/a/b"), held);
    for other in ["/a/x", "/a/b/x", "/a/b/c/x"] {
        assert_eq!(rules.decide_removal(other.as_bytes()), Decision::allow(1));
    }
}

#[test]
fn reading_and_writing_must_both_be_granted() {
    let rules = one(Subject::Path(b"/a".to_vec(), Grant::READ));
    let decided = rules.decide_file(b"/a", Access::READ | Access::WRITE);
    assert_eq!(decided, Decision::deny(Reason::NotGranted, 0));
}

#[test]
fn an_access_without_any_bit_is_denied() {
    let rules = one(Subject::Path(b"/a".to_vec(), Grant::READ));
    assert_eq!(rules.decide_file(b"/a", 0).verdict, Verdict::Deny);
}

#[test]
fn a_path_that_no_key_can_hold_is_refused() {
    let rules = one(Subject::Path(vec![b'a'; 256], Grant::READ));
    assert_eq!(
        rules.compile(),
        Err(CompileError::TooLong {
            text: "a rule".to_owned()
        })
    );
}

#[test]
fn more_port_ranges_than_an_entry_holds_are_refused() {
    let mut rules = RuleSet::default();
    let network = Network::host(IpAddr::from([127, 0, 0, 1]));
    for port in 1..=17 {
        let subject = Subject::Address {
            network,
            first: port * 10,
            last: port * 10,
            protocols: Protocols::TCP,
        };
        rules.push(subject, "ports", None);
    }
    assert_eq!(rules.compile(), Err(CompileError::TooManyPorts { network }));
}

#[test]
fn an_ipv4_rule_covers_the_mapped_form_of_its_addresses() {
    let subject = Subject::Address {
        network: Network::new("10.0.0.0".parse().unwrap(), 8).unwrap(),
        first: 443,
        last: 443,
        protocols: Protocols::TCP,
    };
    let mapped: std::net::Ipv6Addr = "::ffff:10.1.2.3".parse().unwrap();
    let decided = one(subject).decide_address(mapped.octets(), 443, Protocols::TCP);
    assert_eq!(decided, Decision::allow(1));
}

#[test]
fn a_granted_folder_inside_of_a_private_one_does_not_persist_with_it() {
    let mut rules = RuleSet::default();
    let path = |path: &str| path.as_bytes().to_vec();
    rules.push(Subject::Path(path("/tmp"), Grant::PRIVATE), "private", None);
    rules.push(
        Subject::Path(path("/tmp/w"), Grant::WRITE_ONLY),
        "granted",
        None,
    );
    rules.push(Subject::Path(path("/tmp/w/r"), Grant::READ), "read", None);
    let name = path(".envrc");
    rules.push(Subject::Persistent { name, below: true }, "obeyed", None);
    let tables = rules.compile().unwrap();
    for (place, expected) in [
        ("/tmp/.envrc", Decision::allow(1)),
        ("/tmp/w/.envrc", Decision::deny(Reason::Persistence, 4)),
        ("/tmp/w/r/.envrc", Decision::deny(Reason::Persistence, 4)),
        ("/tmp/w/other", Decision::allow(2)),
    ] {
        let decided = rules.decide_file(place.as_bytes(), Access::WRITE);
        assert_eq!(decided, expected, "{place}");
        let looked_up = look_up_file(&tables, place.as_bytes(), Access::WRITE);
        assert_eq!(looked_up, expected, "{place}");
    }
}
