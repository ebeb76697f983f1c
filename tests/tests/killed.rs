//! The supervisor is killed, at any moment.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use skillsandbox_tests::{
    attempts::NOBODY,
    host::{self, Traces},
    manifest::Manifest,
    sandbox::Run,
    scene::Scene,
};

/// How often to kill.
const MOMENTS: u32 = 24;

/// A skill that tries, twice at once, what it may not, and writes down what came of it.
struct Attacker {
    scene: Scene,
    name: String,
    denied: PathBuf,
    log: PathBuf,
    server: TcpListener,
}

impl Attacker {
    fn new(name: &str) -> Self {
        let scene = Scene::new(name);
        let log = scene.file("log/log");
        fs::write(&log, "").expect("an empty log");
        Self {
            name: format!("{name}-{}", std::process::id()),
            denied: scene.file("denied/file"),
            log,
            server: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"),
            scene,
        }
    }

    fn port(&self) -> u16 {
        self.server.local_addr().expect("an address").port()
    }

    fn script(&self) -> String {
        let hammer = format!(
            "{} hammer {} {} 127.0.0.1 {}",
            self.scene.probe().display(),
            self.log.display(),
            self.denied.display(),
            self.port()
        );
        format!("setsid {hammer} & exec {hammer}")
    }

    fn manifest(&self) -> Manifest {
        let probe = self.scene.probe();
        Manifest::default()
            .set("/skill/name", self.name.as_str().into())
            .read(&probe)
            .exec(&probe)
            .write(self.scene.path("log"))
    }

    fn granting(&self) -> Manifest {
        self.manifest()
            .read(&self.denied)
            .egress("127.0.0.1/32", self.port(), "tcp")
    }

    fn run(&self, manifest: &Manifest, alone: bool) -> Run {
        let run = Run::shell(&self.scene, manifest, &self.script());
        if alone { run.by_ebpf_alone() } else { run }
    }

    /// What it has written down since the last look.
    fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).expect("the log");
        fs::write(&self.log, "").expect("the log");
        text
    }

    /// Waits until it writes, and answers how long that took.
    fn wait_for_attempts(&self, at_most: Duration) -> Duration {
        let started = Instant::now();
        while fs::read_to_string(&self.log).expect("the log").is_empty() {
            assert!(started.elapsed() < at_most, "the skill does not start");
            sleep(Duration::from_millis(5));
        }
        started.elapsed()
    }

    /// The next start, which cleans up.
    fn next_start(&self) {
        let ran = Run::shell(&self.scene, &self.manifest(), "true").end();
        let _ended = ran.with_code(0);
    }

    /// Its processes: those with the log in their command lines, the supervisor's aside.
    fn processes(&self) -> Vec<u32> {
        host::processes(&format!("hammer {}", self.log.display()))
    }
}

/// Pseudo-random numbers below 1, told in the output so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seed = now.map_or(1, |now| u64::from(now.subsec_nanos())) << 8 | 1;
        println!("seed {seed}");
        Self(seed)
    }

    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        f64::from(u32::try_from(self.0 >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }
}

/// That the attacker's log tells an access that goes through: outside, and where it is granted.
fn prove_the_log_tells(attacker: &Attacker) -> Duration {
    let mut shell = Command::new("setpriv");
    let id = NOBODY.to_string();
    shell.args(["--reuid", &id, "--regid", &id, "--clear-groups", "sh", "-c"]);
    let mut outside = shell.arg(attacker.script()).spawn().expect("setpriv");
    attacker.wait_for_attempts(Duration::from_mins(1));
    outside.kill().expect("a process to kill");
    outside.wait().expect("its end");
    // One that becomes another program just now has no command line to know it by.
    for _ in 0..3 {
        kill_all(&attacker.processes());
        sleep(Duration::from_millis(100));
    }
    assert_eq!(attacker.processes(), Vec::<u32>::new());
    assert!(attacker.log().contains('A'), "before, outside");

    // The first start on a host loads the programs, which takes longer.
    attacker.next_start();
    let mut run = attacker.run(&attacker.granting(), false);
    let mut granted = run.start();
    let start_up = attacker.wait_for_attempts(Duration::from_mins(3));
    granted.kill().expect("a process to kill");
    granted.wait().expect("its end");
    attacker.next_start();
    assert!(attacker.log().contains('A'), "granted");
    start_up
}

fn kill_all(processes: &[u32]) {
    for id in processes {
        let killed = Command::new("kill").args(["-9", &id.to_string()]).status();
        assert!(killed.is_ok());
    }
}

/// Kills the supervisor at random moments from its start to well past the skill's.
fn kill_at_random_moments(name: &str, alone: impl Fn(u32) -> bool) {
    let attacker = Attacker::new(name);
    let start_up = prove_the_log_tells(&attacker);
    println!("the skill runs {start_up:?} after its start");
    let before = Traces::look(&attacker.name);
    assert!(!before.has_sandboxes(), "{before:?}");
    let mut random = Random::new();
    let (mut attempts, mut survivors, mut left) = (0, 0, 0);
    for moment in 0..MOMENTS {
        let share = match moment {
            0 => 0.0,
            1 => 2.0,
            _ => random.next() * 1.5,
        };
        let mut run = attacker.run(&attacker.manifest(), alone(moment));
        let mut supervisor = run.start();
        sleep(start_up.mul_f64(share));
        supervisor.kill().expect("the supervisor to kill");
        supervisor.wait().expect("its end");
        // Dead, or still confined: whatever it wrote, and goes on to write.
        sleep(Duration::from_millis(300));
        survivors += attacker.processes().len();
        let log = attacker.log();
        assert!(
            !log.contains('A'),
            "moment {moment}, {share} of the start-up: {log}"
        );
        attempts += log.len();
        left += u32::from(Traces::look(&attacker.name).has_sandboxes());
        if moment % 4 == 3 {
            attacker.next_start();
            gone(&attacker, &before);
        }
    }
    println!(
        "{attempts} attempts; after {MOMENTS} kills {survivors} processes lived on for a while, \
         and {left} times something was left to clean up"
    );
    assert!(attempts > 0, "the skill never ran");
    assert!(left > 0, "nothing was ever left to clean up");
    attacker.next_start();
    gone(&attacker, &before);
    assert!(!attacker.log().contains('A'));
}

fn gone(attacker: &Attacker, before: &Traces) {
    assert_eq!(attacker.processes(), Vec::<u32>::new());
    assert_eq!(&Traces::look(&attacker.name), before);
    assert!(Path::new("/run/skillsandbox").is_dir());
}

mod fallback_tier {
    #[test]
    fn a_killed_supervisor_leaves_nothing_that_the_next_start_does_not_remove() {
        super::kill_at_random_moments("killed", |_| false);
    }
}

mod kernel_tier {
    #[test]
    fn a_killed_supervisor_leaves_its_skill_dead_or_confined_with_and_without_other_layers() {
        super::kill_at_random_moments("killed", |moment| moment % 2 == 0);
    }
}
