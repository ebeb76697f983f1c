//! Sandboxes that the daemon has made before anybody asks for one.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    process::{Command, Output},
    thread::sleep,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, flock},
    process::{Pid, Signal, kill_process},
};
use serde_json::{Value, json};
use skillsandbox_tests::{
    cgroup::Inside,
    host::{Traces, has_bpf_lsm, processes},
    manifest::Manifest,
    service::{ANA, Ground, accepted, answer, asks_with, manifest, until, words},
};

/// What the ids of such sandboxes begin with.
const AHEAD: &str = "run-";
/// What those of others begin with: the name of the skill.
const NAME: &str = "tested-";

/// A run, and its records.
struct Ran {
    output: Output,
    records: Vec<Value>,
    /// The sandboxes of this run and of those before that were made.
    used: BTreeSet<String>,
}

impl Ran {
    fn of(ground: &Ground, manifest: &Manifest, command: &[&str]) -> Self {
        let events = ground.scene.folder("out").join("events.jsonl");
        let mut run = ground.as_user(ANA);
        run.arg("run").arg("--socket").arg(&ground.socket);
        run.arg("--events").arg(&events);
        run.arg("--manifest").arg(ground.manifest(manifest));
        let output = run.arg("--").args(command).output().expect("a run");
        let text = fs::read_to_string(&events).unwrap_or_default();
        let records = text.lines().map(serde_json::from_str);
        let mut ran = Self {
            output,
            records: records.collect::<Result<_, _>>().expect("records"),
            used: BTreeSet::new(),
        };
        ran.used.insert(ran.id());
        ran
    }

    /// Repeated until it had a sandbox that was there before.
    fn ahead(ground: &Ground, manifest: &Manifest, command: &[&str]) -> Self {
        let mut last = None;
        until("a run in a sandbox that was made before", || {
            let before = waiting();
            let mut ran = Self::of(ground, manifest, command);
            let is_ahead = before.contains(&ran.id());
            let earlier = last
                .take()
                .map_or_else(BTreeSet::new, |last: Self| last.used);
            ran.used.extend(earlier);
            last = Some(ran);
            is_ahead
        });
        last.expect("a run")
    }

    fn id(&self) -> String {
        let record = self.records.first();
        let record = record.unwrap_or_else(|| panic!("{}", words(&self.output.stderr)));
        record["sandbox"].as_str().expect("an id").to_owned()
    }

    fn out(&self) -> String {
        words(&self.output.stdout) + &words(&self.output.stderr)
    }

    fn layers(&self) -> &Value {
        let start = self.records.iter().find(|record| record["kind"] == "start");
        &start.expect("a start")["layers"]
    }
}

/// The ids of the sandboxes that wait.
fn waiting() -> BTreeSet<String> {
    let all = fs::read_dir("/run/skillsandbox").into_iter().flatten();
    let names = all.flatten().map(|entry| entry.file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    names.filter(|name| name.starts_with(AHEAD)).collect()
}

/// Locks the registry.
fn registry() -> fs::File {
    let registry = fs::File::open("/run/skillsandbox/lock").expect("the registry");
    flock(&registry, FlockOperation::LockExclusive).expect("its lock");
    registry
}

/// Waits until two wait that are not these, and gives their ids.
fn two_others(used: &BTreeSet<String>) -> BTreeSet<String> {
    let mut made = BTreeSet::new();
    until("two others wait", || {
        made = {
            // Who makes one or takes one down has it.
            let _registry = registry();
            waiting()
        };
        made.len() == 2 && made.is_disjoint(used)
    });
    made
}

#[test]
fn a_sandbox_that_was_made_before_its_run_has_the_rules_of_that_run_alone() {
    let ground = Ground::prepare();
    let _daemon = ground.daemon();
    let (one, two) = (ground.scene.file("one"), ground.scene.file("two"));
    let (ours, others) = (
        TcpListener::bind("127.0.0.1:0").expect("a port"),
        TcpListener::bind("127.0.0.1:0").expect("a port"),
    );
    let port = |listener: &TcpListener| listener.local_addr().expect("its address").port();
    let script = format!(
        "import socket\n\
         def tried(what):\n\
         \x20   try: what()\n\
         \x20   except OSError: return 'no'\n\
         \x20   return 'yes'\n\
         print(tried(lambda: open({one:?})), tried(lambda: open({two:?})),\n\
         \x20   tried(lambda: socket.create_connection(('127.0.0.1', {}), 9)),\n\
         \x20   tried(lambda: socket.create_connection(('127.0.0.1', {}), 9)))\n",
        port(&ours),
        port(&others),
    );
    let command = ["python3", "-c", &script];
    let all = Command::new("python3").args(["-c", &script]).output();
    assert_eq!(words(&all.expect("python").stdout), "yes yes yes yes\n");
    let first = manifest()
        .read(&one)
        .egress("127.0.0.1/32", port(&ours), "tcp");
    let second = manifest()
        .read(&two)
        .egress("127.0.0.1/32", port(&others), "tcp");

    let fresh = Ran::of(&ground, &first, &command);
    assert_eq!(fresh.out(), "yes no yes no\n");
    assert!(!fresh.id().starts_with(AHEAD));
    for (manifest, expected) in [(&first, "yes no yes no\n"), (&second, "no yes no yes\n")] {
        let ran = Ran::ahead(&ground, manifest, &command);
        assert_eq!(ran.out(), expected);
        // Each layer, what was seen of it, and the limits.
        assert_eq!(ran.layers(), fresh.layers());
        let end = ran.records.last().expect("an end");
        assert_eq!(end["balanced"], true, "{end}");
        let others = ran
            .records
            .iter()
            .filter(|record| record["sandbox"] != ran.id());
        assert_eq!(others.count(), 0);
    }

    // What is made before has rings of the default kind.
    let manifest = manifest().set("/audit", json!({"aggregate": true}));
    let ran = Ran::of(&ground, &manifest, &["true"]);
    assert!(ran.output.status.success(), "{}", ran.out());
    assert!(!ran.id().starts_with(AHEAD), "{}", ran.id());
}

#[test]
fn a_sandbox_that_waits_denies_everything_and_ends_with_the_daemon() {
    let ground = Ground::prepare();
    let mut daemon = ground.daemon();
    // It looks four times a second what is due.
    sleep(Duration::from_secs(1));
    assert!(waiting().is_empty(), "nobody has asked");
    let ran = Ran::ahead(&ground, &manifest(), &["true"]);
    assert!(ran.output.status.success(), "{}", ran.out());
    let made = two_others(&ran.used);
    let cgroup = |id: &String| -> PathBuf {
        let found = Traces::look(id).cgroups();
        found.into_iter().next().expect("its cgroup")
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    for id in made {
        // The way in is opened before: on the kernel tier it opens nothing from then on.
        let script = format!(
            "import socket\n\
             procs = open({:?}, 'w')\n\
             def opened():\n\
             \x20   try: open('/etc/hostname')\n\
             \x20   except PermissionError: return 'denied'\n\
             \x20   return 'opened'\n\
             def sent():\n\
             \x20   try: socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', {port}))\n\
             \x20   except PermissionError: return 'denied'\n\
             \x20   return 'sent'\n\
             def tried():\n\
             \x20   try: socket.create_connection(('127.0.0.1', {port}), 9)\n\
             \x20   except PermissionError: return 'denied'\n\
             \x20   return 'connected'\n\
             print('ready', flush=True)\n\
             input()\n\
             print(tried(), sent(), opened(), flush=True)\n\
             input()\n\
             procs.write('0')\n\
             procs.flush()\n\
             print(tried(), sent(), opened(), flush=True)\n",
            cgroup(&id).join("cgroup.procs")
        );
        let mut inside = Inside::of(Command::new("python3").args(["-c", &script]));
        assert_eq!(inside.ask(""), "connected sent opened");
        let opens = if has_bpf_lsm() { "denied" } else { "opened" };
        assert_eq!(inside.ask(""), format!("denied denied {opens}"));
    }
    daemon.signal(Signal::KILL);
    until("none waits for a daemon that is gone", || {
        !Traces::look(AHEAD).has_sandboxes()
    });
}

#[test]
fn who_waits_and_is_killed_is_cleaned_up_after_and_holds_no_run_up() {
    let ground = Ground::prepare();
    let _daemon = ground.daemon();
    let line = format!("__worker --ahead --audit-dir {}", ground.store.display());
    let ran = Ran::of(&ground, &manifest(), &["true"]);
    assert!(ran.output.status.success(), "{}", ran.out());
    let dead = two_others(&ran.used);
    for id in processes(&line) {
        let id = i32::try_from(id).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a process"), Signal::KILL).expect("a signal");
    }
    let ran = Ran::of(&ground, &manifest(), &["true"]);
    assert!(ran.output.status.success(), "{}", ran.out());
    assert!(!dead.contains(&ran.id()));
    for id in dead {
        assert!(!Traces::look(&id).has_sandboxes(), "{id}");
    }
}

/// Takes away what leads to the chain of a sandbox.
fn flush(id: &str) {
    let chain = format!("SKILLSANDBOX-{}", id.trim_start_matches(AHEAD));
    let listed = Command::new("iptables")
        .args(["-w", "-S", "OUTPUT"])
        .output();
    let listed = words(&listed.expect("iptables").stdout);
    let jump = listed.lines().find(|line| line.contains(&chain));
    let jump = jump.unwrap_or_else(|| panic!("no {chain} in {listed}"));
    let rule = jump.replacen("-A", "-D", 1).replace('"', "");
    let gone = Command::new("iptables")
        .arg("-w")
        .args(rule.split(' '))
        .status();
    assert!(gone.expect("iptables").success(), "{rule}");
}

#[test]
fn a_sandbox_whose_chain_others_have_taken_away_is_not_used() {
    let ground = Ground::prepare();
    let _daemon = ground.daemon();
    let fresh = Ran::of(&ground, &manifest(), &["true"]);
    let ahead = Ran::ahead(&ground, &manifest(), &["true"]);
    assert_eq!(ahead.layers(), fresh.layers());
    let flushed = two_others(&ahead.used);
    // The daemon has heard of them.
    sleep(Duration::from_secs(1));
    for id in &flushed {
        flush(id);
    }
    for _ in 0..2 {
        let ran = Ran::of(&ground, &manifest(), &["true"]);
        assert!(ran.output.status.success(), "{}", ran.out());
        assert!(!flushed.contains(&ran.id()), "{}", ran.id());
        assert_eq!(ran.layers(), fresh.layers());
    }
    // Whoever had one was given the runs, and took it down.
    assert!(flushed.is_disjoint(&waiting()), "{flushed:?}");
}

#[test]
fn who_has_been_answered_has_the_streams_end_and_may_ask_again_before_the_sandbox_is_taken_down() {
    let ground = Ground::prepare();
    let _daemon = ground.daemon();
    let begin = |script: &str| {
        let mut stream = ground.connect();
        let with = json!({"stdin": true, "events": true, "watch": true});
        let asked = asks_with(&manifest(), script, with);
        stream.write_all(&asked).expect("a request");
        let streams = accepted(&stream);
        (stream, streams)
    };
    let (mut first, streams) = begin("echo started; read word");
    let mut streams: Vec<_> = streams.into_iter().map(fs::File::from).collect();
    // After its two outputs; its events are the last.
    let mut input = streams.remove(2);
    let mut said = [0; 8];
    let output = streams.first_mut().expect("its output");
    output.read_exact(&mut said).expect("a word");
    assert_eq!(&said, b"started\n");
    // Nobody makes a sandbox or takes one down.
    let registry = registry();
    // With these, which say nothing, the user has as many as one may.
    let _silent: Vec<_> = (1..32).map(|_| ground.connect()).collect();
    input.write_all(b"word\n").expect("it reads");
    assert_eq!(answer(&mut first)["ended"]["exit_code"], 0);
    // They end with the run: whoever reads them waits for nothing more.
    assert_eq!(streams.len(), 3);
    for mut stream in streams {
        let patience = Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        loop {
            let mut polled = [PollFd::new(&stream, PollFlags::IN)];
            assert_eq!(poll(&mut polled, Some(&patience)), Ok(1), "it ends");
            if stream.read(&mut said).expect("its end") == 0 {
                break;
            }
        }
    }
    let held = fs::read_dir("/run/skillsandbox").expect("the registry");
    let held = held.flatten().map(|entry| entry.file_name());
    let held = held.filter_map(|name| name.into_string().ok());
    let is_there = |name: String| name.starts_with(NAME);
    assert!(held.into_iter().any(is_there), "it is not taken down yet");
    let (mut second, _streams) = begin("true");
    drop(registry);
    assert_eq!(answer(&mut second)["ended"]["exit_code"], 0);
}
