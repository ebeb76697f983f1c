//! Accesses that are counted with an earlier one.

use std::path::Path;

use serde_json::{Value, json};
use skillsandbox_tests::{
    manifest::Manifest,
    sandbox::Run,
    scene::Scene,
    store::{audit, kept, told},
};

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn accesses_that_differ_in_nothing_but_their_time_are_counted_where_that_is_asked_for() {
    let scene = Scene::new("aggregated");
    let granted = scene.file("granted/file");
    let denied = Path::new("/usr/share/common-licenses/BSD");
    let manifest = Manifest::default()
        .read(scene.path("granted"))
        .deny(denied)
        .exec("/usr/bin")
        .set("/audit", json!({"aggregate": true}));
    let script = format!(
        "def touch(path):\n\
         \x20   try: open(path).close()\n\
         \x20   except OSError: pass\n\
         for _ in range(500): touch('{}'); touch('{}')\n",
        granted.display(),
        denied.display()
    );
    let store = scene.path("audit");
    let run = Run::new(&scene, &manifest, ["python3", "-c", &script]);
    // On the kernel tier it is not eBPF that is first to deny.
    let run = run.option("--record-refused");
    let ran = kept(run, &store).end().with_code(0);
    for (path, verdict) in [(granted.as_path(), "allow"), (denied, "deny")] {
        let of = |kind: &str| {
            let all: Vec<_> = ran
                .of_kind(kind)
                .filter(|record| record["path"] == path.to_str().expect("text"))
                .collect();
            assert!(
                all.iter().all(|record| record["verdict"] == verdict),
                "{all:?}"
            );
            all
        };
        assert_eq!(of("open").len(), 1, "{}", path.display());
        let times: u64 = of("repeat")
            .iter()
            .map(|record| number(&record["count"]))
            .sum();
        assert_eq!(times, 499, "{}", path.display());
    }
    let trace = ran.trace();
    let counts = &trace["counts"];
    let folded: u64 = ran
        .of_kind("repeat")
        .map(|record| number(&record["count"]))
        .sum();
    assert_eq!(number(&counts["folded"]), folded);
    assert_eq!(
        number(&counts["decisions"]),
        number(&counts["allowed"]) + number(&counts["denied"])
    );
    assert_eq!(trace["accounting"]["balanced"], true, "{trace}");

    // As a log and as a segment the store counts them all.
    for _ in 0..2 {
        for path in [
            granted.to_str().expect("text"),
            denied.to_str().expect("text"),
        ] {
            for more in [&[][..], &["--kind=open"]] {
                let stats = [&["stats", "--list=paths", "--path", path], more].concat();
                let counted = told(&audit(&store, &stats), 0);
                assert!(counted.trim_start().starts_with("500 "), "{counted}");
            }
        }
        told(&audit(&store, &["seal"]), 0);
    }
    told(&audit(&store, &["verify"]), 0);
}

#[test]
fn each_execution_has_a_record_of_its_own_also_where_others_are_counted() {
    let scene = Scene::new("executions");
    let manifest = Manifest::default()
        .exec("/usr/bin")
        .set("/audit", json!({"aggregate": true}));
    // One process, of one name throughout.
    let script = "import os, sys\n\
         left = int(sys.argv[1])\n\
         if left: os.execv(sys.executable, ['python3', '-c', sys.argv[2], str(left - 1), sys.argv[2]])\n";
    let run = Run::new(&scene, &manifest, ["python3", "-c", script, "4", script]);
    let ran = run.end().with_code(0);
    let programs = ran.of_kind("exec").filter(|exec| {
        let path = exec["path"].as_str().unwrap_or_default();
        path.contains("python3") && exec["verdict"] == "allow"
    });
    assert_eq!(programs.count(), 5);
    assert!(ran.of_kind("repeat").all(|repeat| repeat["of"] != "exec"));
    assert!(ran.of_kind("repeat").count() > 0, "nothing was counted");
}
