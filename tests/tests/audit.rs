//! The audit store: what was recorded is there, whatever happened, and nothing else passes for it.

use std::{
    fs,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use skillsandbox_tests::{
    manifest::Manifest,
    sandbox::{Run, skillsandbox},
    scene::Scene,
    store::{audit, kept, told},
};

/// Far longer than a start takes.
const PATIENCE: Duration = Duration::from_secs(120);

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
fn a_follower_that_comes_in_the_middle_is_given_each_record_once_whatever_is_sealed_meanwhile() {
    let scene = Scene::new("middle");
    let store = scene.path("audit");
    let shell = |script: &str| kept(Run::shell(&scene, &Manifest::default(), script), &store);
    let before = shell("true").end().with_code(0);
    // It goes on while it is read.
    let mut busy = shell("i=0; while [ $i -lt 20000 ]; do : < /etc/ld.so.cache; i=$((i+1)); done");
    let child = busy.start();
    let patience = Instant::now();
    while !fs::metadata(busy.events_file()).is_ok_and(|file| file.len() > 100_000) {
        assert!(patience.elapsed() < PATIENCE, "no records");
        sleep(Duration::from_millis(1));
    }
    let mut command = skillsandbox();
    command.args(["audit", "--audit-dir"]).arg(&store);
    command.args(["tail", "--follow", "--lines=1000000", "--format=jsonl"]);
    let output = scene.path("followed");
    let file = fs::File::create(&output).expect("a file");
    let mut tail = command.stdout(file).spawn().expect("skillsandbox starts");
    told(&audit(&store, &["seal"]), 0);
    let during = busy.read(child.wait_with_output().expect("its end"));
    told(&audit(&store, &["seal"]), 0);
    let after = shell("true").end().with_code(0);
    let all = [&before, &during, &after].map(|ran| ran.events_text.as_str());
    let mut expected: Vec<&str> = all.iter().flat_map(|text| text.lines()).collect();
    expected.sort_unstable();
    let started = Instant::now();
    loop {
        let lines = fs::read_to_string(&output).expect("its lines");
        let mut lines: Vec<&str> = lines.lines().collect();
        if lines.len() >= expected.len() || started.elapsed() > PATIENCE {
            lines.sort_unstable();
            assert_eq!(lines.len(), expected.len());
            assert!(lines == expected);
            break;
        }
        sleep(Duration::from_millis(50));
    }
    tail.kill().expect("it goes on");
    tail.wait().expect("it ends");
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
