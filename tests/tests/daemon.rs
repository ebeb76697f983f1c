//! The daemon keeps policies attached to the cgroups that they are for.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::PathBuf,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use skillsandbox_tests::{
    cgroup::{Cgroup, Inside, command},
    daemon::Daemon,
    manifest::Manifest,
    sandbox::skillsandbox,
    scene::Scene,
    store::{audit, told},
};

/// Far longer than the daemon needs to notice anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connects a socket to the port that each line names, and answers with an error number, or 0.
const ACTOR: &str = r"
import socket, sys
print('ready')
for line in sys.stdin:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        s.connect(('127.0.0.1', int(line)))
        print(0)
    except OSError as error:
        print(error.errno)
    s.close()
print('over')
";
const PORT: &str = "7";
const EPERM: &str = "1";

struct Ground {
    _scene: Scene,
    policies: PathBuf,
    store: PathBuf,
}

impl Ground {
    fn new() -> Self {
        let scene = Scene::new("daemon");
        let policies = scene.folder("policies");
        fs::set_permissions(&policies, fs::Permissions::from_mode(0o755)).expect("its mode");
        Self {
            policies,
            store: scene.path("audit"),
            _scene: scene,
        }
    }

    fn daemon(&self) -> Daemon {
        self.daemon_of(&mut skillsandbox())
    }

    fn daemon_of(&self, command: &mut Command) -> Daemon {
        command.args(["daemon", "--accept-fallback", "--policies"]);
        command
            .arg(&self.policies)
            .arg("--audit-dir")
            .arg(&self.store)
            .arg("--socket")
            .arg(self.store.with_file_name("socket"));
        Daemon::start(command)
    }

    fn policy(&self, text: &str) {
        fs::write(self.policies.join("agents.yaml"), text).expect("a policy");
    }

    fn listed(&self) -> Vec<Value> {
        let (code, said) = command(&["ps", "--json"]);
        assert_eq!(code, Some(0), "{said}");
        let all: Vec<Value> = serde_json::from_str(&said).expect("a list");
        let policy = self.policies.join("agents.yaml");
        let policy = policy.to_str().expect("a path in UTF-8");
        let is_ours = |one: &Value| one["manifest"] == policy;
        all.into_iter().filter(is_ours).collect()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // What a failed test has left.
        for one in self.listed() {
            let name = one["name"].as_str().unwrap_or_default();
            let _gone = command(&["detach", name]);
        }
    }
}

fn policy_of(cgroups: &str, port: u16) -> String {
    let mut manifest = Manifest::default().egress("127.0.0.1/32", port, "udp").0;
    manifest["cgroup"] = json!(cgroups);
    // A python that starts while the record begins, on however slow a disk, has room for all that it opens.
    manifest["audit"] = json!({"ring_kib": 4096});
    manifest.to_string()
}

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(50));
    }
}

fn answers(inside: &mut Inside, answer: &str) -> impl FnMut() -> bool {
    move || inside.ask(PORT) == answer
}

#[test]
fn a_policy_is_held_in_what_is_there_and_in_what_comes_until_its_file_goes() {
    let ground = Ground::new();
    let first = Cgroup::new("kept-1");
    let pattern = first.place.replace("kept-1", "kept-*");
    let mut one = first.python(ACTOR);
    assert_eq!(one.ask(PORT), "0");
    ground.policy(&policy_of(&pattern, 9));
    let mut daemon = ground.daemon();
    assert_eq!(one.ask(PORT), EPERM);

    let second = Cgroup::new("kept-2");
    let mut other = second.python(ACTOR);
    until(
        "a cgroup that comes has its policy",
        answers(&mut other, EPERM),
    );
    assert_eq!(ground.listed().len(), 2);

    ground.policy(&policy_of(&pattern, 7));
    daemon.send(Signal::HUP);
    until("a file that changes takes effect", answers(&mut one, "0"));
    until("in each cgroup", answers(&mut other, "0"));
    ground.policy("{ this: is no policy }");
    sleep(Duration::from_millis(1500));
    assert_eq!(ground.listed().len(), 2, "what is refused changes nothing");

    daemon.child.kill().expect("a process to kill");
    daemon.child.wait().expect("its end");
    assert!(
        ground
            .listed()
            .iter()
            .all(|one| one["state"] == "unrecorded")
    );
    ground.policy(&policy_of(&pattern, 9));
    assert_eq!(one.ask(PORT), "0", "nobody lives who would read it");
    daemon = ground.daemon();
    assert_eq!(one.ask(PORT), EPERM);
    assert_eq!(other.ask(PORT), EPERM);

    assert_eq!(other.last_line(), "over");
    drop(second);
    until("a cgroup that is gone is not listed", || {
        ground.listed().len() == 1
    });

    assert_eq!(daemon.signal(Signal::TERM), Some(0));
    assert_eq!(one.ask(PORT), EPERM, "it stays in force");
    daemon = ground.daemon();
    fs::remove_file(ground.policies.join("agents.yaml")).expect("a policy");
    until(
        "a file that is removed takes its policy with it",
        answers(&mut one, "0"),
    );
    until("and nothing is listed", || ground.listed().is_empty());
    assert_eq!(daemon.signal(Signal::TERM), Some(0));

    let verified = told(&audit(&ground.store, &["verify"]), 0);
    assert!(verified.contains(" 0 lost "), "{verified}");
    let ends = told(
        &audit(&ground.store, &["query", "--kind=end", "--format=jsonl"]),
        0,
    );
    for end in ends.lines() {
        assert!(end.contains(r#""balanced":true"#), "{end}");
    }
}

#[test]
fn what_its_policy_lost_while_it_was_away_is_detached_when_it_comes_back() {
    let ground = Ground::new();
    let cgroup = Cgroup::new("unwanted");
    let mut inside = cgroup.python(ACTOR);
    ground.policy(&policy_of(&cgroup.place, 9));
    let mut daemon = ground.daemon();
    assert_eq!(inside.ask(PORT), EPERM);
    assert_eq!(ground.listed()[0]["name"], "agents");
    assert_eq!(daemon.signal(Signal::TERM), Some(0));
    fs::remove_file(ground.policies.join("agents.yaml")).expect("a policy");
    assert_eq!(inside.ask(PORT), EPERM);
    daemon = ground.daemon();
    assert_eq!(inside.ask(PORT), "0");
    assert!(ground.listed().is_empty());
    assert_eq!(daemon.signal(Signal::TERM), Some(0));
}

#[test]
fn what_could_not_be_recorded_is_detached_when_its_file_goes() {
    let ground = Ground::new();
    let cgroup = Cgroup::new("refused");
    let mut inside = cgroup.python(ACTOR);
    ground.policy(&policy_of(&cgroup.place, 9));
    let mut daemon = ground.daemon();
    assert_eq!(daemon.signal(Signal::TERM), Some(0));
    // A policy that is read, and that a cgroup cannot have.
    let mut refused: Value = serde_json::from_str(&policy_of(&cgroup.place, 7)).expect("a policy");
    refused["audit"]["aggregate"] = json!(true);
    ground.policy(&refused.to_string());
    daemon = ground.daemon();
    assert_eq!(inside.ask(PORT), EPERM, "what it had stays");
    assert_eq!(ground.listed()[0]["state"], "unrecorded");
    // As an editor does it that takes a file away and makes it anew.
    let file = ground.policies.join("agents.yaml");
    fs::remove_file(&file).expect("a policy");
    daemon.send(Signal::HUP);
    sleep(Duration::from_millis(100));
    ground.policy(&refused.to_string());
    sleep(Duration::from_secs(3));
    assert_eq!(inside.ask(PORT), EPERM, "one look missed it");
    assert_eq!(ground.listed()[0]["state"], "unrecorded");
    fs::remove_file(&file).expect("a policy");
    until("it is detached", answers(&mut inside, "0"));
    assert!(ground.listed().is_empty());
    assert_eq!(daemon.signal(Signal::TERM), Some(0));
}

#[test]
fn the_service_manager_is_told_when_everything_is_attached_and_that_it_lives() {
    let ground = Ground::new();
    let cgroup = Cgroup::new("notified");
    let mut inside = cgroup.python(ACTOR);
    ground.policy(&policy_of(&cgroup.place, 9));
    let path = ground.store.with_file_name("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut daemon = ground.daemon_of(skillsandbox().env("NOTIFY_SOCKET", &path));
    let told = || {
        let mut message = [0; 1024];
        let length = manager.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let first = told();
    assert!(first.contains("EXTEND_TIMEOUT_USEC="), "{first}");
    let second = told();
    assert!(second.contains("READY=1"), "{second}");
    assert!(second.contains("1 cgroups have their policy"), "{second}");
    assert_eq!(inside.ask(PORT), EPERM);
    assert!(told().contains("WATCHDOG=1"));
    fs::remove_file(ground.policies.join("agents.yaml")).expect("a policy");
    until("it is detached", || ground.listed().is_empty());
    assert_eq!(daemon.signal(Signal::TERM), Some(0));
}

#[test]
fn a_policy_that_others_can_write_is_not_taken() {
    let ground = Ground::new();
    let cgroup = Cgroup::new("writable");
    let mut inside = cgroup.python(ACTOR);
    ground.policy(&policy_of(&cgroup.place, 9));
    let file = ground.policies.join("agents.yaml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("its mode");
    let _daemon = ground.daemon();
    assert_eq!(inside.ask(PORT), "0");
    assert!(ground.listed().is_empty());
}

#[test]
fn a_policy_goes_over_to_another_cgroup_with_its_file() {
    let ground = Ground::new();
    let (first, second) = (Cgroup::new("from"), Cgroup::new("to"));
    let (mut one, mut other) = (first.python(ACTOR), second.python(ACTOR));
    ground.policy(&policy_of(&first.place, 9));
    let mut daemon = ground.daemon();
    assert_eq!(one.ask(PORT), EPERM);
    ground.policy(&policy_of(&second.place, 9));
    until("the other has it", answers(&mut other, EPERM));
    until("this one has it no more", answers(&mut one, "0"));
    until("one is recorded", || {
        let listed = ground.listed();
        listed.len() == 1 && listed[0]["state"] == "recorded"
    });
    // It stays like that.
    sleep(Duration::from_millis(2500));
    assert_eq!(ground.listed()[0]["cgroup"], json!(second.place));
    assert_eq!(ground.listed()[0]["state"], "recorded");
    assert_eq!(other.ask(PORT), EPERM);
    fs::remove_file(ground.policies.join("agents.yaml")).expect("a policy");
    until("it is detached", || ground.listed().is_empty());
    assert_eq!(daemon.signal(Signal::TERM), Some(0));
}

#[test]
fn a_folder_of_policies_that_is_not_there_takes_none_away() {
    let ground = Ground::new();
    let cgroup = Cgroup::new("renamed");
    let mut inside = cgroup.python(ACTOR);
    ground.policy(&policy_of(&cgroup.place, 9));
    let mut daemon = ground.daemon();
    let away = ground.store.with_file_name("away");
    fs::rename(&ground.policies, &away).expect("a folder that goes");
    sleep(Duration::from_millis(3500));
    assert_eq!(inside.ask(PORT), EPERM);
    assert_eq!(ground.listed().len(), 1);
    assert_eq!(daemon.signal(Signal::TERM), Some(0));
    let (code, said) = command(&[
        "daemon",
        "--policies",
        ground.policies.to_str().expect("a path in UTF-8"),
        "--socket",
        &format!("{}.socket", ground.store.display()),
    ]);
    assert_eq!(code, Some(122), "{said}");
    assert_eq!(inside.ask(PORT), EPERM);
    fs::rename(&away, &ground.policies).expect("a folder that comes back");
    let name = ground.listed()[0]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    let (code, said) = command(&["detach", &name]);
    assert_eq!(code, Some(0), "{said}");
}
