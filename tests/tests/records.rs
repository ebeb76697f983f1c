//! What is on record: the events, and the trace at a run's end.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use serde_json::Value;
use skillsandbox_tests::{
    attempts,
    attempts::NOBODY,
    host,
    manifest::Manifest,
    sandbox::{Ran, Run},
    scene::Scene,
};

/// A run with allowed and denied opens, executions and connections.
fn varied(scene: &Scene) -> Ran {
    let granted = scene.file("granted/file");
    // Only root can put another in its place, so every tier can deny it.
    let denied = Path::new("/usr/share/common-licenses/BSD");
    let manifest = Manifest::default()
        .read(scene.path("granted"))
        .deny(denied)
        .exec("/usr/bin/true")
        .egress("127.0.0.1/32", 9, "udp");
    let attempts = attempts!(
        ["read", granted],
        ["read", denied],
        ["exec", "/usr/bin/true"],
        ["exec", "/usr/bin/env"],
        ["send", "sendto", "127.0.0.1", "9"],
        ["connect", "udp", "127.0.0.1", "9"],
        ["connect", "tcp", "127.0.0.1", "9"],
        ["send", "sendto", "127.0.0.1", "10"],
    );
    let ran = Run::probe(scene, &manifest, &attempts).end();
    let ending = if host::has_bpf_lsm() {
        "EPERM"
    } else {
        "EACCES"
    };
    let (read, exec) = ("EACCES", ending);
    ran.endings(&attempts).are(
        &["ok", read, "ok", exec, "ok", "ok", "EPERM", "EPERM"],
        "in the sandbox",
    );
    ran
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn every_event_is_an_object_of_the_schema_and_of_this_sandbox() {
    let scene = Scene::new("schema");
    let ran = varied(&scene);
    let id = ran.trace()["sandbox"].as_str().expect("an id").to_owned();
    let mut sequences = BTreeSet::new();
    let mut forked = BTreeSet::new();
    for event in &ran.events {
        assert_eq!(event["v"], 1, "{event}");
        assert_eq!(event["sandbox"], id.as_str(), "{event}");
        let time = event["time"].as_str().unwrap_or_default();
        assert!(time.len() == 30 && time.ends_with('Z'), "{event}");
        assert!(number(&event["boot_ns"]) > 0, "{event}");
        let kind = event["kind"].as_str().expect("a kind");
        match kind {
            "start" | "environment" | "end" => {
                assert!(event["sequence"].is_null(), "{event}");
                continue;
            }
            "open" | "exec" => {
                assert!(
                    event["access"]
                        .as_array()
                        .is_some_and(|list| !list.is_empty())
                );
                assert!(
                    event["path"].is_string() || event["reason"] != "rule",
                    "{event}"
                );
            }
            "connect" | "sendmsg" => {
                assert_eq!(event["address"], "127.0.0.1", "{event}");
                assert_eq!(event["family"], "inet", "{event}");
            }
            "fork" => {
                forked.insert(number(&event["child"]));
            }
            "exit" => assert!(
                event["exit_code"].is_u64() || event["signal"].is_u64(),
                "{event}"
            ),
            other => panic!("a kind that is not documented: {other}"),
        }
        if kind != "fork" && kind != "exit" {
            let verdict = event["verdict"].as_str().unwrap_or_default();
            assert!(["allow", "deny"].contains(&verdict), "{event}");
            assert!(event["reason"].is_string(), "{event}");
        }
        assert!(
            sequences.insert(number(&event["sequence"])),
            "twice: {event}"
        );
        assert_eq!(event["uid"], NOBODY, "{event}");
        for field in ["pid", "tgid", "ppid"] {
            assert!(number(&event[field]) > 0, "{event}");
        }
        assert!(event["comm"].is_string(), "{event}");
    }
    // Without holes, and with the processes that were started.
    assert_eq!(sequences.last().copied(), Some(sequences.len() as u64));
    assert_eq!(forked.len(), 2);
    let exits: BTreeSet<_> = ran
        .of_kind("exit")
        .map(|event| number(&event["tgid"]))
        .collect();
    assert!(forked.is_subset(&exits));
    assert_eq!(ran.of_kind("start").count(), 1);
    assert_eq!(ran.events.last().expect("events")["kind"], "end");
}

#[test]
fn a_trace_counts_what_its_events_are_and_adds_up() {
    let scene = Scene::new("counts");
    let ran = varied(&scene);
    let trace = ran.trace();
    let counts = &trace["counts"];
    let dropped: u64 = ["allowed", "denied", "processes"]
        .iter()
        .map(|name| number(&counts["dropped"][name]))
        .sum();
    let [decisions, allowed, denied, emitted] =
        ["decisions", "allowed", "denied", "emitted"].map(|name| number(&counts[name]));
    assert_eq!(dropped, 0, "so small a run");
    assert_eq!(decisions, allowed + denied);
    assert_eq!(emitted + dropped, number(&trace["accounting"]["records"]));
    assert_eq!(trace["accounting"]["balanced"], true);

    let of = |verdict: &str| {
        ran.events
            .iter()
            .filter(|event| event["verdict"] == verdict)
            .count() as u64
    };
    assert_eq!((allowed, denied), (of("allow"), of("deny")));
    for kind in ["open", "exec", "connect", "sendmsg"] {
        for (name, verdict) in [("allowed", "allow"), ("denied", "deny")] {
            let counted = ran
                .of_kind(kind)
                .filter(|event| event["verdict"] == verdict);
            let written = number(&counts["by_kind"][kind][name]);
            assert_eq!(written, counted.count() as u64, "{kind} {name}");
        }
    }
    let violations = trace["policy_violations"].as_array().expect("a list");
    assert_eq!(violations.len() as u64, denied);
    assert!(violations.iter().all(|event| event["verdict"] == "deny"));
    assert_eq!(number(&trace["violation_summary"]["total"]), denied);
    assert_eq!(
        trace["events"].as_array().expect("a list").len(),
        ran.events.len()
    );
    for key in [
        "trace_id",
        "skill_name",
        "skill_version",
        "started_at",
        "completed_at",
    ] {
        assert!(
            trace[key].as_str().is_some_and(|text| !text.is_empty()),
            "{key}"
        );
    }
    assert_eq!(trace["exit_code"], 0);
}

#[test]
fn a_skill_that_does_nothing_has_no_violations() {
    let scene = Scene::new("innocent");
    let ran = Run::shell(&scene, &Manifest::default(), "true")
        .end()
        .with_code(0);
    assert_eq!(ran.trace()["policy_violations"], serde_json::json!([]));
    assert_eq!(number(&ran.trace()["counts"]["denied"]), 0);
}

/// A folder of the skill's, and a file that it must not reach.
fn planted(scene: &Scene) -> (Manifest, std::path::PathBuf, std::path::PathBuf) {
    let victim = scene.path("victim");
    fs::write(&victim, "untouched").expect("a file");
    let folder = scene.folder("skills");
    (Manifest::default().both(&folder), folder, victim)
}

fn untouched(victim: &Path) {
    assert_eq!(fs::read_to_string(victim).expect("the file"), "untouched");
    let found = fs::symlink_metadata(victim).expect("the file");
    assert_eq!(
        (found.uid(), found.permissions().mode() & 0o777),
        (0, 0o644)
    );
}

#[test]
fn a_link_where_records_would_go_is_refused_before_the_skill_runs() {
    let scene = Scene::new("linked");
    let (manifest, folder, victim) = planted(&scene);
    let (link, mark) = (folder.join("record"), folder.join("mark"));
    let script = format!("echo x > {}", mark.display());
    for option in ["--trace-output", "--events"] {
        symlink(&victim, &link).expect("a link");
        let ran = Run::shell(&scene, &manifest, &script)
            .writing(option, &link)
            .code_only();
        assert_eq!(ran.0, Some(122), "{option}: {}", ran.1);
        assert!(ran.1.contains("is not a plain file"), "{}", ran.1);
        assert!(!mark.exists(), "{option}: the skill ran");
        untouched(&victim);
        fs::remove_file(&link).expect("the link to remove");
        let _after = Run::shell(&scene, &manifest, &script)
            .writing(option, &link)
            .end()
            .with_code(0);
        assert!(fs::symlink_metadata(&link).is_ok_and(|found| found.is_file()));
        fs::remove_file(&link).expect("the record to remove");
        fs::remove_file(&mark).expect("the mark to remove");
    }
}

#[test]
fn records_are_not_written_through_a_link_that_the_skill_makes() {
    let scene = Scene::new("relinked");
    let (manifest, folder, victim) = planted(&scene);
    for option in ["--trace-output", "--events"] {
        let record = folder.join("record");
        let script = format!(
            "cd {}; rm -f record; ln -s {} record; test -L record",
            folder.display(),
            victim.display()
        );
        let ran = Run::shell(&scene, &manifest, &script)
            .writing(option, &record)
            .code_only();
        untouched(&victim);
        // 123: the skill ran, and its record is not complete.
        let code = if option == "--trace-output" { 123 } else { 0 };
        assert_eq!(ran.0, Some(code), "{option}: {}", ran.1);
        // The trace has no place any more, and that is said.
        if option == "--trace-output" {
            assert!(ran.1.contains("trace cannot be written"), "{}", ran.1);
        }
        fs::remove_file(&record).expect("the link to remove");
        // Nor through a folder that it exchanges for a link.
        let (inside, elsewhere) = (scene.folder("skills/inside"), scene.path("elsewhere"));
        fs::create_dir_all(&elsewhere).expect("a folder");
        let script = format!(
            "cd {}; mv inside aside; ln -s {} inside",
            folder.display(),
            elsewhere.display()
        );
        let ran = Run::shell(&scene, &manifest, &script)
            .writing(option, &inside.join("record"))
            .code_only();
        assert_eq!(ran.0, Some(0), "{option}: {}", ran.1);
        assert_eq!(fs::read_dir(&elsewhere).expect("a folder").count(), 0);
        assert!(folder.join("aside/record").is_file(), "{option}");
        fs::remove_file(&inside).expect("the link to remove");
        fs::remove_dir_all(folder.join("aside")).expect("the folder to remove");
    }
}
