//! Plays the demo in one place and leaves what happened in a folder, as files that everyone can
//! look at and that `evidence` reads.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::server::{Attacker, Server, ensure_ports_are_free};
use super::stage::{self, KEPT, Stage};
use crate::paths;
use crate::process::POLL;

/// How long the attacker may take to log what was sent already.
const PATIENCE: Duration = Duration::from_secs(3);
/// After so many seconds, a stealer that hangs is ended.
const DEADLINE: &str = "120";

/// Plays all of it.
pub(super) fn all(folder: &Path) -> Result<()> {
    ensure_ports_are_free()?;
    let stage = Stage::set()?;
    let run = Run {
        folder,
        stage: &stage,
    };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    run.keep("kernel", release.trim())?;
    run.keep("uid", &stage.user.uid.to_string())?;

    let weather = Server::weather(&stage)?;
    run.alone()?;
    run.sandboxed()?;
    eprintln!("  the honest skill under SkillSandbox…");
    run.skill("honest", "weather")?;
    drop(weather);
    Ok(())
}

struct Run<'a> {
    folder: &'a Path,
    stage: &'a Stage,
}

impl Run<'_> {
    /// The stealer as an agent would start it: with the agent's environment, less what the agent
    /// keeps to itself.
    fn alone(&self) -> Result<()> {
        eprintln!("  the stealer alone…");
        let attacker = Attacker::start(self.stage)?;
        let agent = format!("env -u {} python3 \"$0\"; exit $?", KEPT.0);
        let program = self.stage.skill("malicious-weather").join("main.py");
        let mut command = self
            .stage
            .as_user(&["timeout", DEADLINE, "sh", "-c", &agent]);
        command.arg(program);
        stage::victim(&mut command);
        self.act("alone", &mut command)?;

        // The attacker's DNS port needs no answer: it can still be at it.
        let deadline = Instant::now() + PATIENCE;
        while !attacker.log()?.contains("udp") && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        self.keep("alone.attacker.jsonl", &attacker.log()?)
    }

    fn sandboxed(&self) -> Result<()> {
        eprintln!("  the stealer under SkillSandbox…");
        let attacker = Attacker::start(self.stage)?;
        self.skill("sandboxed", "malicious-weather")?;
        self.keep("sandboxed.attacker.jsonl", &attacker.log()?)?;
        self.keep(
            "sandboxed.attacker-probed.jsonl",
            &attacker.log_after_probe()?,
        )
    }

    /// A skill under `skillsandbox run`, in the same environment.
    fn skill(&self, act: &str, name: &str) -> Result<()> {
        let mut command = Command::new(paths::target().join("debug/skillsandbox"));
        command.args(["run", "--record-refused", "--user"]);
        command.arg(self.stage.user.uid.to_string());
        command.arg("--events").arg(self.file(act, "events.jsonl"));
        command
            .arg("--trace-output")
            .arg(self.file(act, "trace.json"));
        command.arg(self.stage.skill(name)).current_dir("/");
        stage::environment(&mut command);
        stage::victim(&mut command);
        self.act(act, &mut command)
    }

    /// Runs a command to its end and keeps its outputs and how it ended.
    fn act(&self, act: &str, command: &mut Command) -> Result<()> {
        let output = |stream: &str| File::create(self.file(act, stream));
        let status = command
            .stdin(Stdio::null())
            .stdout(output("stdout")?)
            .stderr(output("stderr")?)
            .status()
            .with_context(|| format!("could not start {}", command.get_program().display()))?;
        self.stage.remove_cache()?;
        self.keep(&format!("{act}.status"), &status.to_string())
    }

    fn file(&self, act: &str, what: &str) -> PathBuf {
        self.folder.join(format!("{act}.{what}"))
    }

    fn keep(&self, name: &str, content: &str) -> Result<()> {
        let file = self.folder.join(name);
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))
    }
}
