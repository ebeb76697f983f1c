use super::*;

const MANIFEST: &str = "
skill: { name: asked, version: '1' }
permissions:
  network:
    egress:
      - { domain: api.example.com, ports: [443] }
      - { cidr: 10.1.0.0/16, ports: ['8000-8100'] }
    listen: [8080]
  filesystem: { read: [/usr/share/doc], write: [/var/tmp/work] }
  exec: { allow: [/usr/bin/env] }
  env_vars: { allow: [LANG] }
resources: { memory_mb: 300 }
entrypoint: { command: /usr/bin/true }
";

/// What of the manifest exceeds a ceiling: `what > bound`.
fn exceeding(ceiling: &str) -> Vec<String> {
    let ceiling = Ceiling::parse("ceiling", ceiling.as_bytes()).unwrap();
    let manifest = Manifest::parse("manifest", MANIFEST.as_bytes()).unwrap();
    let mut draft = Draft::default();
    draft.filesystem(&manifest).unwrap();
    draft.network(&manifest).unwrap();
    let found = excesses(&ceiling, &manifest, Mode::Enforce, &draft.rules).unwrap();
    let shown = found
        .iter()
        .map(|excess| format!("{} exceeds {}", excess.what, excess.bound));
    shown.collect()
}

#[test]
fn the_pages_example_is_one() {
    let page = include_str!("../../../docs/ceiling.md");
    let example = page
        .split("```yaml")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let ceiling = Ceiling::parse("page", example.as_bytes()).unwrap();
    assert_eq!(ceiling.egress.unwrap().value.len(), 2);
}

#[test]
fn what_a_ceiling_does_not_mention_it_does_not_bound() {
    assert_eq!(exceeding("{}"), [""; 0]);
    assert_eq!(exceeding("permissions: { network: {} }"), [""; 0]);
}

#[test]
fn what_is_within_is_permitted_and_an_empty_list_permits_nothing() {
    let within = "
permissions:
  network:
    egress:
      - { domain: '*.example.com', ports: ['1-65535'], protocol: any }
      - { cidr: 10.0.0.0/8, ports: ['8000-9000'] }
    listen: ['8000-9000']
  filesystem: { read: [/usr/share], write: [/var/tmp] }
  exec: { allow: [/usr/bin] }
  env_vars: { allow: [LANG, PATH] }
resources: { memory_mb: 300, max_processes: 64 }
";
    assert_eq!(exceeding(within), [""; 0]);
    let nothing = "
permissions:
  network: { egress: [], listen: [] }
  filesystem: { read: [], write: [] }
  exec: { allow: [] }
  env_vars: { allow: [] }
";
    assert_eq!(exceeding(nothing).len(), 7, "{:?}", exceeding(nothing));
}

#[test]
fn each_of_these_is_a_little_less_than_is_asked_for() {
    for (ceiling, exceeds) in [
        (
            "egress: [{ domain: '*.api.example.com', ports: ['1-65535'] }, { cidr: 10.0.0.0/8, ports: ['1-65535'] }]",
            "network.egress api.example.com 443/tcp",
        ),
        (
            "egress: [{ domain: api.example.com, ports: [444] }, { cidr: 10.0.0.0/8, ports: ['1-65535'] }]",
            "network.egress api.example.com 443/tcp",
        ),
        (
            "egress: [{ domain: api.example.com, protocol: udp }, { cidr: 10.0.0.0/8, ports: ['1-65535'] }]",
            "network.egress api.example.com 443/tcp",
        ),
        (
            "egress: [{ domain: api.example.com }, { cidr: 10.1.0.0/17, ports: ['1-65535'] }]",
            "network.egress 10.1.0.0/16 8000-8100/tcp",
        ),
        (
            "egress: [{ domain: api.example.com }, { cidr: 10.0.0.0/8, ports: ['8000-8099'] }]",
            "network.egress 10.1.0.0/16 8000-8100/tcp",
        ),
        ("listen: [8081]", "network.listen 8080/tcp"),
    ] {
        let ceiling = format!("permissions: {{ network: {{ {ceiling} }} }}");
        let key = exceeds.split(' ').next().unwrap();
        assert_eq!(
            exceeding(&ceiling),
            [format!("{exceeds} exceeds {key}")],
            "{ceiling}"
        );
    }
    let path = "permissions: { filesystem: { read: [/usr/share/do, /usr/share/doc/x] } }";
    assert_eq!(
        exceeding(path),
        ["filesystem.read /usr/share/doc exceeds filesystem.read"]
    );
    let memory = exceeding("resources: { memory_mb: 299 }");
    assert_eq!(memory, ["resources.memory_mb: 300 exceeds resources"]);
    // What the manifest does not say is bounded as well.
    let defaults = exceeding("resources: { max_runtime_seconds: 59 }");
    assert_eq!(
        defaults,
        ["resources.max_runtime_seconds: 60 exceeds resources"]
    );
}

#[test]
fn names_below_a_wildcard_are_covered_by_that_or_a_wider_one() {
    let covers =
        |may: &str, asked: &str| covers_names(&may.parse().unwrap(), &asked.parse().unwrap());
    assert!(covers("*.example.com", "*.example.com"));
    assert!(covers("*.example.com", "*.a.example.com"));
    assert!(!covers("*.a.example.com", "*.example.com"));
    assert!(!covers("a.example.com", "*.a.example.com"));
    assert!(!covers("*.example.com", "*.badexample.com"));
}

#[test]
fn a_ceiling_that_cannot_be_understood_is_refused() {
    for bad in [
        "permissions: { file: {} }",
        "resources: { memory_mb: -1 }",
        "[1]",
    ] {
        assert!(Ceiling::parse("ceiling", bad.as_bytes()).is_err(), "{bad}");
    }
}
