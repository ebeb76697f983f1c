//! Random manifests and random bytes.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::manifest::{
    AbsolutePath, Audit, Cidr, DenyPattern, Destination, DomainPattern, Egress, Entrypoint,
    EnvironmentVariables, Exec, Filesystem, Manifest, Mode, Network, OnOverflow, PERSISTENT,
    Permissions, PersistentName, PortRange, Protocol, Resources, Runtime, Skill, Spanned,
    SystemCallProfile, SystemCalls, VariableName,
};

const VALID: &str = include_str!("everything.yaml");

fn spanned<T: std::fmt::Debug>(
    strategy: impl Strategy<Value = T>,
) -> impl Strategy<Value = Spanned<T>> {
    strategy.prop_map(Spanned::unwritten)
}

/// Text that YAML could mistake for something else, and any other on one line.
fn line_of_text() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "",
            " ",
            "~",
            "null",
            "true",
            "no",
            "1",
            "0x1F",
            "0b1",
            "1e3",
            ".5",
            "-.inf",
            ".nan",
            "0123",
            "1_0",
            "1:30",
            "2001-01-01",
            "- a",
            "a: b",
            "a #b",
            "#a",
            "{a}",
            "[a]",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "'a'",
            "\"a\"",
            "|",
            ">",
            "---",
            "...",
            "? a",
            "=",
            "<<",
            "a\\nb",
            " a",
            "a ",
            ": ",
            "+1",
            "0o17",
            "é天🌦",
        ])
        .prop_map(str::to_owned),
        "[^\\p{C}\u{2028}\u{2029}]{0,20}",
    ]
}

fn name() -> impl Strategy<Value = String> {
    line_of_text().prop_filter("a name reads as no path", |name| {
        !name.trim().is_empty() && !name.contains('/') && name != "." && name != ".."
    })
}

fn port_range() -> impl Strategy<Value = PortRange> {
    (1..=u16::MAX, 1..=u16::MAX)
        .prop_map(|(one, other)| format!("{}-{}", one.min(other), one.max(other)))
        .prop_map(|text| text.parse().unwrap())
}

fn destination() -> impl Strategy<Value = Destination> {
    let domain = "(\\*\\.)?[a-z0-9]{1,10}(\\.[a-z][a-z0-9_-]{0,8}[a-z]){1,3}";
    let networks = proptest::sample::select(vec![
        "0.0.0.0/0",
        "10.0.0.0/8",
        "192.0.2.1/32",
        "2000::/3",
        "2001:db8::/32",
        "::1/128",
    ]);
    prop_oneof![
        domain
            .prop_filter_map("a pattern of domains", |text| text
                .parse::<DomainPattern>()
                .ok())
            .prop_map(Destination::Domain),
        networks.prop_map(|text| Destination::Cidr(text.parse::<Cidr>().unwrap())),
    ]
}

fn egress() -> impl Strategy<Value = Egress> {
    let protocol = proptest::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Any]);
    (destination(), vec(port_range(), 1..=16), protocol).prop_map(
        |(destination, ports, protocol)| Egress {
            destination,
            ports,
            protocol,
        },
    )
}

fn path() -> impl Strategy<Value = AbsolutePath> {
    "(/[a-zé _.#:-]{1,8}){1,5}".prop_filter_map("a path", |text| text.parse().ok())
}

fn deny_pattern() -> impl Strategy<Value = DenyPattern> {
    prop_oneof![
        path().prop_map(DenyPattern::Path),
        "\\*\\*/[a-z.]{1,8}".prop_filter_map("a pattern", |text| text.parse().ok()),
    ]
}

fn persistent_name() -> impl Strategy<Value = PersistentName> {
    proptest::sample::select(PERSISTENT).prop_map(|known| known.name.parse().unwrap())
}

fn variable() -> impl Strategy<Value = VariableName> {
    prop_oneof![
        proptest::sample::select(vec!["y", "n", "NO", "on", "null", "true", "_"])
            .prop_map(|text| text.parse().unwrap()),
        "[A-Z_][A-Z0-9_]{0,8}".prop_map(|text| text.parse().unwrap()),
    ]
}

fn permissions() -> impl Strategy<Value = Permissions> {
    let network = (
        vec(spanned(egress()), 0..4),
        vec(spanned(port_range()), 0..3),
        vec(spanned(path()), 0..3),
    )
        .prop_map(|(egress, listen, unix)| Network {
            egress,
            listen,
            unix,
        });
    let paths = || vec(spanned(path()), 0..4);
    let runtime = proptest::sample::select(vec![Runtime::System, Runtime::None]);
    let filesystem = (
        paths(),
        paths(),
        vec(spanned(persistent_name()), 0..4),
        vec(spanned(deny_pattern()), 0..4),
        runtime,
    )
        .prop_map(|(read, write, persist, deny, runtime)| Filesystem {
            read,
            write,
            persist,
            deny,
            runtime,
        });
    let variables = (
        vec(spanned(variable()), 0..4),
        btree_map(variable(), spanned(line_of_text()), 0..4),
    );
    let env_vars = variables.prop_map(|(mut allow, set)| {
        allow.retain(|name| !set.contains_key(&name.value));
        EnvironmentVariables { allow, set }
    });
    let profile = spanned(proptest::sample::select(vec![
        SystemCallProfile::Default,
        SystemCallProfile::Strict,
        SystemCallProfile::Permissive,
    ]));
    (network, filesystem, paths(), env_vars, profile).prop_map(
        |(network, filesystem, allow, env_vars, profile)| Permissions {
            network,
            filesystem,
            exec: Exec { allow },
            env_vars,
            syscalls: SystemCalls { profile },
        },
    )
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let mode = spanned(proptest::sample::select(vec![Mode::Enforce, Mode::Audit]));
    let description = prop_oneof![
        line_of_text(),
        vec(line_of_text(), 0..4).prop_map(|lines| lines.join("\n")),
        "[a \n\t#:'\"-]{0,12}",
    ];
    let skill = (name(), line_of_text(), description, line_of_text()).prop_map(
        |(name, version, description, author)| Skill {
            name,
            version,
            description,
            author,
        },
    );
    let resources = (
        1..=1_048_576_u64,
        2..=262_144_u64,
        0..=1_u64 << 40,
        16..=1_048_576_u64,
    )
        .prop_map(
            |(memory_mb, cpu_shares, max_output_bytes, max_open_files)| Resources {
                memory_mb,
                cpu_shares,
                max_output_bytes,
                max_open_files,
                ..Resources::default()
            },
        );
    let on_overflow = proptest::sample::select(vec![OnOverflow::Count, OnOverflow::Deny]);
    let ring_kib = prop::option::of((6..=16_u32).prop_map(|power| 1 << power));
    let audit = (spanned(on_overflow), spanned(any::<bool>()), ring_kib);
    let audit = audit.prop_map(|(on_overflow, aggregate, ring_kib)| Audit {
        on_overflow,
        aggregate,
        ring_kib,
    });
    let command = spanned(prop_oneof!["[a-z0-9.]{0,4}[a-z]", "/[a-z ]{1,8}[a-z]"]);
    let entrypoint =
        (command, vec(line_of_text(), 0..4), path()).prop_map(|(command, args, workdir)| {
            Entrypoint {
                command,
                args,
                workdir,
            }
        });
    (mode, skill, permissions(), resources, audit, entrypoint).prop_map(
        |(mode, skill, permissions, resources, audit, entrypoint)| Manifest {
            cgroup: None,
            mode,
            skill,
            permissions,
            resources,
            audit,
            entrypoint,
        },
    )
}

/// Removes, inserts, repeats or replaces bytes of a valid manifest.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (
        any::<proptest::sample::Index>(),
        0..20_usize,
        vec(any::<u8>(), 0..4),
    );
    vec(edit, 1..6).prop_map(|edits| {
        let mut bytes = VALID.as_bytes().to_vec();
        for (index, removed, inserted) in edits {
            let start = index.index(bytes.len() + 1);
            let end = bytes.len().min(start + removed);
            bytes.splice(start..end, inserted);
        }
        bytes
    })
}

/// Either a manifest that is one again when written out, or problems that can be shown.
fn check_outcome(bytes: &[u8]) -> Result<(), TestCaseError> {
    match Manifest::parse("random.yaml", bytes) {
        Ok(manifest) => {
            let written = serde_yaml::to_string(&manifest).unwrap();
            prop_assert_eq!(
                Manifest::parse("written.yaml", written.as_bytes()),
                Ok(manifest)
            );
        }
        Err(error) => {
            prop_assert!(!error.problems.is_empty());
            for line in error.to_string().lines() {
                prop_assert!(line.starts_with("random.yaml:"), "{}", line);
                prop_assert!(!line.chars().any(char::is_control), "{}", line);
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_manifest_written_as_yaml_or_json_reads_as_itself(manifest in manifest()) {
        let yaml = serde_yaml::to_string(&manifest).unwrap();
        prop_assert_eq!(Manifest::parse("a.yaml", yaml.as_bytes()), Ok(manifest.clone()), "{}", yaml);
        let json = serde_json::to_string(&manifest).unwrap();
        prop_assert_eq!(Manifest::parse("a.json", json.as_bytes()), Ok(manifest), "{}", json);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        check_outcome(&bytes)?;
    }

    #[test]
    fn random_yaml_characters_never_panic(text in "[a:\\-\\[\\]{}'\"|>&*!%#?,. \n\t0~<]{0,200}") {
        check_outcome(text.as_bytes())?;
    }

    #[test]
    fn mutated_manifests_never_panic(bytes in mutated()) {
        check_outcome(&bytes)?;
    }
}
