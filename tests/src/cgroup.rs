//! A cgroup that is not ours: what a unit of systemd's or a container has.

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use skillsandbox::isolate::cgroup::Hierarchy;

use crate::sandbox::skillsandbox;

/// Far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A cgroup, which goes with this value, and what runs in it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    /// From the root of the hierarchy on.
    pub place: String,
}

impl Cgroup {
    /// Makes one.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let name = format!("sandboxed-{name}-{}", std::process::id());
        let hierarchy = Hierarchy::find().expect("cgroup v2");
        let path = hierarchy.root().join(&name);
        fs::create_dir(&path).expect("a cgroup");
        Self {
            path,
            place: format!("/{name}"),
        }
    }

    /// Starts a script of Python's in it, which first says that it is ready.
    #[must_use]
    pub fn python(&self, script: &str) -> Inside {
        self.start(Command::new("python3").args(["-u", "-c", script]))
    }

    /// Starts a program in it, which first says that it is ready.
    #[must_use]
    pub fn start(&self, command: &mut Command) -> Inside {
        let procs = self.path.join("cgroup.procs");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "echo 0 > \"$0\" && exec \"$@\""])
            .arg(procs)
            .arg(command.get_program())
            .args(command.get_args());
        Inside::of(&mut shell)
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Inside {
    /// Starts what puts itself there, which first says that it is ready.
    #[must_use]
    pub fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let input = child.stdin.take().expect("its input");
        let output = child.stdout.take().expect("its output");
        let mut inside = Self {
            child,
            input: Some(input),
            lines: BufReader::new(output).lines(),
        };
        assert_eq!(inside.line(), "ready");
        inside
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What is left goes with the machine.
        let _killed = fs::write(self.path.join("cgroup.kill"), "1");
        let started = Instant::now();
        while fs::remove_dir(&self.path).is_err() && started.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A process in it.
#[derive(Debug)]
pub struct Inside {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Inside {
    /// Its next line.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let line = self.lines.next().expect("a line");
        line.expect("a line that can be read")
    }

    /// Asks it something, and what it says.
    #[track_caller]
    pub fn ask(&mut self, question: &str) -> String {
        let input = self.input.as_mut().expect("its input");
        writeln!(input, "{question}").expect("a process that listens");
        self.line()
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Closes its input, and what it says then.
    #[track_caller]
    pub fn last_line(mut self) -> String {
        drop(self.input.take());
        let line = self.line();
        self.child.wait().expect("its end");
        line
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A process that attaches, and records.
#[derive(Debug)]
pub struct Attaching {
    child: Child,
    /// What it has said.
    pub said: Vec<String>,
    lines: Lines<BufReader<std::process::ChildStderr>>,
}

impl Attaching {
    /// Starts it and waits until the policy is in force.
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Self {
        let mut attaching = Self::start_only(arguments);
        attaching.wait_until_in_force();
        attaching
    }

    /// Starts it.
    #[track_caller]
    pub fn start_only(arguments: &[&str]) -> Self {
        let mut command = skillsandbox();
        command.arg("attach").args(arguments);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .current_dir("/")
            .spawn()
            .expect("skillsandbox starts");
        let lines = BufReader::new(child.stderr.take().expect("its words")).lines();
        Self {
            child,
            said: Vec::new(),
            lines,
        }
    }

    /// Waits until it says that.
    #[track_caller]
    pub fn wait_until_in_force(&mut self) {
        loop {
            let line = self.lines.next();
            let line = line.unwrap_or_else(|| panic!("it ended: {:?}", self.said));
            self.said.push(line.expect("a line"));
            if self
                .said
                .last()
                .is_some_and(|line| line.contains("in force"))
            {
                return;
            }
        }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().expect("a process to kill");
        self.child.wait().expect("its end");
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end: its exit code, and what it said.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, String) {
        let started = Instant::now();
        for line in self.lines.by_ref() {
            assert!(started.elapsed() < PATIENCE, "{:?}", self.said);
            self.said.push(line.expect("a line"));
        }
        let status = self.child.wait().expect("its end");
        (status.code(), self.said.join("\n"))
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Runs another command of the same program: its exit code, and what it said.
#[must_use]
pub fn command(arguments: &[&str]) -> (Option<i32>, String) {
    let output = skillsandbox()
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("skillsandbox starts");
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said)
}

/// What `ps` says of the cgroup that is attached under this name.
#[must_use]
pub fn listed(name: &str) -> Option<Value> {
    let (code, said) = command(&["ps", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let all: Vec<Value> = serde_json::from_str(&said).expect("a list");
    all.into_iter().find(|one| one["name"] == name)
}
