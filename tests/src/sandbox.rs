//! Runs `skillsandbox run`, and reads what it wrote.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

use crate::{
    attempts::{Attempts, Endings},
    manifest::Manifest,
    scene::Scene,
};

/// The program that is tested.
#[must_use]
pub fn skillsandbox() -> Command {
    Command::new(program("SKILLSANDBOX_BIN"))
}

/// The program as users have it: it cannot leave out layers.
#[must_use]
pub fn plain_skillsandbox() -> Command {
    Command::new(program("SKILLSANDBOX_PLAIN_BIN"))
}

fn program(variable: &str) -> OsString {
    let built = env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set: run these tests by `cargo xtask test`"));
    let memory = Path::new("/run/vm");
    if !memory.is_dir() {
        return built;
    }
    // In a virtual machine, where it takes twice as long to start from the host's files.
    let copy = memory.join(variable);
    if !copy.exists() {
        fs::copy(&built, &copy).expect("a copy of the program in the machine's memory");
    }
    copy.into()
}

/// Numbers runs, whose records have files of their own.
fn number() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// A run to be made.
pub struct Run {
    command: Command,
    events: PathBuf,
    trace: PathBuf,
    /// What follows the options.
    target: Vec<OsString>,
}

/// A run that ended.
pub struct Ran {
    /// Its exit code.
    pub code: Option<i32>,
    /// What the skill wrote.
    pub stdout: Vec<u8>,
    /// What the skill and we wrote.
    pub stderr: String,
    /// The records.
    pub events: Vec<Value>,
    /// The events as they were written.
    pub events_text: String,
    /// The trace, as it was written.
    pub trace_text: String,
}

impl Run {
    /// Runs a command under a manifest.
    pub fn new<I>(scene: &Scene, manifest: &Manifest, command: I) -> Self
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let number = number();
        let manifest_file = scene.path(format!("manifest-{number}.yaml"));
        let text = serde_json::to_string_pretty(&manifest.0).expect("a manifest is JSON");
        fs::write(&manifest_file, text).expect("a manifest in the scene");
        let mut target = vec!["--manifest".into(), manifest_file.into(), "--".into()];
        target.extend(command.into_iter().map(|word| word.as_ref().to_owned()));
        Self::of(scene, number, target)
    }

    /// Runs a skill by the manifest in its folder.
    #[must_use]
    pub fn skill(scene: &Scene, folder: &Path) -> Self {
        Self::of(scene, number(), vec![folder.into()])
    }

    fn of(scene: &Scene, number: u32, target: Vec<OsString>) -> Self {
        let mut command_line = skillsandbox();
        command_line
            .arg("run")
            .stdin(Stdio::null())
            .current_dir("/");
        Self {
            command: command_line,
            events: scene.path(format!("events-{number}.jsonl")),
            trace: scene.path(format!("trace-{number}.json")),
            target,
        }
    }

    /// Runs the probe.
    #[must_use]
    pub fn probe(scene: &Scene, manifest: &Manifest, attempts: &Attempts) -> Self {
        let probe = scene.probe();
        let manifest = manifest.clone().read(&probe).exec(&probe);
        let words = std::iter::once(probe.into_os_string()).chain(attempts.words().iter().cloned());
        Self::new(scene, &manifest, words)
    }

    /// Runs a script of the shell, which may execute what is in `/usr`.
    #[must_use]
    pub fn shell(scene: &Scene, manifest: &Manifest, script: &str) -> Self {
        let manifest = manifest.clone().exec("/usr/bin");
        Self::new(scene, &manifest, ["sh", "-c", script])
    }

    /// Leaves all layers out but eBPF, which then decides alone.
    #[must_use]
    pub fn by_ebpf_alone(self) -> Self {
        self.option("--require=kernel")
            .option("--without-layer=iptables,mounts,landlock,seccomp")
    }

    /// Passes an option.
    #[must_use]
    pub fn option(mut self, option: impl AsRef<OsStr>) -> Self {
        self.command.arg(option);
        self
    }

    /// Starts it by another command, to which it is given as arguments.
    #[must_use]
    pub fn around(mut self, command: &[&str]) -> Self {
        let (program, arguments) = command.split_first().expect("a command");
        let mut around = Command::new(program);
        around.args(arguments).arg(self.command.get_program());
        around.args(self.command.get_args());
        around.stdin(Stdio::null()).current_dir("/");
        self.command = around;
        self
    }

    /// Writes the events (`--events`) or the trace (`--trace-output`) to another file.
    #[must_use]
    pub fn writing(mut self, option: &str, file: &Path) -> Self {
        let place = match option {
            "--events" => &mut self.events,
            _ => &mut self.trace,
        };
        file.clone_into(place);
        self
    }

    /// Keeps what a started run writes, for `wait_with_output`.
    pub fn pipe_output(&mut self) {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }

    /// The command, to be changed further.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Where the records go.
    #[must_use]
    pub fn events_file(&self) -> &Path {
        &self.events
    }

    /// Starts it.
    pub fn start(&mut self) -> Child {
        self.arguments();
        self.command.spawn().expect("skillsandbox starts")
    }

    fn arguments(&mut self) {
        self.command.arg("--events").arg(&self.events);
        self.command.arg("--trace-output").arg(&self.trace);
        self.command.args(&self.target);
    }

    /// Runs it to its end, whatever that is.
    #[must_use]
    pub fn end(mut self) -> Ran {
        self.arguments();
        let output = self.command.output().expect("skillsandbox starts");
        self.read(output)
    }

    /// Runs it to its end and reads no records: its exit code and what it wrote as errors.
    #[must_use]
    pub fn code_only(mut self) -> (Option<i32>, String) {
        self.arguments();
        let output = self.command.output().expect("skillsandbox starts");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), words)
    }

    /// Reads what a run has written.
    #[must_use]
    pub fn read(&self, output: Output) -> Ran {
        let events_text = fs::read_to_string(&self.events).unwrap_or_default();
        let events = events_text
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect();
        Ran {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            events,
            events_text,
            trace_text: fs::read_to_string(&self.trace).unwrap_or_default(),
        }
    }
}

impl Ran {
    /// It came to its end with this code.
    #[track_caller]
    #[must_use]
    pub fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stderr, self.output());
        self
    }

    /// What the skill wrote, as text.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// How the attempts of its probe ended.
    #[track_caller]
    #[must_use]
    pub fn endings(&self, attempts: &Attempts) -> Endings {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stderr, self.output());
        attempts.endings(&self.stdout)
    }

    /// The trace.
    #[track_caller]
    #[must_use]
    pub fn trace(&self) -> Value {
        serde_json::from_str(&self.trace_text).expect("a trace is JSON")
    }

    /// Whether eBPF has decided on names of files, as the run says; it must say so of all or none of
    /// the programs, and none is for kernels before 6.12.
    #[track_caller]
    #[must_use]
    pub fn has_decided_on_names(&self) -> bool {
        const PROGRAMS: [&str; 9] = [
            "path_mkdir",
            "path_symlink",
            "path_rmdir",
            "path_chmod",
            "path_chown",
            "path_link",
            "path_unlink",
            "path_rename",
            "path_truncate",
        ];
        let start = self.of_kind("start").next().expect("a start on record");
        let achieved = |program: &&&str| {
            let name = format!("ebpf {program}");
            let layers = start["layers"].as_array().expect("layers");
            let layer = layers.iter().find(|layer| layer["name"] == *name);
            layer.expect("a layer for every program")["achieved"] == true
        };
        let count = PROGRAMS.iter().filter(achieved).count();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
        match count {
            9 => true,
            0 => {
                assert!(release.starts_with("6.1."), "{release} does not let it");
                false
            }
            some => panic!("{some} of nine programs decide on {release}"),
        }
    }

    /// Records of a kind.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        let kind = kind.to_owned();
        self.events
            .iter()
            .filter(move |event| event["kind"] == *kind)
    }

    /// Denials of opens or executions, as `reason path`, or `rule path` where a rule denied.
    #[must_use]
    pub fn denials(&self, kind: &str) -> Vec<String> {
        self.of_kind(kind)
            .filter(|event| event["verdict"] == "deny")
            .map(|event| {
                let target = match event["path"].as_str() {
                    Some(path) => path.to_owned(),
                    None if event["address"].is_string() => format!(
                        "{} {}/{}",
                        event["address"].as_str().unwrap_or_default(),
                        event["port"],
                        event["protocol"].as_str().unwrap_or_default()
                    ),
                    None if event["family"].is_string() => format!(
                        "{} {}/{}",
                        event["family"].as_str().unwrap_or_default(),
                        event["socket_type"].as_str().unwrap_or_default(),
                        event["protocol"]
                    ),
                    None => "?".to_owned(),
                };
                let rule = event.pointer("/rule/text").and_then(Value::as_str);
                let why = rule.or(event["reason"].as_str()).unwrap_or_default();
                format!("{why}: {target}")
            })
            .collect()
    }

    /// The denials of a kind are these, in this order.
    #[track_caller]
    pub fn denied(&self, kind: &str, expected: &[String]) {
        assert_eq!(self.denials(kind), expected, "denials of {kind}");
    }
}

/// Proves that eBPF alone denies what a manifest does not grant: the attempts go through outside,
/// are denied under `denying`, and go through again under `granting`.
#[track_caller]
#[must_use]
pub fn ebpf_alone_denies(
    scene: &Scene,
    attempts: &Attempts,
    denying: &Manifest,
    granting: &Manifest,
) -> Ran {
    attempts.outside(scene).all_ok("before, outside");
    let denied = Run::probe(scene, denying, attempts).by_ebpf_alone().end();
    denied.endings(attempts).all_denied("in the sandbox");
    let after = Run::probe(scene, granting, attempts).by_ebpf_alone().end();
    after.endings(attempts).all_ok("after, granted");
    denied
}
