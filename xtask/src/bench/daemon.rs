//! A daemon that is measured.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::scene::Scene;

/// It ends when this is dropped.
pub(super) struct Daemon {
    child: Child,
    words: BufReader<ChildStderr>,
}

impl Daemon {
    /// Starts it, with its socket and its store in the scene, and waits until it serves.
    pub(super) fn start(program: &Path, scene: &Scene, policies: &Path) -> Result<Self> {
        let mut child = Command::new("sh")
            // As its unit has it, where this may: who attaches a thousand needs it, and says so.
            .args(["-c", "ulimit -n 65536 2>/dev/null; exec \"$0\" \"$@\""])
            .arg(program)
            .args(["daemon", "--policies"])
            .arg(policies)
            .arg("--audit-dir")
            .arg(scene.output("audit"))
            .arg("--socket")
            .arg(Self::socket(scene))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let words = child.stderr.take().context("it says nothing")?;
        let mut daemon = Self {
            child,
            words: BufReader::new(words),
        };
        daemon.hear("have their policy")?;
        Ok(daemon)
    }

    /// Where it serves.
    pub(super) fn socket(scene: &Scene) -> PathBuf {
        scene.output("socket")
    }

    /// Memory that is its own: KiB.
    pub(super) fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        kib(&status, "RssAnon:").context("no RssAnon in its status")
    }

    /// Waits until it has said of so many more that their policy is in force.
    pub(super) fn wait_for(&mut self, more: usize) -> Result<()> {
        (0..more).try_for_each(|_| self.hear("the policy is in force"))
    }

    /// Waits until it has said a line with these words.
    fn hear(&mut self, words: &str) -> Result<()> {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            if self.words.read_line(&mut line)? == 0 {
                bail!("the daemon ended: {}", self.child.wait()?);
            }
            if line.contains("ERROR") {
                bail!("{line}");
            }
        }
        Ok(())
    }
}

/// The number of KiB after this name in such a file of proc(5).
pub(super) fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
