//! The reference and the reader name the same keys.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::manifest::{By, Manifest};

const EVERYTHING: &str = include_str!("everything.yaml");
const REFERENCE: &str = include_str!("../../../../docs/manifest.md");

/// The keys of `value`, written as `permissions.network.egress[].domain`.
fn collect_keys(prefix: &str, value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let name = format!("{prefix}{key}");
                // The keys below are the manifest's own choice.
                if name != "permissions.env_vars.set" {
                    collect_keys(&format!("{name}."), value, keys);
                }
                keys.insert(name);
            }
        }
        Value::Array(items) => {
            let prefix = format!("{}[].", prefix.trim_end_matches('.'));
            for item in items {
                collect_keys(&prefix, item, keys);
            }
        }
        _ => {}
    }
}

#[test]
fn the_reference_lists_exactly_the_known_keys() {
    let manifest = Manifest::parse("everything.yaml", EVERYTHING.as_bytes()).unwrap();
    let mut known = BTreeSet::new();
    collect_keys("", &serde_json::to_value(&manifest).unwrap(), &mut known);
    let listed: BTreeSet<_> = REFERENCE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn the_example_of_the_reference_is_a_manifest() {
    let example = REFERENCE
        .split("```yaml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let manifest = Manifest::parse("example.yaml", example.as_bytes()).unwrap();
    assert_eq!(manifest.not_enforced_yet(By::Run), []);
}

#[test]
fn the_policy_of_the_page_on_hosts_is_one() {
    let page = include_str!("../../../../docs/hosts.md");
    let example = page.split("```yaml\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let manifest = Manifest::parse("agents.yaml", example.as_bytes()).unwrap();
    assert!(manifest.cgroup.unwrap().value.is_of_many());
}
