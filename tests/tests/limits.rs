//! What a skill does that takes more than it is given, and that the host takes no harm.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use skillsandbox::audit::clock::Clock;
use skillsandbox_tests::{
    host::{self, Traces},
    manifest::Manifest,
    sandbox::{Ran, Run},
    scene::Scene,
};

/// A hostile skill in Python, and what it leaves behind.
struct Hostile {
    scene: Scene,
    name: String,
    before: Traces,
}

impl Hostile {
    fn new(name: &str) -> Self {
        let name = format!("hostile-{name}-{}", std::process::id());
        Self {
            scene: Scene::new(&name),
            before: Traces::look(&name),
            name,
        }
    }

    fn manifest(&self) -> Manifest {
        Manifest::default().set("/skill/name", json!(self.name))
    }

    /// Runs it to its end, and finds nothing left of it.
    fn run(&self, manifest: &Manifest, program: &str) -> Ran {
        self.timed(manifest, program).0
    }

    /// The same, and when its supervisor ended, in nanoseconds since boot.
    fn timed(&self, manifest: &Manifest, program: &str) -> (Ran, u64) {
        let manifest = manifest.clone().exec("/usr/bin");
        // The name makes its processes known by their command lines.
        let program = format!("# {}\n{program}", self.name);
        let ran = Run::new(&self.scene, &manifest, ["python3", "-c", program.as_str()]).end();
        let ended = Clock::boot_ns();
        assert_eq!(
            host::processes(&self.name),
            Vec::<u32>::new(),
            "processes left"
        );
        assert_eq!(Traces::look(&self.name), self.before, "something is left");
        assert_eq!(ran.trace()["accounting"]["balanced"], true);
        (ran, ended)
    }
}

/// Emulated processors are slow to start a program.
fn seconds(on_the_host: u64) -> u64 {
    if is_emulated() {
        on_the_host * 10
    } else {
        on_the_host
    }
}

fn is_emulated() -> bool {
    Path::new("/run/vm").is_dir()
}

/// Whether the kernel took this limit of the cgroup; without the controller, limits of the
/// process or of the user stand in.
fn cgroup_holds(ran: &Ran, limit: &str) -> bool {
    let trace = ran.trace();
    let layers = trace["layers"].as_array().expect("layers");
    let name = format!("cgroup {limit}");
    let layer = layers.iter().find(|layer| layer["name"] == *name);
    layer.expect("a layer for each limit")["achieved"] == true
}

/// The counts of the notes on a limit, all together.
fn met(ran: &Ran, resource: &str) -> u64 {
    ran.of_kind("limit")
        .filter(|note| note["resource"] == resource)
        .map(|note| note["count"].as_u64().expect("a count"))
        .sum()
}

/// Most processes that the records show at one time. Where the kernel skips a fork or an exit, they
/// show one too few or too many.
fn most_at_a_time(ran: &Ran) -> i64 {
    let (mut alive, mut most) = (1, 1);
    let mut events: Vec<&Value> = ran.of_kind("fork").chain(ran.of_kind("exit")).collect();
    events.sort_by_key(|event| event["sequence"].as_u64());
    for event in events {
        if event["kind"] == "fork" {
            alive += 1;
        } else {
            alive -= 1;
        }
        most = most.max(alive);
    }
    most
}

#[test]
fn a_fork_bomb_gets_the_processes_that_it_is_given_and_ends_at_the_deadline() {
    let hostile = Hostile::new("forks");
    let manifest = hostile
        .manifest()
        .set("/resources/max_processes", json!(24))
        .set("/resources/max_runtime_seconds", json!(seconds(3)));
    let bomb = "
import os, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.05)
";
    let ran = hostile.run(&manifest, bomb).with_code(124);
    let most = most_at_a_time(&ran);
    if cgroup_holds(&ran, "pids.max") {
        assert!((12..=24).contains(&most), "{most} processes at a time");
        assert!(met(&ran, "processes") > 0, "{}", ran.stderr);
        let note = ran.of_kind("limit").next().expect("a note");
        assert_eq!(note["limit"], json!(24));
    } else {
        // Beside those that the user had when it began, some of which may have ended since.
        assert!((12..=64).contains(&most), "{most} processes at a time");
        assert_eq!(met(&ran, "processes"), 0, "nothing counts them here");
    }
}

#[test]
fn a_hog_gets_the_memory_that_it_is_given() {
    let hostile = Hostile::new("memory");
    let manifest = hostile.manifest().set("/resources/memory_mb", json!(64));
    let hog = "
kept = []
for _ in range(1024):
    kept.append(b'x' * (1 << 20))
print('all of it')
";
    let ran = hostile.run(&manifest, hog);
    assert_eq!(ran.output(), "");
    if cgroup_holds(&ran, "memory.max") {
        let ran = ran.with_code(128 + 9);
        assert!(met(&ran, "memory") > 0, "{}", ran.stderr);
        let killed = ran
            .of_kind("limit")
            .find(|note| note["effect"] == "processes were killed")
            .expect("a note on the kill");
        assert_eq!(killed["limit"], json!(64 << 20));
    } else {
        let ran = ran.with_code(1);
        assert!(ran.stderr.contains("MemoryError"), "{}", ran.stderr);
        assert_eq!(met(&ran, "memory"), 0, "nothing counts it here");
    }
    let enough = hostile.manifest().set("/resources/memory_mb", json!(1536));
    if !is_emulated() {
        let ran = hostile.run(&enough, hog).with_code(0);
        assert_eq!(ran.output(), "all of it\n", "with as much as it takes");
    }
}

#[test]
fn a_flood_of_output_is_cut_to_the_byte_and_makes_nobody_wait() {
    const KEPT: usize = 1_000_003;
    let hostile = Hostile::new("output");
    let blocks = if is_emulated() { 64 } else { 10_240 };
    let manifest = hostile
        .manifest()
        .set("/resources/max_output_bytes", json!(KEPT));
    let flood = format!(
        "
import sys
block = b'x' * (1 << 20)
for _ in range({blocks}):
    sys.stdout.buffer.write(block)
"
    );
    let ran = hostile.run(&manifest, &flood).with_code(0);
    assert_eq!(ran.stdout.len(), KEPT);
    assert!(ran.stdout.iter().all(|byte| *byte == b'x'));
    let notes: Vec<&Value> = ran.of_kind("limit").collect();
    let [note] = notes.as_slice() else {
        panic!("not one note: {notes:?}");
    };
    assert_eq!(note["resource"], "output");
    assert_eq!(note["limit"], json!(KEPT));
    assert_eq!(note["count"], json!(blocks * (1 << 20) - KEPT));
    assert_eq!(note["effect"], "bytes of standard output were dropped");
}

#[test]
fn a_hundred_thousand_files_do_not_fit_in_its_own_folder() {
    let hostile = Hostile::new("files");
    let files = "
import errno, os
made = 0
try:
    for number in range(100_000):
        os.close(os.open(f'/tmp/{number}', os.O_CREAT | os.O_WRONLY))
        made += 1
except OSError as error:
    print(made, errno.errorcode[error.errno])
";
    let ran = hostile.run(&hostile.manifest(), files).with_code(0);
    let output = ran.output();
    let (made, error) = output.trim().split_once(' ').expect("how far it came");
    let made: u64 = made.parse().expect("a number");
    assert!((10_000..16_384).contains(&made), "{made}");
    assert_eq!(error, "ENOSPC");
    // Each is on record, or counted as dropped.
    let counts = &ran.trace()["counts"];
    assert!(counts["decisions"].as_u64() > Some(made), "{counts}");
}

#[test]
fn a_tree_of_stopped_processes_ends_within_a_second_of_the_deadline() {
    let hostile = Hostile::new("stopped");
    let manifest = hostile
        .manifest()
        .set("/resources/max_runtime_seconds", json!(seconds(2)));
    let stopping = "
import os, signal
for _ in range(3):
    os.fork()
if os.getsid(0) != os.getpid():
    os.setsid()
os.kill(os.getpid(), signal.SIGSTOP)
";
    let (ran, ended) = hostile.timed(&manifest, stopping);
    let ran = ran.with_code(124);
    let at = |record: &Value| record["boot_ns"].as_u64().expect("a time");
    let note = ran.of_kind("start").next().expect("a note on the start");
    let deadline = at(note) + 1_000_000_000 * seconds(2);
    let late = |moment: u64| Duration::from_nanos(moment.saturating_sub(deadline));
    let last = ran.of_kind("exit").map(at).max().expect("an end");
    // The clock started a moment before it was on record.
    assert!(last + 500_000_000 > deadline, "it did not run for so long");
    println!("ended {:?} late, cleaned up {:?}", late(last), late(ended));
    assert!(late(last) < Duration::from_secs(1), "{:?}", late(last));
    // To detach its programs takes an emulated kernel long.
    assert!(late(ended) < Duration::from_secs(if is_emulated() { 10 } else { 3 }));
    assert_eq!(ran.of_kind("deadline").count(), 1);
    // Eight processes. What Linux 7 skips, it counts.
    let skipped = &ran.trace()["accounting"]["skipped"];
    let skipped = usize::try_from(skipped.as_u64().expect("a count")).expect("a small one");
    let forks = ran.of_kind("fork").count();
    let killed = ran.of_kind("exit").filter(|exit| exit["signal"] == 9);
    let killed = killed.count();
    assert!(forks <= 7 && forks + skipped >= 7, "{forks}, {skipped}");
    assert!(killed <= 8 && killed + skipped >= 8, "{killed}, {skipped}");
}
