//! Recorders that are killed, stopped, or cannot write: what was recorded is there, and what was not is counted.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use skillsandbox::isolate::cgroup::Hierarchy;
use skillsandbox_tests::{
    manifest::Manifest,
    sandbox::{Ran, Run},
    scene::Scene,
    store::{audit, kept, on_a_disk, told},
};

/// How often to kill, unless the environment says otherwise.
const MOMENTS: u64 = 8;
const MOMENTS_VARIABLE: &str = "SKILLSANDBOX_MOMENTS";
/// Far longer than a start takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A skill that opens a file that it may not, and one that it may, again and again.
fn busy(scene: &Scene, times: &str) -> Run {
    let script = format!(
        "import itertools\n\
         for at in itertools.islice(itertools.count(), {times}):\n\
         \x20   open('/etc/ld.so.cache').close()\n"
    );
    let manifest = Manifest::default().exec("/usr/bin");
    Run::new(scene, &manifest, ["python3", "-c", &script])
}

#[test]
fn a_recorder_that_is_killed_leaves_what_it_has_written_and_no_half_of_anything() {
    let scene = Scene::new("torn");
    let store = scene.path("audit");
    let asked = std::env::var(MOMENTS_VARIABLE).ok();
    let moments = asked.map_or(MOMENTS, |count| count.parse().expect("a number"));
    let mut recorded = 0;
    for moment in 0..moments {
        let mut run = kept(busy(&scene, "None"), &store);
        run.command().stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = run.start();
        // Some before the first record, the others soon after it.
        let started = Instant::now();
        let has_recorded = || fs::metadata(run.events_file()).is_ok_and(|file| file.len() > 0);
        while moment >= moments / 4 && !has_recorded() {
            assert!(started.elapsed() < PATIENCE, "no record");
            sleep(Duration::from_millis(5));
        }
        sleep(Duration::from_millis(20 + moment * 31 % 500));
        if moment == moments / 4 {
            // It goes on faster than it is read, and a frame that is half written is no trouble.
            told(&audit(&store, &["query", "--run=last", "--kind=open"]), 0);
        }
        child.kill().expect("a process to kill");
        child.wait().expect("its end");
        let read = told_of_last(&store);
        let written = fs::read_to_string(run.events_file()).unwrap_or_default();
        let whole = written.rfind('\n').map_or("", |end| &written[..=end]);
        // Both are written batch by batch, the file first.
        let (kept, out) = (read.lines().count(), whole.lines().count());
        assert!(
            whole.starts_with(&read) || read.starts_with(whole),
            "kept {kept}, written out {out}"
        );
        recorded += kept;
    }
    assert!(recorded > 100, "{recorded} records");
    let ran = kept(busy(&scene, "3"), &store).end().with_code(0);
    assert!(told_of_last(&store) == ran.events_text);
    let named = told(&audit(&store, &["verify"]), 1);
    let troubles: Vec<_> = named
        .lines()
        .filter(|line| line.starts_with("runs/"))
        .collect();
    assert!(
        !troubles.is_empty() && troubles.len() <= moments as usize,
        "{named}"
    );
    for line in troubles {
        let unfinished = [
            "no end in the ledger",
            "is not in the ledger",
            "it ends within",
            "is not there",
            "does not say which run",
        ];
        assert!(
            unfinished.iter().any(|words| line.contains(words)),
            "{line}"
        );
    }
    assert!(!named.contains("ledger line"), "{named}");

    // They are ended where they are, and no record of theirs is lost by that.
    let before = records(&store);
    told(&audit(&store, &["seal"]), 0);
    assert!(records(&store) == before);
    let verified = told(&audit(&store, &["verify"]), 0);
    assert!(
        verified.contains(" ended when their recorder was killed"),
        "{verified}"
    );
}

#[test]
fn what_is_done_in_turn_on_several_processors_is_on_record_in_that_order() {
    const TURNS: usize = 500;
    let scene = Scene::new("moving");
    let file = scene.path("turn");
    fs::write(&file, "").expect("a file");
    // Two processes, each on a processor of its own where there are two, hand each other the turn. One now and then makes
    // a third, whose program has to be known.
    let script = format!(
        "import os, sys\n\
         processors = sorted(os.sched_getaffinity(0))\n\
         (mine, yours), (theirs, ours) = os.pipe(), os.pipe()\n\
         first = os.fork() != 0\n\
         os.sched_setaffinity(0, {{processors[0 if first else -1]}})\n\
         take, give = (theirs, yours) if first else (mine, ours)\n\
         for at in range({TURNS}):\n\
         \x20   if at > 0 or not first:\n\
         \x20       os.read(take, 1)\n\
         \x20   os.close(os.open('{}', os.O_RDONLY))\n\
         \x20   os.write(give, b'.')\n\
         \x20   if at % 50 == 0 and os.fork() == 0:\n\
         \x20       os.execv(sys.executable, ['python3', '-Sc', ''])\n",
        file.display()
    );
    let manifest = Manifest::default()
        .exec("/usr/bin")
        .exec("/usr/lib")
        .read(&file);
    let ran = Run::new(&scene, &manifest, ["python3", "-c", &script])
        .end()
        .with_code(0);
    assert_eq!(ran.trace()["accounting"]["balanced"], true);
    let turns: Vec<_> = ran
        .events
        .iter()
        .filter(|event| event["path"] == file.to_str().expect("UTF-8"))
        .map(|event| (event["sequence"].as_u64(), event["tgid"].as_u64()))
        .collect();
    assert_eq!(turns.len(), 2 * TURNS);
    for pair in turns.windows(2) {
        let [(one, who), (next, other)] = pair else {
            panic!("no pair")
        };
        assert!(one < next && who != other, "{pair:?}");
    }
    let mut known = HashSet::new();
    for event in ran.events.iter().filter(|event| event["tgid"].is_u64()) {
        let is_known = event["executable"].is_string();
        assert!(
            is_known || !known.contains(&event["tgid"].as_u64()),
            "{event}"
        );
        if event["kind"] == "exec" {
            known.insert(event["tgid"].as_u64());
        } else if event["kind"] == "fork" && is_known {
            known.insert(event["child"].as_u64());
        }
    }
    assert!(known.len() > 20, "{known:?}");
}

/// Every record of the store, sorted.
fn records(store: &Path) -> Vec<String> {
    let output = audit(store, &["query", "--format=jsonl"]);
    let lines = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let mut lines: Vec<_> = lines.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// The records of the run that began last, none where it had not begun.
fn told_of_last(store: &Path) -> String {
    let output = audit(store, &["query", "--format=jsonl", "--run=last"]);
    String::from_utf8(output.stdout).expect("JSON is UTF-8")
}

/// Stops the recorder of a run that has begun for five seconds; the skill goes on, as it is not being held back just then.
fn stopped_for_a_while(mut run: Run) -> Ran {
    let child = run.start();
    let started = Instant::now();
    let first = loop {
        let events = fs::read_to_string(run.events_file()).unwrap_or_default();
        if let Some((line, _)) = events.split_once('\n') {
            break serde_json::from_str::<Value>(line).expect("a record");
        }
        assert!(started.elapsed() < PATIENCE, "no record");
        sleep(Duration::from_millis(5));
    };
    let signal = |name: &str| {
        let mut kill = Command::new("kill");
        let sent = kill.args(["-s", name, &child.id().to_string()]).status();
        assert!(sent.expect("kill starts").success());
    };
    let sandbox = first["sandbox"].as_str().expect("a sandbox");
    let hierarchy = Hierarchy::find().expect("cgroup v2");
    let cgroup = hierarchy.root().join("skillsandbox").join(sandbox);
    let is_held = || {
        let asked = fs::read_to_string(cgroup.join("cgroup.freeze")).expect("the run's cgroup");
        asked.trim() == "1"
    };
    // A thread that is in the kernel stops when it leaves it.
    let stop = || {
        signal("STOP");
        sleep(Duration::from_millis(50));
    };
    stop();
    while is_held() {
        assert!(started.elapsed() < PATIENCE, "it is always held back");
        signal("CONT");
        sleep(Duration::from_millis(5));
        stop();
    }
    sleep(Duration::from_secs(5));
    signal("CONT");
    let output = child.wait_with_output().expect("its end");
    run.read(output).with_code(0)
}

fn number(record: &Value, pointer: &str) -> u64 {
    let number = record.pointer(pointer).and_then(Value::as_u64);
    number.unwrap_or_else(|| panic!("{pointer} is no number in {record}"))
}

#[test]
fn what_a_stopped_recorder_misses_is_counted_to_the_event() {
    let scene = Scene::new("stopped");
    let store = scene.path("audit");
    let script = "import time\n\
         end = time.monotonic() + 9\n\
         while time.monotonic() < end: open('/etc/ld.so.cache').close()\n";
    let manifest = Manifest::default()
        .exec("/usr/bin")
        .set("/audit", json!({"ring_kib": 64}));
    let run = Run::new(&scene, &manifest, ["python3", "-c", script]);
    let ran = stopped_for_a_while(kept(run, &store));
    let numbers: Vec<u64> = ran
        .events
        .iter()
        .filter_map(|record| record["sequence"].as_u64())
        .collect();
    // The last ones may be missing too: how many were numbered, the kernel's own count tells.
    let trace = ran.trace();
    let given = number(&trace, "/accounting/records");
    let last = *numbers.iter().max().expect("a record");
    assert!(last <= given, "{last} of {given}");
    let holes = given - numbers.len() as u64;
    let (mut lost, mut between) = (0, Vec::new());
    for record in ran.of_kind("lost") {
        let causes = ["/dropped/allowed", "/dropped/denied", "/dropped/processes"];
        lost += causes
            .iter()
            .map(|cause| number(record, cause))
            .sum::<u64>();
        between.push((number(record, "/from_boot_ns"), number(record, "/boot_ns")));
    }
    assert_eq!(lost, holes, "{between:?}");
    assert!(between.iter().all(|(from, to)| from < to), "{between:?}");
    assert!(lost > 0, "{} records", numbers.len());
    // The stop is in the time in which it says that they were lost.
    let longest = between.iter().map(|(from, to)| to - from).max();
    assert!(longest > Some(4_000_000_000), "{between:?}");
    assert_eq!(ran.of_kind("end").next().expect("an end")["balanced"], true);
    let verified = told(&audit(&store, &["verify"]), 0);
    assert!(
        verified.contains(&format!(" {lost} lost when they were recorded")),
        "{verified}"
    );
}

/// A small file system, gone when this is dropped.
struct Small(PathBuf);

impl Small {
    fn new(folder: PathBuf) -> Self {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k,mode=0755", "tmpfs"])
            .arg(&folder)
            .status();
        assert!(status.is_ok_and(|status| status.success()), "a tmpfs");
        Self(folder)
    }

    fn remount(&self, mode: &str) {
        let mut mount = Command::new("mount");
        let status = mount.args(["-o", &format!("remount,{mode}")]).arg(&self.0);
        assert!(
            status.status().is_ok_and(|status| status.success()),
            "{mode}"
        );
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_of_and_what_was_written_before_it_stays() {
    let scene = Scene::new("full");
    let small = Small::new(scene.folder("small"));
    let store = small.0.join("audit");
    let ran = kept(busy(&scene, "20000"), &store).end().with_code(123);
    assert!(
        ran.stderr.contains("audit store cannot be written"),
        "{}",
        ran.stderr
    );
    let read = told(&audit(&store, &["query", "--format=jsonl"]), 0);
    assert!(ran.events_text.starts_with(&read) && !read.is_empty());
    assert!(read.len() < ran.events_text.len());
    let named = told(&audit(&store, &["verify"]), 1);
    assert!(named.contains("has no end in the ledger"), "{named}");
}

/// Answers that the disk has failed, but for the first time: that is the line of the ledger that says that
/// the run begins.
const FAILING_DISK: &str = "#include <errno.h>\n\
    static int times;\n\
    int fdatasync(int fd) { (void)fd; if (++times < 2) return 0; errno = EIO; return -1; }\n";

#[test]
fn a_disk_that_fails_is_told_of_and_what_was_written_before_it_stays() {
    let scene = Scene::new("failing");
    let store = scene.path("audit");
    let mut run = kept(busy(&scene, "20000"), &store);
    on_a_disk(&scene, &mut run, FAILING_DISK);
    let ran = run.end().with_code(123);
    let said = "audit store cannot be written: Input/output error";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    let read = told(&audit(&store, &["query", "--format=jsonl"]), 0);
    assert!(ran.events_text.starts_with(&read) && !read.is_empty());
    let named = told(&audit(&store, &["verify"]), 1);
    assert!(named.contains("has no end in the ledger"), "{named}");
    // The disk is well again.
    let ran = kept(busy(&scene, "3"), &store).end().with_code(0);
    assert!(told_of_last(&store) == ran.events_text);
}

#[test]
fn a_store_that_cannot_be_written_is_asked_and_proved_and_nothing_is_run() {
    let scene = Scene::new("read-only");
    let small = Small::new(scene.folder("small"));
    let store = small.0.join("audit");
    let first = kept(busy(&scene, "3"), &store).end().with_code(0);
    small.remount("ro");
    let (code, said) = kept(busy(&scene, "3"), &store).code_only();
    assert_eq!(code, Some(122), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(told_of_last(&store) == first.events_text);
    told(&audit(&store, &["verify"]), 0);
    small.remount("rw");
    let second = kept(busy(&scene, "3"), &store).end().with_code(0);
    assert!(told_of_last(&store) == second.events_text);
    told(&audit(&store, &["verify"]), 0);
}

mod kernel_tier {
    use super::*;

    #[test]
    fn where_none_may_be_lost_what_a_stopped_recorder_has_no_room_for_is_denied() {
        let scene = Scene::new("no-room");
        let store = scene.path("audit");
        let file = "/etc/ld.so.cache";
        let script = format!(
            "import time\n\
             end, opened, denied = time.monotonic() + 9, 0, 0\n\
             while time.monotonic() < end:\n\
             \x20   try: open('{file}').close(); opened += 1\n\
             \x20   except PermissionError: denied += 1\n\
             print(opened, denied)\n"
        );
        let manifest = Manifest::default()
            .exec("/usr/bin")
            .set("/audit", json!({"ring_kib": 64, "on_overflow": "deny"}));
        let mut run = kept(
            Run::new(&scene, &manifest, ["python3", "-c", &script]),
            &store,
        );
        run.pipe_output();
        let ran = stopped_for_a_while(run);
        let output = ran.output();
        let counted: Vec<u64> = output
            .split_whitespace()
            .map(|word| word.parse().expect("a number"))
            .collect();
        let [opened, denied] = counted[..] else {
            panic!("{output}");
        };
        let of_file: Vec<_> = ran
            .of_kind("open")
            .filter(|open| open["path"] == file)
            .collect();
        let allowed = of_file.iter().filter(|open| open["verdict"] == "allow");
        // The linker opens it, too, and whoever executes the skill's program.
        let others = allowed.count() as u64 - opened;
        assert!(
            others < 8,
            "{opened} were opened, and {others} more are on record"
        );
        let overflown = of_file.iter().filter(|open| open["reason"] == "overflow");
        let lost = ran.of_kind("lost");
        let lost: Vec<_> = lost.map(|lost| &lost["dropped"]).collect();
        let unheard: u64 = lost.iter().map(|lost| number(lost, "/denied")).sum();
        assert!(
            lost.iter().all(|lost| number(lost, "/allowed") == 0),
            "{lost:?}"
        );
        assert_eq!(overflown.count() as u64 + unheard, denied, "{lost:?}");
        assert!(denied > 0, "{opened} were opened");
        told(&audit(&store, &["verify"]), 0);
    }

    #[test]
    fn a_skill_whose_records_cannot_be_written_is_ended_where_none_may_be_lost() {
        let scene = Scene::new("unrecorded");
        let small = Small::new(scene.folder("small"));
        let store = small.0.join("audit");
        let script = "while :; do : < /etc/ld.so.cache; done";
        let manifest = Manifest::default()
            .set("/audit", json!({"on_overflow": "deny"}))
            .set("/resources/max_runtime_seconds", 600.into());
        let started = Instant::now();
        let run = kept(Run::shell(&scene, &manifest, script), &store);
        let ran = run.end().with_code(123);
        assert!(
            started.elapsed() < Duration::from_secs(300),
            "it was not ended"
        );
        assert!(
            ran.stderr.contains("the skill is ended: "),
            "{}",
            ran.stderr
        );
        let read = told(&audit(&store, &["query", "--format=jsonl"]), 0);
        assert!(ran.events_text.starts_with(&read) && !read.is_empty());
    }
}
