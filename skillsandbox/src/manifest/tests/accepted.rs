//! What valid manifests mean.

use crate::manifest::{
    Audit, By, Destination, Egress, Filesystem, Manifest, Mode, NotEnforced, OnOverflow, PortRange,
    Protocol, Resources, Runtime, Spanned, SystemCallProfile,
};

const EVERYTHING: &str = include_str!("everything.yaml");
const ORIGINAL: &str = include_str!("../../../../manifests/original/skillsandbox.yaml");

fn parse(text: &str) -> Manifest {
    match Manifest::parse("test.yaml", text.as_bytes()) {
        Ok(manifest) => manifest,
        Err(error) => panic!("{error}"),
    }
}

/// A manifest with `keys` besides the required ones.
fn with(keys: &str) -> Manifest {
    parse(&format!(
        "skill: {{ name: a, version: '1' }}\nentrypoint: {{ command: a }}\n{keys}"
    ))
}

fn shown<T: ToString>(entries: &[Spanned<T>]) -> Vec<(String, u32)> {
    entries
        .iter()
        .map(|entry| (entry.value.to_string(), entry.line))
        .collect()
}

fn entries(expected: &[(&str, u32)]) -> Vec<(String, u32)> {
    expected
        .iter()
        .map(|(text, line)| ((*text).to_owned(), *line))
        .collect()
}

#[test]
fn the_original_format_parses_unchanged() {
    let manifest = parse(ORIGINAL);
    assert_eq!(manifest.skill.name, "weather-lookup");
    assert_eq!(manifest.skill.version, "0.1.0");
    assert_eq!(
        manifest.skill.description,
        "Fetches the current weather of a city"
    );
    assert_eq!(manifest.skill.author, "community/weather");
    let network = &manifest.permissions.network;
    assert_eq!(
        network.egress,
        [Spanned::unwritten(Egress {
            destination: Destination::Domain("api.openweathermap.org".parse().unwrap()),
            ports: vec!["443".parse().unwrap()],
            protocol: Protocol::Tcp,
        })]
    );
    let filesystem = &manifest.permissions.filesystem;
    assert_eq!(
        shown(&filesystem.read),
        entries(&[("/tmp/weather-cache", 16)])
    );
    assert_eq!(
        shown(&filesystem.write),
        entries(&[("/tmp/weather-cache", 18)])
    );
    assert_eq!(
        shown(&manifest.permissions.env_vars.allow),
        entries(&[("OPENWEATHER_API_KEY", 21), ("LANG", 22), ("PATH", 23)])
    );
    assert_eq!(
        manifest.permissions.syscalls.profile.value,
        SystemCallProfile::Default
    );
    assert_eq!(
        manifest.resources,
        Resources {
            memory_mb: 128,
            cpu_shares: 256,
            max_runtime_seconds: 30,
            max_output_bytes: 65_536,
            ..Resources::default()
        }
    );
    assert_eq!(manifest.entrypoint.command.value, "python3");
    assert_eq!(manifest.entrypoint.args, ["main.py"]);
    assert_eq!(manifest.entrypoint.workdir.as_str(), "/skill");
    assert_eq!(manifest.not_enforced_yet(By::Run), []);
}

#[test]
fn what_is_left_out_has_the_stated_default() {
    let manifest = with("permissions: {}\n");
    assert_eq!(manifest.mode, Spanned::unwritten(Mode::Enforce));
    assert_eq!(manifest.mode.line, 0);
    assert_eq!(manifest.skill.description, "");
    assert_eq!(manifest.skill.author, "");
    assert_eq!(manifest.permissions.network.egress, []);
    assert_eq!(manifest.permissions.network.listen, []);
    assert_eq!(manifest.permissions.network.unix, []);
    assert_eq!(
        manifest.permissions.filesystem,
        Filesystem {
            read: vec![],
            write: vec![],
            persist: vec![],
            deny: vec![],
            runtime: Runtime::System,
        }
    );
    assert_eq!(manifest.permissions.exec.allow, []);
    assert_eq!(manifest.permissions.env_vars.allow, []);
    assert!(manifest.permissions.env_vars.set.is_empty());
    assert_eq!(
        manifest.permissions.syscalls.profile.value,
        SystemCallProfile::Default
    );
    assert_eq!(
        manifest.resources,
        Resources {
            memory_mb: 256,
            cpu_shares: 512,
            max_runtime_seconds: 60,
            max_output_bytes: 1_048_576,
            max_processes: 64,
            max_open_files: 1_024,
        }
    );
    assert_eq!(
        manifest.audit,
        Audit {
            on_overflow: Spanned::default(),
            aggregate: Spanned::default(),
            ring_kib: None,
        }
    );
    assert_eq!(manifest.entrypoint.args, [""; 0]);
    assert_eq!(manifest.entrypoint.workdir.as_str(), "/skill");
    assert_eq!(manifest.not_enforced_yet(By::Run), []);
}

#[test]
fn an_egress_entry_defaults_to_https_over_tcp() {
    let manifest = with("permissions:\n  network:\n    egress: [{ domain: example.com }]\n");
    let entry = &manifest.permissions.network.egress[0];
    assert_eq!(entry.line, 5);
    assert_eq!(entry.value.ports, [PortRange::HTTPS]);
    assert_eq!(entry.value.protocol, Protocol::Tcp);
}

#[test]
fn a_key_with_nothing_behind_it_is_empty() {
    let manifest = with("permissions:\n  network:\n    egress:\n  filesystem:\n    read:\n");
    assert_eq!(manifest, with("permissions: {}\n"));
}

#[test]
fn every_key_has_its_meaning() {
    let manifest = parse(EVERYTHING);
    assert_eq!(manifest.mode.value, Mode::Audit);
    let egress: Vec<_> = manifest
        .permissions
        .network
        .egress
        .iter()
        .map(|e| &e.value)
        .collect();
    assert_eq!(
        egress[0].destination,
        Destination::Domain("*.example.com".parse().unwrap())
    );
    assert_eq!(
        egress[1].destination,
        Destination::Cidr("192.0.2.0/24".parse().unwrap())
    );
    assert_eq!(
        egress[1].ports,
        ["53", "8000-8100"].map(|ports| ports.parse().unwrap())
    );
    assert_eq!(egress[1].protocol, Protocol::Udp);
    assert_eq!(egress[2].ports, [PortRange::HTTPS]);
    assert_eq!(egress[2].protocol, Protocol::Any);
    assert_eq!(manifest.permissions.filesystem.runtime, Runtime::None);
    assert_eq!(manifest.audit.on_overflow.value, OnOverflow::Deny);
    assert!(manifest.audit.aggregate.value);
    assert_eq!(manifest.audit.ring_kib, Some(128));
    assert_eq!(
        manifest.resources,
        Resources {
            memory_mb: 1,
            cpu_shares: 2,
            max_runtime_seconds: 3,
            max_output_bytes: 0,
            max_processes: 5,
            max_open_files: 16,
        }
    );
    assert_eq!(manifest.entrypoint.command.value, "bin/tool");
    assert_eq!(manifest.entrypoint.args, ["--flag", "a b"]);
    assert_eq!(manifest.entrypoint.workdir.as_str(), "/data");
}

#[test]
fn rules_know_their_lines() {
    let manifest = parse(EVERYTHING);
    let permissions = &manifest.permissions;
    let lines: Vec<_> = permissions
        .network
        .egress
        .iter()
        .map(|entry| entry.line)
        .collect();
    assert_eq!(lines, [9, 10, 11]);
    assert_eq!(shown(&permissions.network.listen), entries(&[("8080", 14)]));
    assert_eq!(
        shown(&permissions.network.unix),
        entries(&[("/run/service.sock", 15)])
    );
    assert_eq!(
        shown(&permissions.filesystem.read),
        entries(&[("/data/in", 17)])
    );
    assert_eq!(
        shown(&permissions.filesystem.write),
        entries(&[("/data/out", 18)])
    );
    assert_eq!(
        shown(&permissions.filesystem.persist),
        entries(&[(".git", 19)])
    );
    assert_eq!(
        shown(&permissions.filesystem.deny),
        entries(&[("/data/in/private", 21), ("**/.env", 22)])
    );
    assert_eq!(
        shown(&permissions.exec.allow),
        entries(&[("/usr/bin/curl", 25)])
    );
    assert_eq!(shown(&permissions.env_vars.allow), entries(&[("LANG", 27)]));
    let set: Vec<_> = permissions.env_vars.set.values().cloned().collect();
    assert_eq!(shown(&set), entries(&[("UTC", 29)]));
    assert_eq!(manifest.entrypoint.command.line, 44);
}

#[test]
fn everything_that_is_not_enforced_yet_is_named_with_its_line() {
    let found: Vec<_> = parse(EVERYTHING)
        .not_enforced_yet(By::Run)
        .into_iter()
        .map(|NotEnforced { field, line, .. }| (field, line))
        .collect();
    let expected = entries(&[("permissions.filesystem.deny[1]", 22), ("mode", 1)]);
    assert_eq!(found, expected);
}

#[test]
fn asking_for_what_happens_anyway_is_not_asking_too_much() {
    let manifest = with(
        "mode: enforce\naudit: { aggregate: false }\n\
         permissions: { syscalls: { profile: strict }, network: { listen: [], unix: [] } }\n",
    );
    assert_eq!(manifest.not_enforced_yet(By::Run), []);
}

#[test]
fn json_is_accepted_as_the_yaml_that_it_is() {
    let manifest = parse(
        r#"{"skill": {"name": "a", "version": "1"}, "permissions": {}, "entrypoint": {"command": "a"}}"#,
    );
    assert_eq!(manifest, with("permissions: {}\n"));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_accepted() {
    let text = format!("\u{feff}{}", ORIGINAL.replace('\n', "\r\n"));
    let manifest = parse(&text);
    assert_eq!(manifest, parse(ORIGINAL));
    assert_eq!(manifest.permissions.filesystem.read[0].line, 16);
}

#[test]
fn only_the_description_may_have_several_lines() {
    let text = ORIGINAL.replace(
        "\"Fetches the current weather of a city\"",
        "|\n    One.\n    Two.",
    );
    assert_eq!(parse(&text).skill.description, "One.\nTwo.\n");
}

#[test]
fn the_honest_and_the_malicious_skill_declare_the_same() {
    let honest = parse(include_str!(
        "../../../../manifests/weather/skillsandbox.yaml"
    ));
    let malicious = parse(include_str!(
        "../../../../manifests/malicious-weather/skillsandbox.yaml"
    ));
    assert_eq!(honest.permissions, malicious.permissions);
    assert_eq!(honest.resources, malicious.resources);
    assert_eq!(honest.entrypoint, malicious.entrypoint);
    assert_eq!(honest.not_enforced_yet(By::Run), []);
}
