//! What `doctor` says of the host.

use serde_json::Value;
use skillsandbox_tests::sandbox::plain_skillsandbox;

fn doctor() -> Value {
    let output = plain_skillsandbox().args(["doctor", "--json"]).output();
    let output = output.expect("skillsandbox starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn holders<'a>(report: &'a Value, permission: &str) -> Vec<&'a str> {
    let permissions = report["permissions"].as_array().expect("a list");
    let found = permissions
        .iter()
        .find(|entry| entry["permission"] == permission);
    let holders = found.expect("the permission")["held_by"]
        .as_array()
        .expect("a list");
    holders.iter().filter_map(Value::as_str).collect()
}

#[test]
fn every_layer_says_how_it_was_proved_or_why_it_is_missing() {
    let report = doctor();
    let layers = report["layers"].as_array().expect("a list");
    assert!(layers.len() >= 10, "{report:#}");
    for layer in layers {
        let detail = layer["detail"].as_str().unwrap_or_default();
        assert!(
            layer["achieved"].is_boolean() && !detail.is_empty(),
            "{layer}"
        );
    }
    for permission in report["permissions"].as_array().expect("a list") {
        for holder in permission["held_by"].as_array().expect("a list") {
            let layer = layers.iter().find(|layer| layer["name"] == *holder);
            assert_eq!(
                layer.expect("a layer of that name")["achieved"],
                true,
                "{permission}"
            );
        }
    }
    assert_eq!(report["audit_balanced"], true);
    assert!(!holders(&report, "network egress, IPv4").is_empty());
    assert!(!holders(&report, "network egress, IPv6").is_empty());
}

#[test]
fn without_json_it_is_text_that_names_the_tier() {
    let output = plain_skillsandbox().arg("doctor").output();
    let output = output.expect("skillsandbox starts");
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let tier = doctor()["tier"].as_str().expect("a tier").to_owned();
    assert!(text.starts_with(&format!("tier    {tier} ")), "{text}");
}

mod kernel_tier {
    use super::{doctor, holders};

    #[test]
    fn the_tier_is_kernel_and_ebpf_holds_opens_and_executions() {
        let report = doctor();
        assert_eq!(report["tier"], "kernel", "{report:#}");
        assert!(report["why"].is_null() && report["remedy"].is_null());
        assert!(holders(&report, "files: open").contains(&"ebpf file_open"));
        assert!(holders(&report, "exec").contains(&"ebpf bprm_check"));
    }
}

mod fallback_tier {
    use super::{doctor, holders};

    #[test]
    fn the_tier_is_fallback_with_a_reason_a_remedy_and_other_layers() {
        let report = doctor();
        assert_eq!(report["tier"], "fallback", "{report:#}");
        assert!(report["why"].as_str().is_some_and(|why| !why.is_empty()));
        assert!(
            report["remedy"]
                .as_str()
                .is_some_and(|remedy| !remedy.is_empty())
        );
        assert_eq!(holders(&report, "files: open"), ["mounts", "landlock"]);
        assert_eq!(holders(&report, "exec"), ["landlock"]);
    }
}
