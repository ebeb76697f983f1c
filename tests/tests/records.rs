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
            "open" | "exec" | "map" | "unlink" | "rename" | "rename_to" | "link" | "link_to"
            | "truncate" | "create" | "attributes" => {
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

/// Adds the entries of a `permit` to a manifest.
fn add(manifest: &mut Manifest, line: &str) {
    let base = "skill: { name: a, version: '1' }\nentrypoint: { command: a }\n";
    let text = format!("{base}{line}\n");
    let parsed = skillsandbox::manifest::Manifest::parse("permit", text.as_bytes())
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let parsed = serde_json::to_value(&parsed.permissions).expect("JSON");
    for pointer in [
        "/filesystem/read",
        "/filesystem/write",
        "/exec/allow",
        "/network/egress",
    ] {
        let entries = parsed.pointer(pointer).and_then(Value::as_array);
        let pointer = format!("/permissions{pointer}");
        let mut there = manifest
            .0
            .pointer(&pointer)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        there.extend(entries.expect("a list").iter().cloned());
        *manifest = manifest.clone().set(&pointer, Value::Array(there));
    }
}

#[test]
fn what_each_denial_says_to_add_lets_it_through() {
    let scene = Scene::new("permit");
    let (read, written) = (scene.file("a \"b\" 'c'\\d: #"), scene.file("written"));
    let attempts = attempts!(
        ["read", read],
        ["write", written],
        ["exec", "/usr/bin/env"],
        ["send", "sendto", "127.0.0.1", "10"],
    );
    let run = |manifest: &Manifest| {
        Run::probe(&scene, manifest, &attempts)
            .option("--record-refused")
            .end()
    };
    let denying = Manifest::default();
    let ran = run(&denying);
    ran.endings(&attempts).none_ok("before");
    let mut granting = denying;
    let denials = ran.events.iter().filter(|event| event["verdict"] == "deny");
    let mut lines = BTreeSet::new();
    for event in denials {
        assert!(event["remedy"].is_null(), "{event}");
        lines.insert(event["permit"].as_str().expect("a line to add"));
    }
    assert_eq!(lines.len(), 4, "{lines:?}");
    for line in lines {
        add(&mut granting, line);
    }
    let ran = run(&granting);
    ran.endings(&attempts).all_ok("with what was named");
    assert_eq!(number(&ran.trace()["counts"]["denied"]), 0);
}

#[test]
fn a_denial_by_rule_names_the_line_to_take_it_out_of() {
    let scene = Scene::new("remedy");
    let denied = Path::new("/usr/share/common-licenses/BSD");
    let attempts = attempts!(["read", denied]);
    let ran = Run::probe(&scene, &Manifest::default().deny(denied), &attempts)
        .option("--record-refused")
        .end();
    ran.endings(&attempts).none_ok("denied");
    let event = ran
        .of_kind("open")
        .find(|event| event["verdict"] == "deny")
        .expect("a denial");
    assert!(event["permit"].is_null(), "{event}");
    let remedy = event["remedy"].as_str().expect("words");
    let expected = format!("take `filesystem.deny {}` out of line ", denied.display());
    assert!(remedy.starts_with(&expected), "{remedy}");
    let allowed = Run::probe(&scene, &Manifest::default(), &attempts).end();
    allowed.endings(&attempts).all_ok("without the rule");
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
