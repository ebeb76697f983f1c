//! One recorder, one policy, one build after another: what decides goes on, and so does the record.

use std::{fs, path::Path, process::Command, thread::sleep, time::Duration};

use serde_json::{Value, json};
use skillsandbox_tests::{
    attached::{ACTOR, EPERM, Ground, OTHER_PORT, PORT, count, policy, under_load},
    cgroup::{Attaching, command, listed},
    manifest::Manifest,
    network::Network,
    sandbox::skillsandbox,
    store::{audit, told},
};

#[test]
fn no_access_goes_through_and_none_is_lost_or_doubled_when_recorders_are_killed() {
    let moments: u64 =
        std::env::var("SKILLSANDBOX_MOMENTS").map_or(6, |count| count.parse().expect("a number"));
    let ground = Ground::new("killed");
    // Room for what is done while nobody records.
    let policy = policy().set("/audit", json!({"ring_kib": 4096}));
    let manifest = ground.manifest("manifest", &policy);
    let other = ground.manifest("other", &policy.egress("192.0.2.1/32", 1, "udp"));
    let mut inside = ground.cgroup.python(ACTOR);
    let (allowed, denied) = (format!("connect={PORT}"), format!("connect={OTHER_PORT}"));
    let mut attached = Attaching::start(&ground.arguments(&manifest));
    let counts = under_load(&mut inside, &format!("{allowed} {denied}"), || {
        for moment in 0..moments {
            sleep(Duration::from_millis(moment * 37 % 300));
            // Some while they go over to another policy, some while they take the place of the last.
            let mut reload = None;
            if moment % 3 == 0 {
                let (name, manifest) = (
                    ground.name.clone(),
                    [&manifest, &other][(moment % 2) as usize].clone(),
                );
                reload = Some(std::thread::spawn(move || {
                    command(&["reload", &name, "--manifest", &manifest])
                }));
                sleep(Duration::from_millis(moment * 7 % 60));
            }
            attached.kill();
            if let Some(reload) = reload {
                // It is done, or nobody has answered.
                let _whatever = reload.join();
            }
            let there = listed(&ground.name).expect("it is attached");
            assert_eq!(there["state"], "unrecorded");
            attached = Attaching::start_only(&["--name", &ground.name]);
            if moment % 4 != 1 {
                attached.wait_until_in_force();
            } else {
                sleep(Duration::from_millis(moment * 11 % 80));
            }
        }
        attached.kill();
        attached = Attaching::start(&["--name", &ground.name]);
    });
    ground.detach();
    assert_eq!(attached.end().0, Some(0));
    let key = |port, errno: &str| format!("connect {port} {errno}");
    let (through, refused) = (key(PORT, "0"), key(OTHER_PORT, EPERM));
    let outcomes: Vec<_> = counts.as_object().expect("counts").keys().collect();
    assert_eq!(
        outcomes,
        [&through, &refused],
        "an access had another outcome"
    );
    let records = ground.records_and_losses();
    let recorded = |port: u16, verdict| count(&records, "connect", "port", &json!(port), verdict);
    // What found no room on a ring, while nobody took anything off it, was never on it; it is counted.
    let dropped = |pointer: &str| {
        let lost = records.iter().filter(|record| record["kind"] == "lost");
        let numbers = lost.filter_map(|lost| lost.pointer(pointer)?.as_u64());
        numbers.sum::<u64>()
    };
    let allowed = recorded(PORT, "allow") + dropped("/dropped/allowed");
    let denied = recorded(OTHER_PORT, "deny") + dropped("/dropped/denied");
    assert_eq!(json!(allowed), counts[&through]);
    assert_eq!(json!(denied), counts[&refused]);
}

#[test]
fn an_access_is_decided_by_one_policy_or_the_next_and_never_by_none() {
    let ground = Ground::new("reloaded");
    let one = ground.manifest("one", &policy());
    let next = ground.manifest("next", &policy().egress("127.0.0.1/32", OTHER_PORT, "udp"));
    let mut inside = ground.cgroup.python(ACTOR);
    let attached = Attaching::start(&ground.arguments(&one));
    let both = format!("connect={PORT} connect={OTHER_PORT}");
    let counts = under_load(&mut inside, &both, || {
        for manifest in [&next, &one].into_iter().cycle().take(10) {
            let (code, said) = command(&["reload", &ground.name, "--manifest", manifest]);
            assert_eq!(code, Some(0), "{said}");
        }
    });
    assert!(
        counts.get(format!("connect {PORT} 1")).is_none(),
        "{counts}"
    );
    let other = |errno: &str| counts[format!("connect {OTHER_PORT} {errno}")].as_u64();
    assert!(other("0") > Some(0) && other("1") > Some(0), "{counts}");

    let bad = ground.manifest("bad", &Manifest(json!({"skill": {}})));
    let (code, said) = command(&["reload", &ground.name, "--manifest", &bad]);
    assert_eq!(code, Some(122), "{said}");
    assert!(said.contains("skill"), "{said}");
    assert_eq!(inside.ask(&format!("connect {OTHER_PORT}")), EPERM);
    ground.detach();
    drop(attached);
    let records = ground.records();
    let denied = count(&records, "connect", "port", &json!(OTHER_PORT), "deny");
    assert_eq!(Some(denied), other("1").map(|before| before + 1));
}

#[test]
fn what_another_build_attached_is_gone_on_with_and_detached() {
    let ground = Ground::new("upgraded");
    let manifest = ground.manifest("manifest", &policy());
    let mut inside = ground.cgroup.python(ACTOR);
    let mut attached = Attaching::start(&ground.arguments(&manifest));
    assert_eq!(inside.ask(&format!("connect {OTHER_PORT}")), EPERM);
    attached.kill();
    // As if its objects were of another build.
    let state = format!("/run/skillsandbox/attached_{}/attachment.json", ground.name);
    let text = fs::read_to_string(&state).expect("what is kept of it");
    let kept: Value = serde_json::from_str(&text).expect("JSON");
    let (own, other) = (
        kept["objects"].as_str().expect("a name"),
        "objects-0000000000000001",
    );
    let pins = Path::new("/sys/fs/bpf/skillsandbox");
    let rename = |from: &str, to: &str| {
        fs::rename(pins.join(from), pins.join(to)).expect("a folder of pins");
        let refused = |name: &str| format!("/run/skillsandbox/{name}.refused");
        fs::copy(refused(from), refused(to)).expect("reasons");
    };
    rename(own, other);
    fs::write(&state, text.replace(own, other)).expect("what is kept of it");
    // This build loads its own, and leaves the others alone.
    let (code, said) = command(&["doctor"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(inside.ask(&format!("connect {OTHER_PORT}")), EPERM);
    attached = Attaching::start(&["--name", &ground.name]);
    assert_eq!(inside.ask(&format!("connect {OTHER_PORT}")), EPERM);
    attached.kill();
    assert_eq!(inside.ask(&format!("connect {OTHER_PORT}")), EPERM);
    ground.detach();
    assert_eq!(inside.ask(&format!("connect {OTHER_PORT}")), "0");
    let records = ground.records();
    let denied = count(&records, "connect", "port", &json!(OTHER_PORT), "deny");
    assert_eq!(denied, 4);
    fs::remove_dir_all(pins.join(other)).expect("pins");
}

#[test]
fn names_keep_their_addresses_when_another_policy_has_them_as_well() {
    let ground = Ground::new("named");
    let network = Network::own(&ground.scene, &[]);
    network.serve(443);
    network.address("192.0.2.1");
    network.hosts(&[("192.0.2.1", "api.example.com other.example.com")]);
    let named = policy().names(&[("api.example.com", 443), ("inside.example.com", 443)]);
    let one = ground.manifest("one", &named);
    let next = ground.manifest(
        "next",
        &named.clone().egress("127.0.0.1/32", OTHER_PORT, "udp"),
    );
    let without = ground.manifest("without", &policy());
    let mut inside = ground.cgroup.python(ACTOR);
    let resolver = network.resolver();
    let mut arguments = ground.arguments(&one);
    arguments.push(&resolver);
    let attached = Attaching::start(&arguments);
    assert_eq!(
        inside.ask("reach 192.0.2.1 443"),
        EPERM,
        "nobody asked for the name"
    );
    assert_eq!(inside.ask("find other.example.com"), "none");
    assert_eq!(inside.ask("find api.example.com"), "192.0.2.1");
    assert_eq!(inside.ask("reach 192.0.2.1 443"), "0");
    let reload = |manifest: &str| {
        let (code, said) = command(&["reload", &ground.name, "--manifest", manifest]);
        assert_eq!(code, Some(0), "{said}");
    };
    reload(&next);
    assert_eq!(
        inside.ask("reach 192.0.2.1 443"),
        "0",
        "without asking again"
    );
    assert_eq!(
        inside.ask("find api.example.com"),
        "192.0.2.1",
        "the next one is asked"
    );
    reload(&without);
    assert_eq!(inside.ask("reach 192.0.2.1 443"), EPERM);
    ground.detach();
    drop(attached);

    network.hosts(&[
        ("192.0.2.1", "api.example.com other.example.com"),
        ("10.9.9.9", "inside.example.com"),
    ]);
    arguments.extend(["--mode", "audit"]);
    let attached = Attaching::start(&arguments);
    assert_eq!(inside.ask("find other.example.com"), "192.0.2.1");
    assert_eq!(inside.ask("find inside.example.com"), "10.9.9.9");
    assert_eq!(inside.ask("reach 192.0.2.1 443"), "0");
    ground.detach();
    drop(attached);
    let records = ground.records();
    let name = json!("other.example.com");
    assert!(count(&records, "dns", "name", &name, "deny") > 0);
    assert!(count(&records, "dns", "name", &name, "would_deny") > 0);
    assert_eq!(
        count(&records, "connect", "port", &json!(443), "would_deny"),
        1
    );
}

#[test]
fn a_record_that_waits_for_its_next_recorder_is_whole_and_nobody_ends_it() {
    let ground = Ground::new("waiting");
    let manifest = ground.manifest("manifest", &policy());
    let mut inside = ground.cgroup.python(ACTOR);
    let other = format!("connect {OTHER_PORT}");
    let mut attached = Attaching::start(&ground.arguments(&manifest));
    assert_eq!(inside.ask(&other), EPERM);
    attached.kill();
    assert_eq!(inside.ask(&other), EPERM);
    let store = Path::new(&ground.store);
    told(&audit(store, &["verify"]), 0);
    told(&audit(store, &["seal"]), 0);
    told(&audit(store, &["prune", "--larger-than", "0"]), 0);
    attached = Attaching::start(&["--name", &ground.name]);
    ground.detach();
    drop(attached);
    let records = ground.records();
    let denied = count(&records, "connect", "port", &json!(OTHER_PORT), "deny");
    assert_eq!(denied, 2);
}

#[test]
fn a_cgroup_that_only_cannot_be_seen_keeps_its_policy() {
    let ground = Ground::new("hidden");
    let manifest = ground.manifest("manifest", &policy());
    let mut inside = ground.cgroup.python(ACTOR);
    let other = format!("connect {OTHER_PORT}");
    let mut attached = Attaching::start(&ground.arguments(&manifest));
    attached.kill();
    let root = ground.cgroup.path().parent().expect("the hierarchy");
    let hidden = Command::new("unshare")
        .args([
            "-m",
            "sh",
            "-c",
            "mount -t tmpfs none \"$0\" && exec \"$@\"",
        ])
        .arg(root)
        .arg(skillsandbox().get_program())
        .args(["attach", "--name", &ground.name])
        .output()
        .expect("unshare");
    let said = String::from_utf8_lossy(&hidden.stderr);
    assert_eq!(hidden.status.code(), Some(122), "{said}");
    assert!(said.contains("cannot be found"), "{said}");
    assert_eq!(inside.ask(&other), EPERM);
    let there = listed(&ground.name).expect("it is attached");
    assert_eq!(there["state"], "unrecorded");
    ground.detach();
    assert_eq!(inside.ask(&other), "0");
}

#[test]
fn what_a_policy_allows_is_never_refused_while_it_comes_and_goes() {
    let ground = Ground::new("coming");
    let data = ground.scene.file("data");
    let manifest = ground.manifest("manifest", &policy().read(&data));
    let mut inside = ground.cgroup.python(ACTOR);
    let attempts = format!(
        "connect={PORT} open={} connect={OTHER_PORT}",
        data.display()
    );
    let counts = under_load(&mut inside, &attempts, || {
        for _ in 0..3 {
            let attached = Attaching::start(&ground.arguments(&manifest));
            ground.detach();
            drop(attached);
        }
    });
    let outcomes: Vec<_> = counts
        .as_object()
        .expect("counts")
        .keys()
        .cloned()
        .collect();
    let mut expected = [
        format!("connect {OTHER_PORT} 0"),
        format!("connect {OTHER_PORT} 1"),
        format!("connect {PORT} 0"),
        format!("open {} 0", data.display()),
    ];
    expected.sort();
    assert_eq!(outcomes, expected, "{counts}");
}
