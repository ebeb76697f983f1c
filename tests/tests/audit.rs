//! The audit store: what was recorded is there, whatever happened, and nothing else passes for it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use skillsandbox_tests::{
    manifest::Manifest,
    sandbox::{Run, skillsandbox},
    scene::Scene,
};

/// How often to kill, unless the environment says otherwise.
const MOMENTS: u64 = 8;
const MOMENTS_VARIABLE: &str = "SKILLSANDBOX_MOMENTS";
/// Far longer than a start takes.
const PATIENCE: Duration = Duration::from_secs(120);

fn audit(store: &Path, arguments: &[&str]) -> Output {
    let mut command = skillsandbox();
    command
        .args(["audit", "--audit-dir"])
        .arg(store)
        .args(arguments);
    command
        .stdin(Stdio::null())
        .output()
        .expect("skillsandbox starts")
}

#[track_caller]
fn told(output: &Output, code: i32) -> String {
    let (out, words) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
    let out = String::from_utf8_lossy(out).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words}\n{out}");
    out
}

fn kept(run: Run, store: &Path) -> Run {
    run.option("--audit-dir").option(store)
}

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
fn what_is_kept_is_what_was_written_out_and_can_be_asked_for() {
    let scene = Scene::new("kept");
    let store = scene.path("audit");
    let secret = scene.file("secret\u{1b}[2J");
    let script = format!(
        "cat '{}'; cat /etc/ld.so.cache > /dev/null",
        secret.display()
    );
    let runs = ["weather", "mail"].map(|name| {
        let manifest = Manifest::default().set("/skill/name", name.into());
        // The sandbox does not have that file, so that no eBPF program is asked on the kernel tier.
        let run = Run::shell(&scene, &manifest, &script).option("--record-refused");
        kept(run, &store).end().with_code(0)
    });
    let all = told(&audit(&store, &["query", "--format=jsonl"]), 0);
    assert!(all == runs.each_ref().map(|ran| ran.events_text.as_str()).concat());
    let mail_denied = [
        "query",
        "--skill=mail",
        "--verdict=deny",
        "--path=**/secret*",
    ];
    let lines = told(&audit(&store, &mail_denied), 0);
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(
        lines.contains("cat[") && lines.contains(r"secret\u{1b}[2J"),
        "{lines}"
    );
    told(
        &audit(&store, &["query", "--skill=mail", "--since=2999-01-01"]),
        1,
    );
    let listed = told(&audit(&store, &["runs"]), 0);
    assert!(
        listed.contains("  weather ") && listed.contains("  mail "),
        "{listed}"
    );
    told(&audit(&store, &["verify"]), 0);

    let stats = told(&audit(&store, &["stats", "--verdict=deny"]), 0);
    assert!(
        stats.contains("denials: 1 different\n           2 (2 denied) open "),
        "{stats}"
    );
    let tree = told(&audit(&store, &["tree", "last-1"]), 0);
    let denied: Vec<_> = tree
        .lines()
        .filter(|line| line.contains("denied open"))
        .collect();
    assert!(
        denied.len() == 1 && denied[0].contains(r"secret\u{1b}[2J"),
        "{tree}"
    );
    assert!(
        tree.starts_with("/usr/bin/dash[") && tree.contains("/usr/bin/cat["),
        "{tree}"
    );
    // The two runs did the same, and a third does something else.
    told(&audit(&store, &["diff", "last-1", "last"]), 0);
    let run = Run::shell(&scene, &Manifest::default(), "cat /etc/passwd > /dev/null");
    let ran = kept(run.option("--record-refused"), &store).end();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let diff = told(&audit(&store, &["diff", "last-1", "last"]), 1);
    let new = "+ allow open /etc/passwd by /usr/bin/cat";
    assert!(diff.lines().any(|line| line == new), "{diff}");
    let gone = |line: &str| line.starts_with("- deny open ") && line.contains(r"secret\u{1b}[2J");
    assert!(diff.lines().any(gone), "{diff}");
    let number = |line: &str| {
        line.split_once('#')
            .and_then(|(_, rest)| rest.split(' ').next().map(str::to_owned))
    };
    let number = number(&lines).expect("a number");
    let shown = told(&audit(&store, &["show", "last-1", &number]), 0);
    assert!(
        shown
            .lines()
            .any(|line| line.starts_with("> ") && line.contains("deny")),
        "{shown}"
    );
    assert!(shown.contains("    remedy  "), "{shown}");
    told(&audit(&store, &["show", "last-1", "99999"]), 1);

    // A sealed run answers as its log did.
    let asked: [&[&str]; 5] = [
        &["query", "--format=jsonl"],
        &mail_denied,
        &["stats"],
        &["tree", "last-1"],
        &["show", "last-1", &number],
    ];
    let answers = || asked.map(|question| told(&audit(&store, question), 0));
    let before = answers();
    let copy = scene.path("copy");
    let copied = Command::new("cp").arg("-a").args([&store, &copy]).status();
    assert!(copied.expect("cp starts").success());
    told(&audit(&store, &["seal"]), 0);
    let logs = fs::read_dir(store.join("runs")).expect("runs");
    assert_eq!(logs.count(), 0, "their logs are gone");
    assert!(answers() == before, "as before");
    // A log that was not taken away yet does not count twice.
    let log = fs::read_dir(copy.join("runs")).expect("logs").next();
    let log = log.expect("a log").expect("its name");
    let again = store.join("runs").join(log.file_name());
    fs::copy(log.path(), &again).expect("a log again");
    // What is in logs comes last.
    let sorted = |answers: [String; 5]| {
        answers.map(|answer| {
            let mut lines: Vec<String> = answer.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        })
    };
    assert!(sorted(answers()) == sorted(before), "as before");
    told(&audit(&store, &["seal"]), 0);
    assert!(!again.exists());
    told(&audit(&store, &["verify"]), 0);
    told(&audit(&store, &["prune", "--older-than", "0s"]), 0);
    told(&audit(&store, &["verify"]), 0);
    told(&audit(&store, &["query"]), 1);
    let store = copy;

    // Of three runs the last stays.
    let logs = || {
        let logs = fs::read_dir(store.join("runs")).expect("logs");
        let mut logs: Vec<_> = logs.map(|log| log.expect("a log").path()).collect();
        logs.sort();
        logs
    };
    let size = fs::metadata(&logs()[2])
        .expect("the last log")
        .len()
        .to_string();
    told(&audit(&store, &["prune"]), 2);
    told(
        &audit(&store, &["prune", "--larger-than", &size, "--dry-run"]),
        0,
    );
    assert_eq!(logs().len(), 3);
    told(&audit(&store, &["prune", "--larger-than", &size]), 0);
    assert_eq!(logs().len(), 1);
    told(&audit(&store, &["verify"]), 0);

    let log = logs().remove(0);
    let mut bytes = fs::read(&log).expect("a log");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).expect("another log");
    let named = told(&audit(&store, &["verify"]), 1);
    let name = log
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    assert!(named.contains(&name), "{named}");
    told(&audit(&store, &["query"]), 123);
}

#[test]
fn a_follower_is_given_the_records_of_runs_that_begin_meanwhile_and_no_others() {
    let scene = Scene::new("followed");
    let store = scene.path("audit");
    let shell = |script: &str| kept(Run::shell(&scene, &Manifest::default(), script), &store);
    let before = shell("true").end().with_code(0);
    let mut command = skillsandbox();
    command.args(["audit", "--audit-dir"]).arg(&store);
    command.args(["tail", "--follow", "--lines=1", "--format=jsonl"]);
    let output = scene.path("followed");
    let file = fs::File::create(&output).expect("a file");
    let mut tail = command.stdout(file).spawn().expect("skillsandbox starts");
    let followed = || fs::read_to_string(&output).expect("its lines");
    let until = |done: &dyn Fn(&str) -> bool| {
        let started = Instant::now();
        while !done(&followed()) {
            assert!(started.elapsed() < PATIENCE, "{}", followed());
            sleep(Duration::from_millis(50));
        }
    };
    // Its last line, and then what comes.
    until(&|lines| lines.lines().count() == 1);
    let after = shell("cat /etc/ld.so.cache > /dev/null").end().with_code(0);
    let last = before.events_text.lines().next_back().expect("an end");
    let expected = format!("{last}\n{}", after.events_text);
    until(&|lines| lines.len() >= expected.len());
    tail.kill().expect("it runs");
    tail.wait().expect("it ends");
    assert!(followed() == expected, "{}", followed());

    let timeline = told(
        &audit(&store, &["timeline", "last", "--process", "/usr/bin/cat"]),
        0,
    );
    let first = timeline.lines().next().expect("a line");
    assert!(first.starts_with("    0.000000   #"), "{timeline}");
    assert!(
        timeline.contains("allow open       /usr/bin/cat["),
        "{timeline}"
    );
    told(
        &audit(&store, &["timeline", "last", "--process", "/usr/bin/dog"]),
        1,
    );
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
}

/// The records of the run that began last, none where it had not begun.
fn told_of_last(store: &Path) -> String {
    let logs = fs::read_dir(store.join("runs")).into_iter().flatten();
    let newest = logs
        .map(|log| log.expect("a log").path())
        .max_by_key(|log| {
            fs::metadata(log)
                .and_then(|log| log.modified())
                .expect("a time")
        });
    let Some(newest) = newest else {
        return String::new();
    };
    let run = newest
        .file_stem()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let output = audit(store, &["query", "--format=jsonl", "--run", &run]);
    String::from_utf8(output.stdout).expect("JSON is UTF-8")
}

#[test]
fn what_a_stopped_recorder_misses_is_counted_to_the_event() {
    let scene = Scene::new("stopped");
    let store = scene.path("audit");
    let script = "import time\n\
         end = time.monotonic() + 9\n\
         while time.monotonic() < end: open('/etc/ld.so.cache').close()\n";
    let manifest = Manifest::default().exec("/usr/bin");
    let mut run = kept(
        Run::new(&scene, &manifest, ["python3", "-c", script]),
        &store,
    );
    let child = run.start();
    let started = Instant::now();
    while !fs::metadata(run.events_file()).is_ok_and(|file| file.len() > 0) {
        assert!(started.elapsed() < PATIENCE, "no record");
        sleep(Duration::from_millis(5));
    }
    let signal = |name: &str| {
        let mut kill = Command::new("kill");
        let sent = kill.args(["-s", name, &child.id().to_string()]).status();
        assert!(sent.expect("kill starts").success());
    };
    signal("STOP");
    sleep(Duration::from_secs(5));
    signal("CONT");
    let output = child.wait_with_output().expect("its end");
    let ran = run.read(output).with_code(0);
    let numbers: Vec<u64> = ran
        .events
        .iter()
        .filter_map(|record| record["sequence"].as_u64())
        .collect();
    let holes = numbers.iter().max().expect("a record") - numbers.len() as u64;
    let number = |record: &serde_json::Value, pointer: &str| {
        record
            .pointer(pointer)
            .and_then(serde_json::Value::as_u64)
            .expect("a number")
    };
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
    // An emulated processor does not fill a ring in that time.
    if !Path::new("/run/vm").is_dir() {
        assert!(lost > 0, "{} records", numbers.len());
        // The stop is in the time in which it says that they were lost.
        let longest = between.iter().map(|(from, to)| to - from).max();
        assert!(longest > Some(4_000_000_000), "{between:?}");
    }
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

/// Answers from the third time on that the disk has failed.
const FAILING_DISK: &str = "#include <errno.h>\n\
    static int times;\n\
    int fdatasync(int fd) { (void)fd; if (++times < 3) return 0; errno = EIO; return -1; }\n";

#[test]
fn a_disk_that_fails_is_told_of_and_what_was_written_before_it_stays() {
    let scene = Scene::new("failing");
    let (source, library) = (scene.path("failing.c"), scene.path("failing.so"));
    fs::write(&source, FAILING_DISK).expect("a file");
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source);
    assert!(gcc.status().expect("gcc starts").success());
    let store = scene.path("audit");
    let mut run = kept(busy(&scene, "20000"), &store);
    run.command().env("LD_PRELOAD", &library);
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
fn a_store_that_others_may_write_to_is_refused_before_anything_runs() {
    let scene = Scene::new("shared");
    let store = scene.folder("audit");
    let sign = scene.folder("signs").join("ran");
    let manifest = Manifest::default().write(scene.path("signs"));
    let run = Run::shell(&scene, &manifest, &format!("> {}", sign.display()));
    let (code, words) = kept(run, &store).code_only();
    assert_eq!(code, Some(122), "{words}");
    assert!(words.contains("not kept from others"), "{words}");
    assert!(!sign.exists());
}

mod kernel_tier {
    use super::*;

    #[test]
    fn a_skill_whose_records_cannot_be_written_is_ended_where_none_may_be_lost() {
        let scene = Scene::new("unrecorded");
        let small = Small::new(scene.folder("small"));
        let store = small.0.join("audit");
        let script = "while :; do : < /etc/ld.so.cache; done";
        let manifest = Manifest::default()
            .set("/audit", serde_json::json!({"on_overflow": "deny"}))
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
