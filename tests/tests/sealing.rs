//! Stores that seal themselves, and the one that is there without being asked for.

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use skillsandbox::audit::{
    clock::Clock,
    collect::Collector,
    describe::Knowledge,
    record::Ending,
    store::{About, FORMAT, Log, Writer},
};
use skillsandbox_common::slot::SlotCounters;
use skillsandbox_tests::{
    manifest::Manifest,
    sandbox::{Run, skillsandbox},
    scene::Scene,
    store::{audit, kept, told},
};

/// Far longer than it takes to seal a hundred empty runs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The log of a run in which nothing happened.
fn over(store: &Path, number: usize) {
    let clock = Clock::capture();
    let sandbox = format!("over-{number:08}");
    let about = About {
        format: FORMAT,
        run: format!("20260101T000000000Z-{sandbox}"),
        sandbox: sandbox.clone(),
        skill_name: "over".to_owned(),
        skill_version: "1".to_owned(),
        host: "host".to_owned(),
        tier: "kernel".to_owned(),
        lasts_for_boot: None,
        booted_unix_ns: clock.offset(),
        rules: Vec::new(),
    };
    let writer = Writer::open(store).expect("a store");
    let log = Log::begin(writer, &about, clock.time(0)).expect("a log");
    let mut collector = Collector::new(Knowledge {
        sandbox,
        clock,
        rules: &[],
        names: None,
        judge: None,
    });
    collector.add("store", Box::new(log));
    let (_summary, errors) = collector.finish(&SlotCounters::default(), Ending::default());
    assert!(errors.is_empty(), "{errors:?}");
}

fn logs(store: &Path) -> usize {
    fs::read_dir(store.join("runs")).expect("logs").count()
}

#[test]
fn a_run_leaves_a_process_behind_that_seals_what_has_come_together() {
    let scene = Scene::new("sealing");
    let store = scene.path("audit");
    let run = || {
        let run = Run::shell(&scene, &Manifest::default(), "true").option("--verbose");
        kept(run, &store).end().with_code(0)
    };
    fs::create_dir(&store).expect("a folder");
    (0..98).for_each(|number| over(&store, number));
    let few = run();
    assert!(
        !few.stderr.contains("seals the audit store's logs"),
        "{}",
        few.stderr
    );
    assert_eq!(logs(&store), 99);
    let enough = run();
    assert!(
        enough.stderr.contains("seals the audit store's logs"),
        "{}",
        enough.stderr
    );
    let started = Instant::now();
    while logs(&store) > 0 {
        assert!(
            started.elapsed() < PATIENCE,
            "{} logs are left",
            logs(&store)
        );
        sleep(Duration::from_millis(50));
    }
    let verified = told(&audit(&store, &["verify"]), 0);
    assert!(verified.contains("100 sealed"), "{verified}");
    let last = told(
        &audit(&store, &["query", "--run=last", "--format=jsonl"]),
        0,
    );
    assert!(last == enough.events_text);
}

#[test]
fn a_run_is_kept_where_the_usual_folder_is_there() {
    let scene = Scene::new("usual");
    let words = skillsandbox().get_program().to_string_lossy().into_owned();
    // The folder is there for this process and those that it starts alone.
    let script = format!(
        "mount -t tmpfs -o mode=0755 tmpfs /var/lib && mkdir -p -m 0755 /var/lib/skillsandbox/audit && \
         \"$@\" && exec {words} audit query --run=last --format=jsonl"
    );
    let run = Run::shell(&scene, &Manifest::default(), "true");
    let run = run.around(&["unshare", "--mount", "sh", "-c", &script, "sh"]);
    let ran = run.end().with_code(0);
    assert!(ran.output() == ran.events_text && !ran.events_text.is_empty());
}
