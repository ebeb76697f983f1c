//! A daemon that is asked for runs, and those who ask.

use std::{
    fs::{self, File},
    io::{IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

use crate::{
    daemon::Daemon,
    manifest::Manifest,
    sandbox::skillsandbox,
    scene::Scene,
    store::{audit, told},
};

/// Far longer than anything takes.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// A user.
pub const ANA: u32 = 43_001;
/// The other.
pub const BEN: u32 = 43_002;
/// The group of those who may ask.
pub const GROUP: &str = "nogroup";
/// Its number.
pub const GROUP_NUMBER: u32 = 65_534;

/// A daemon's folders, and who asks it.
pub struct Ground {
    /// Where files of the test are.
    pub scene: Scene,
    /// The audit store.
    pub store: PathBuf,
    /// The daemon's socket.
    pub socket: PathBuf,
    /// The program, which callers may execute wherever it lies.
    program: File,
}

impl Ground {
    /// Fresh ones.
    #[must_use]
    pub fn prepare() -> Self {
        let scene = Scene::new("service");
        let policies = scene.folder("policies");
        fs::set_permissions(&policies, fs::Permissions::from_mode(0o755)).expect("its mode");
        let program = File::open(skillsandbox().get_program()).expect("the program");
        Self {
            store: scene.path("audit"),
            socket: scene.path("socket"),
            program,
            scene,
        }
    }

    /// Starts the daemon.
    #[must_use]
    pub fn daemon(&self) -> Daemon {
        let mut command = skillsandbox();
        command
            .args(["daemon", "--group", GROUP, "--policies"])
            .arg(self.scene.path("policies"))
            .arg("--audit-dir")
            .arg(&self.store)
            .arg("--socket")
            .arg(&self.socket);
        Daemon::start(&mut command)
    }

    /// The program, as started by a user.
    pub fn as_user(&self, user: u32) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()));
        command
            .uid(user)
            .gid(GROUP_NUMBER)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Writes a manifest.
    pub fn manifest(&self, manifest: &Manifest) -> PathBuf {
        let file = self.scene.path("manifest.yaml");
        fs::write(&file, manifest.0.to_string()).expect("a manifest in the scene");
        file
    }

    /// A run of a command, asked for by a user.
    pub fn run(&self, user: u32, manifest: &Manifest, command: &[&str]) -> Command {
        let mut run = self.as_user(user);
        run.arg("run").arg("--socket").arg(&self.socket);
        run.arg("--manifest").arg(self.manifest(manifest));
        run.arg("--").args(command);
        run
    }

    /// The same, to its end.
    pub fn ran(&self, user: u32, manifest: &Manifest, command: &[&str]) -> Output {
        let ran = self.run(user, manifest, command).output();
        ran.expect("the program starts")
    }

    /// Says this on a connection of its own, and hears the answer.
    pub fn said(&self, bytes: &[u8]) -> Value {
        let mut stream = self.connect();
        // Who answers before everything is said has heard enough.
        let _cut = stream.write_all(bytes);
        answer(&mut stream)
    }

    /// A connection to the daemon.
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("the daemon");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// The lines of those who were refused.
    pub fn refusals(&self) -> Vec<String> {
        let said = told(&audit(&self.store, &["refusals"]), 0);
        said.lines().map(str::to_owned).collect()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Workers, and what seals after them, write there for a moment longer than their callers are served.
        let root = self.scene.root().as_os_str().as_encoded_bytes();
        let is_used = || {
            let all = fs::read_dir("/proc").expect("the processes");
            all.flatten().any(|process| {
                let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
                line.windows(root.len()).any(|part| part == root)
            })
        };
        if !std::thread::panicking() {
            until("nobody uses the scene any more", || !is_used());
        }
    }
}

/// Hears an answer.
pub fn answer(stream: &mut UnixStream) -> Value {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut message).expect("a whole answer");
    serde_json::from_slice(&message).expect("an answer in JSON")
}

/// Hears that a run begins, and has the streams that come with that.
pub fn accepted(stream: &UnixStream) -> Vec<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 4];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC);
    assert_eq!(received.expect("an answer").bytes, 4);
    let mut streams = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(handed) = message {
            streams.extend(handed);
        }
    }
    let mut message = vec![0; u32::from_be_bytes(bytes) as usize];
    let mut stream = stream;
    stream.read_exact(&mut message).expect("a whole answer");
    assert_eq!(words(&message), "{\"accepted\":{}}");
    streams
}

/// A request for a shell that executes this.
pub fn asks(manifest: &Manifest, script: &str, events: bool) -> Vec<u8> {
    let with = json!({"events": events, "watch": events});
    asks_with(manifest, script, with)
}

/// The same, with these fields too.
pub fn asks_with(manifest: &Manifest, script: &str, with: Value) -> Vec<u8> {
    let mut run = json!({
        "manifest": manifest.0.to_string(), "manifest_file": "m", "skill_dir": "/usr/share",
        "command": ["sh", "-c", script],
    });
    if let (Value::Object(run), Value::Object(with)) = (&mut run, with) {
        run.extend(with);
    }
    message(json!({"version": 1, "run": run}).to_string().as_bytes())
}

/// A message of this JSON.
pub fn message(json: &[u8]) -> Vec<u8> {
    let length = u32::try_from(json.len()).expect("a short message");
    [&length.to_be_bytes()[..], json].concat()
}

/// A manifest for programs of the system.
pub fn manifest() -> Manifest {
    Manifest::default().exec("/usr/bin")
}

/// What was written, as text.
pub fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until it is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(50));
    }
}

/// Whether somebody sleeps for so long on this host.
pub fn sleeps(time: &str) -> bool {
    let all = fs::read_dir("/proc").expect("the processes");
    let line = format!("sleep\0{time}\0");
    all.flatten().any(|process| {
        fs::read(process.path().join("cmdline")).is_ok_and(|found| found == line.as_bytes())
    })
}
