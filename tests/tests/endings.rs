//! How runs end, and what their exit codes say.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::json;
use skillsandbox_tests::{
    host,
    manifest::Manifest,
    sandbox::{Run, skillsandbox},
    scene::Scene,
};

#[test]
fn the_exit_code_is_the_skills_own() {
    let scene = Scene::new("codes");
    for code in [0, 1, 7, 119] {
        let ran = Run::shell(&scene, &Manifest::default(), &format!("exit {code}")).end();
        let end = ran.with_code(code);
        assert_eq!(end.trace()["exit_code"], json!(code));
        let record = end.of_kind("end").next().expect("an end on record").clone();
        assert_eq!(record["exit_code"], json!(code));
    }
}

#[test]
fn a_signal_is_128_and_its_number() {
    let scene = Scene::new("signals");
    for (name, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11)] {
        let ran = Run::shell(&scene, &Manifest::default(), &format!("kill -{name} $$")).end();
        let ran = ran.with_code(128 + number);
        assert_eq!(ran.trace()["signal"], json!(number), "SIG{name}");
    }
}

#[test]
fn a_refused_manifest_is_120_and_nothing_runs() {
    let scene = Scene::new("refused");
    let mark = scene.folder("granted").join("mark");
    let script = format!("echo x > {}", mark.display());
    let granting = Manifest::default().write(scene.path("granted"));
    let wrong = [
        ("/mode", json!("audit"), "not enforced yet"),
        ("/permissions/netwrk", json!({}), "did you mean `network`?"),
        ("/resources/memory_mb", json!(0), "out of range"),
    ];
    for (pointer, value, words) in wrong {
        let manifest = granting.clone().set(pointer, value);
        let ran = Run::shell(&scene, &manifest, &script).end().with_code(120);
        assert!(ran.stderr.contains(words), "{pointer}: {}", ran.stderr);
        assert!(ran.events.is_empty() && !mark.exists(), "{pointer}");
    }
    let _right = Run::shell(&scene, &granting, &script).end().with_code(0);
    assert!(mark.exists(), "the same run with a right manifest");
}

#[test]
fn what_cannot_be_set_up_is_122() {
    let scene = Scene::new("setup");
    let missing = scene.path("missing");
    let manifest = Manifest::default().read(&missing);
    let ran = Run::shell(&scene, &manifest, "true").end().with_code(122);
    assert!(ran.stderr.contains("it does not exist"), "{}", ran.stderr);
    scene.file("missing");
    let _there = Run::shell(&scene, &manifest, "true").end().with_code(0);
}

#[test]
fn without_root_it_is_121_with_a_reason() {
    let scene = Scene::new("unprivileged");
    let run = |user: &str| {
        let nobody = [
            "setpriv",
            "--reuid",
            user,
            "--regid",
            user,
            "--clear-groups",
        ];
        let program = scene.path("skillsandbox");
        fs::copy(skillsandbox().get_program(), &program).expect("a copy of the program");
        let mut command = std::process::Command::new("setpriv");
        command.args(nobody.iter().skip(1)).arg(program);
        let manifest = scene.path("skillsandbox.yaml");
        let text = Manifest::default().0.to_string();
        fs::write(&manifest, text).expect("a manifest");
        command
            .args(["run", "--manifest"])
            .arg(manifest)
            .args(["--", "true"]);
        command.output().expect("setpriv")
    };
    let nobody = run("65534");
    let words = String::from_utf8_lossy(&nobody.stderr);
    assert_eq!(nobody.status.code(), Some(121), "{words}");
    assert!(words.contains("root"), "{words}");
    assert_eq!(run("0").status.code(), Some(0));
}

#[test]
fn the_deadline_is_124_and_takes_what_left_its_session_along() {
    let scene = Scene::new("deadline");
    let folder = scene.folder("out");
    let beat = folder.join("beat");
    let mark = format!("beating-{}", std::process::id());
    let beating = format!(
        "setsid sh -c ': {mark}; trap \"\" TERM INT HUP; while :; do echo x >> {}; sleep 0.1; done' & \
         setsid setsid sleep 3600 & exec sleep 3600",
        beat.display()
    );
    // Emulated processors need longer to come to the first beat.
    let seconds = if host::has_bpf_lsm() { 15 } else { 3 };
    let manifest = Manifest::default()
        .write(&folder)
        .set("/resources/max_runtime_seconds", json!(seconds));
    let started = Instant::now();
    let ran = Run::shell(&scene, &manifest, &beating).end().with_code(124);
    assert!(started.elapsed() >= Duration::from_secs(seconds));
    sleep(Duration::from_secs(1));
    assert_eq!(host::processes(&mark), Vec::<u32>::new());
    let beats = |file| fs::metadata(file).map_or(0, |found| found.len());
    let counted = beats(&beat);
    assert!(counted > 0, "it had run");
    sleep(Duration::from_millis(500));
    assert_eq!(beats(&beat), counted, "it still runs");
    let deadline = ran
        .of_kind("deadline")
        .next()
        .expect("a note on the deadline");
    assert_eq!(deadline["seconds"], json!(seconds));
    assert!(ran.stderr.contains("max_runtime_seconds"), "{}", ran.stderr);
}

#[test]
fn what_a_skill_leaves_running_ends_with_it() {
    let scene = Scene::new("left");
    let mark = format!("staying-{}", std::process::id());
    let script = format!("setsid sh -c ': {mark}; sleep 3600' >/dev/null 2>&1 & exit 5");
    let _ran = Run::shell(&scene, &Manifest::default(), &script)
        .end()
        .with_code(5);
    assert_eq!(host::processes(&mark), Vec::<u32>::new());
}

#[test]
fn a_signal_to_the_supervisor_ends_the_skill() {
    let scene = Scene::new("interrupted");
    let mark = format!("interrupted-{}", std::process::id());
    let script = format!(": {mark}; sleep 3600; true");
    for (name, number) in [("-INT", 2), ("-TERM", 15), ("-HUP", 1)] {
        let mut run = Run::shell(&scene, &Manifest::default(), &script);
        let child = run.start();
        let deadline = Instant::now() + Duration::from_mins(2);
        while host::processes(&mark).len() < 2 {
            assert!(Instant::now() < deadline, "it does not start");
            sleep(Duration::from_millis(20));
        }
        // Past the set-up: the skill itself runs when `sleep` does.
        while fs::read_to_string(run.events_file())
            .unwrap_or_default()
            .is_empty()
        {
            assert!(Instant::now() < deadline, "nothing is recorded");
            sleep(Duration::from_millis(20));
        }
        let sent = std::process::Command::new("kill")
            .args([name, &child.id().to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()));
        let ran = run.read(child.wait_with_output().expect("an end"));
        let _ended = ran.with_code(128 + number);
        assert_eq!(host::processes(&mark), Vec::<u32>::new());
    }
}

#[test]
fn output_over_the_limit_is_dropped_and_on_record() {
    let scene = Scene::new("output");
    let script = "yes out | head -c 6000; yes err | head -c 6000 >&2";
    let run = |limit: u64| {
        let manifest = Manifest::default().set("/resources/max_output_bytes", json!(limit));
        Run::shell(&scene, &manifest, script).end().with_code(0)
    };
    let whole = run(12_000);
    assert_eq!(whole.stdout.len(), 6_000);
    assert_eq!(whole.stderr.matches("err\n").count(), 1_500);
    assert!(whole.of_kind("limit").next().is_none());
    let cut = run(10_000);
    let bytes = cut.stdout.len() + cut.stderr.matches("err\n").count() * 4;
    assert!(
        (9_997..=10_000).contains(&bytes),
        "{bytes} of both streams together"
    );
    let note = cut.of_kind("limit").next().expect("a note on the limit");
    assert_eq!(note["limit"], json!(10_000));
    let silent = run(0);
    assert!(silent.stdout.is_empty() && !silent.stderr.contains("err\n"));
}

#[test]
fn a_dry_run_executes_nothing_and_shows_the_rules() {
    let scene = Scene::new("dry");
    let folder = scene.folder("out");
    let mark = folder.join("mark");
    let script = format!("echo x > {}", mark.display());
    let manifest = Manifest::default().write(&folder);
    let ran = Run::shell(&scene, &manifest, &script)
        .option("--dry-run")
        .end()
        .with_code(0);
    assert!(
        ran.output().ends_with("nothing was executed\n"),
        "{}",
        ran.output()
    );
    assert!(
        ran.output()
            .contains(&format!("filesystem.write {}", folder.display()))
    );
    assert!(!mark.exists() && ran.events.is_empty() && ran.trace_text.is_empty());
    let _wet = Run::shell(&scene, &manifest, &script).end().with_code(0);
    assert!(mark.exists());
}

mod fallback_tier {
    use skillsandbox_tests::{manifest::Manifest, sandbox::Run, scene::Scene};

    #[test]
    fn requiring_more_than_this_host_has_is_121_and_nothing_runs() {
        let scene = Scene::new("required");
        let mark = scene.folder("out").join("mark");
        let script = format!("echo x > {}", mark.display());
        let manifest = Manifest::default().write(scene.path("out"));
        let run = Run::shell(&scene, &manifest, &script).option("--require=kernel");
        let ran = run.end().with_code(121);
        assert!(ran.stderr.contains("fallback tier"), "{}", ran.stderr);
        assert!(ran.events.is_empty() && !mark.exists());
        let _without = Run::shell(&scene, &manifest, &script).end().with_code(0);
        assert!(mark.exists());
    }

    #[test]
    fn a_rule_that_only_ebpf_can_hold_is_121_and_nothing_runs() {
        let scene = Scene::new("nothere");
        let manifest = Manifest::default().deny("**/key");
        let ran = Run::shell(&scene, &manifest, "true").end().with_code(121);
        assert!(
            ran.stderr.contains("**/key cannot be enforced"),
            "{}",
            ran.stderr
        );
        let _without = Run::shell(&scene, &Manifest::default(), "true")
            .end()
            .with_code(0);
    }
}

mod kernel_tier {
    use skillsandbox_tests::{manifest::Manifest, sandbox::Run, scene::Scene};

    #[test]
    fn requiring_ebpf_is_granted() {
        let scene = Scene::new("required");
        let run = Run::shell(&scene, &Manifest::default(), "true").option("--require=kernel");
        let ran = run.end().with_code(0);
        assert_eq!(ran.trace()["tier"], "kernel");
    }
}
