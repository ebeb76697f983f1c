use proptest::prelude::*;

use skillsandbox_common::header::Verdict;

use super::*;
use crate::{
    audit::text::misleads,
    manifest::{Destination, DomainPattern, Manifest, PERSISTENT, Protocol},
    policy::{
        Network, Subject,
        tests::{path, rules},
    },
};

const BASE: &str = "skill: { name: a, version: '1' }\nentrypoint: { command: a }\n";

/// Adds what a manifest with this line grants, as a run does.
fn merge(rules: &mut RuleSet, line: &str) {
    let text = format!("{BASE}{line}\n");
    let manifest = match Manifest::parse("m", text.as_bytes()) {
        Ok(manifest) => manifest,
        Err(error) => panic!("{line}: {error}"),
    };
    let permissions = &manifest.permissions;
    for (paths, grant) in [
        (&permissions.filesystem.read, Grant::READ),
        // A path with a name that others obey names it.
        (&permissions.filesystem.write, Grant::WRITE_AND_PERSIST),
        (&permissions.exec.allow, Grant::EXEC),
    ] {
        for path in paths {
            let path = path.value.as_str().into();
            rules.push(Subject::Path(path, grant), "added", None);
        }
    }
    for entry in &permissions.network.egress {
        let Destination::Cidr(cidr) = entry.value.destination else {
            panic!("{line}: not an address");
        };
        for ports in &entry.value.ports {
            let subject = Subject::Address {
                network: Network::new(cidr.address(), cidr.prefix_length()).unwrap(),
                first: ports.first(),
                last: ports.last(),
                protocols: match entry.value.protocol {
                    Protocol::Tcp => Protocols::TCP,
                    Protocol::Udp => Protocols::UDP,
                    Protocol::Any => Protocols::ANY,
                },
            };
            rules.push(subject, "added", None);
        }
    }
}

fn advice(rules: &RuleSet, path: &[u8], access: u16) -> Option<Advice> {
    let decision = rules.decide_file(path, access);
    (decision.verdict == Verdict::Deny).then(|| {
        rules.advise_file(&DeniedFile {
            reason: decision.reason,
            rule: decision.rule.into(),
            path,
            access,
        })
    })
}

/// Paths as a skill may make them: any bytes, and those that end strings and lines.
fn odd_path() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        "[a-c\"'\\\\ \n\t:,{}#&*!|>%@`\\[\\]-]{1,8}".prop_map(String::into_bytes),
        "\\PC{1,6}".prop_map(String::into_bytes),
        any::<char>().prop_map(|character| character.to_string().into_bytes()),
        prop::collection::vec(1..=255_u8, 1..6),
    ];
    prop::collection::vec(part, 1..4).prop_map(|parts| {
        let joined = parts.join(&b'/');
        [b"/", joined.as_slice()].concat()
    })
}

proptest! {
    #[test]
    fn a_permitted_line_lets_the_very_access_through(
        rules in rules(), path in prop_oneof![path(), odd_path()], access in 1..=Access::ALL,
    ) {
        match advice(&rules, &path, access) {
            None => {}
            // Random names are not those that a manifest can name.
            Some(Advice::Permit(line)) if line.contains("persist:") => {
                let reason = rules.decide_file(&path, Access::WRITE).reason;
                prop_assert_eq!(reason, Reason::Persistence);
            }
            Some(Advice::Permit(line)) => {
                prop_assert!(!line.contains(misleads), "{line:?}");
                let mut rules = rules;
                merge(&mut rules, &line);
                let decision = rules.decide_file(&path, access);
                prop_assert_eq!(decision.verdict, Verdict::Allow, "{}", line);
            }
            // A deny wins, or no manifest can hold the path.
            Some(Advice::Remedy(_)) => {
                let denied = rules.decide_file(&path, access).reason == Reason::DenyRule;
                let named = str::from_utf8(&path).is_ok_and(|text| {
                    text.parse::<AbsolutePath>().is_ok_and(|path| !path.is_root())
                });
                prop_assert!(denied || !named);
            }
        }
    }

    #[test]
    fn a_permitted_address_can_be_reached(address: IpAddr, port: u16, protocol: u16) {
        let address = address.to_canonical();
        let denied = DeniedAddress { reason: Reason::NoRule, address, port, protocol, name: None };
        match advise_address(&denied) {
            Advice::Permit(line) => {
                let mut rules = RuleSet::default();
                merge(&mut rules, &line);
                let bit = Protocols::of_ip_protocol(protocol.into());
                let decision = rules.decide_address(Network::host(address).address(), port, bit);
                prop_assert_eq!(decision.verdict, Verdict::Allow, "{}", line);
            }
            Advice::Remedy(_) => prop_assert_eq!(port, 0),
        }
    }
}

fn granting(path: &str, grant: Grant) -> RuleSet {
    let mut rules = RuleSet::default();
    rules.push(Subject::Path(path.into(), grant), "filesystem.x", Some(7));
    rules
}

#[test]
fn a_name_that_others_obey_is_permitted_by_that_name() {
    let mut rules = granting("/w", Grant::WRITE);
    for known in PERSISTENT {
        let name = known.name.into();
        let below = known.below;
        rules.push(Subject::Persistent { name, below }, "built-in", None);
    }
    let line = "permissions: { filesystem: { persist: [\".git/hooks\"] } }";
    let path = b"/w/deep/.git/hooks/pre-commit";
    let told = advice(&rules, path, Access::WRITE);
    assert_eq!(told, Some(Advice::Permit(line.to_owned())));
    assert_eq!(advice(&rules, path, Access::READ), None);
    let mut only_written = granting("/w", Grant::WRITE_ONLY);
    only_written.push(
        Subject::Persistent {
            name: b".envrc".into(),
            below: false,
        },
        "built-in",
        None,
    );
    let both = r#"filesystem: { read: ["/w/.envrc"], persist: [".envrc"] }"#;
    assert_eq!(
        advice(&only_written, b"/w/.envrc", Access::READ | Access::WRITE),
        Some(Advice::Permit(format!("permissions: {{ {both} }}")))
    );
    let manifest = Manifest::parse("m", format!("{BASE}{line}\n").as_bytes()).unwrap();
    let named = &manifest.permissions.filesystem.persist;
    assert!(
        named
            .iter()
            .all(|name| name.value.to_string() == ".git/hooks")
    );
}

#[test]
fn only_what_is_missing_is_named() {
    let rules = granting("/a", Grant::READ);
    for (path, access, line) in [
        (
            "/b",
            Access::READ | Access::WRITE,
            r#"filesystem: { read: ["/b"], write: ["/b"] }"#,
        ),
        (
            "/a/x",
            Access::READ | Access::WRITE,
            r#"filesystem: { write: ["/a/x"] }"#,
        ),
        ("/a/x", Access::EXEC, r#"exec: { allow: ["/a/x"] }"#),
    ] {
        assert_eq!(
            advice(&rules, path.as_bytes(), access),
            Some(Advice::Permit(format!("permissions: {{ {line} }}")))
        );
    }
}

#[test]
fn a_deny_is_to_be_taken_out_of_its_line() {
    let rules = granting("/a", Grant::Deny);
    let words = "take `filesystem.x` out of line 7 of the manifest: a deny wins over every \
                 permission";
    let expected = Some(Advice::Remedy(words.to_owned()));
    assert_eq!(advice(&rules, b"/a/x", Access::READ), expected);
    // Also where another layer refused first.
    let denied = DeniedFile {
        reason: Reason::Refused,
        rule: 0,
        path: b"/a/x",
        access: Access::READ,
    };
    assert_eq!(Some(rules.advise_file(&denied)), expected);
}

#[test]
fn what_the_rules_allow_and_another_layer_refused_needs_no_permission() {
    let rules = granting("/a", Grant::READ);
    let denied = DeniedFile {
        reason: Reason::Refused,
        rule: 0,
        path: b"/a/x",
        access: Access::READ,
    };
    let Advice::Remedy(words) = rules.advise_file(&denied) else {
        panic!("a permission that is there already");
    };
    assert!(words.contains("the rules allow it"), "{words}");
}

#[test]
fn a_path_that_a_manifest_cannot_hold_is_told_in_words() {
    for path in [&b"/a\xff"[..], b"/a*", b"/a\nb", b"/../x", b"x", b"/"] {
        let advice = advice(&RuleSet::default(), path, Access::READ);
        assert!(
            !matches!(advice, Some(Advice::Permit(_))),
            "{path:?}: {advice:?}"
        );
    }
}

#[test]
fn a_declared_name_is_named_in_place_of_its_address() {
    let mut denied = DeniedAddress {
        reason: Reason::NotGranted,
        address: "203.0.113.7".parse().unwrap(),
        port: 8443,
        protocol: 6,
        name: Some("api.example.com"),
    };
    let egress = |host: &str| {
        let entry = format!("{{ {host}, ports: [8443], protocol: tcp }}");
        Advice::Permit(format!(
            "permissions: {{ network: {{ egress: [{entry}] }} }}"
        ))
    };
    assert_eq!(
        advise_address(&denied),
        egress(r#"domain: "api.example.com""#)
    );
    let Advice::Permit(line) = advise_address(&denied) else {
        unreachable!();
    };
    let manifest = Manifest::parse("m", format!("{BASE}{line}").as_bytes()).unwrap();
    let entry = &manifest.permissions.network.egress[0].value;
    let name = DomainPattern::Exact("api.example.com".to_owned());
    assert_eq!(entry.destination, Destination::Domain(name));
    denied.name = None;
    assert_eq!(advise_address(&denied), egress(r#"cidr: "203.0.113.7/32""#));
}

#[test]
fn every_other_reason_is_told_in_words() {
    for reason in Reason::ALL {
        let rules_decide = [
            Reason::NoRule,
            Reason::NotGranted,
            Reason::Refused,
            Reason::DenyRule,
        ];
        if !rules_decide.contains(reason) {
            let denied = DeniedFile {
                reason: *reason,
                rule: 0,
                path: b"/a",
                access: Access::READ,
            };
            let advice = RuleSet::default().advise_file(&denied);
            assert!(matches!(advice, Advice::Remedy(_)), "{reason:?}");
        }
    }
}
