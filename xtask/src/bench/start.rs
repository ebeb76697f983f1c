//! What a sandbox costs that does nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::daemon::Daemon;
use super::host::Programs;
use super::sample::{median, over, range};
use super::scene::Scene;
use super::table::Table;
use crate::{paths, process};

const ROUNDS: usize = 31;
/// Between rounds.
const PAUSE: Duration = Duration::from_secs(1);
/// Memory hardly differs between runs.
const MEMORY_ROUNDS: usize = 5;
const TRUE: &str = "/usr/bin/true";
/// A sandbox for agents, from npm.
const SANDBOX_RUNTIME: &str = "@anthropic-ai/sandbox-runtime";
const SANDBOX_RUNTIME_VERSION: &str = "0.0.83";
/// What its page suggests: nothing of the network, writing to one place.
const SETTINGS: &str = r#"{"network": {"allowedDomains": [], "deniedDomains": []},
    "filesystem": {"denyRead": [], "allowWrite": ["/tmp"], "denyWrite": []}}"#;

/// Nothing of the network, as `bwrap --unshare-all` and those settings have it.
const MANIFEST: &str = r#"{"skill": {"name": "idle", "version": "1"},
    "permissions": {}, "entrypoint": {"command": "/usr/bin/true"}}"#;

/// A way to start the program, as a reader would type it.
struct Way {
    name: &'static str,
    words: Vec<String>,
}

impl Way {
    fn new<S: Into<String>>(name: &'static str, words: impl IntoIterator<Item = S>) -> Self {
        Self {
            name,
            words: words.into_iter().map(Into::into).collect(),
        }
    }

    fn command(&self, around: &[&str]) -> Command {
        let mut words = around
            .iter()
            .copied()
            .chain(self.words.iter().map(String::as_str));
        let mut command = Command::new(words.next().unwrap_or(TRUE));
        command.args(words).stdin(Stdio::null());
        command
    }

    fn run(&self, around: &[&str]) -> Result<()> {
        let output = self.command(around).output();
        let output = output.with_context(|| format!("no {}", self.name))?;
        ensure!(
            output.status.success(),
            "{}: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

/// How long it takes to run a program that does nothing, and how much memory.
pub(super) fn starts(scene: &Scene, programs: &Programs) -> Result<Table> {
    let runtime = sandbox_runtime();
    let policies = scene.output("policies");
    fs::create_dir_all(&policies)?;
    let _daemon = Daemon::start(&programs.plain, scene, &policies)?;
    let ways = ways(scene, programs, runtime.as_deref().ok())?;
    eprintln!("measuring: start-up…");
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for (way, times) in ways.iter().zip(&mut times) {
            let started = Instant::now();
            way.run(&[])?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        // The last one leaves the daemon with a sandbox to take down and one to make.
        thread::sleep(PAUSE);
    }
    let memory = ways.iter().map(|way| peak(scene, way));
    let memory: Vec<f64> = memory.collect::<Result<_>>()?;

    let mut table = Table::new(&[
        "start and end of `/usr/bin/true`",
        "ms, median",
        "least – most",
        "× `bwrap`",
        "peak, MiB",
    ]);
    let bwrap = times.get(1).map_or(f64::NAN, |times| median(times));
    for ((way, times), memory) in ways.iter().zip(&times).zip(memory) {
        let (least, most) = range(times);
        table.row(vec![
            way.name.to_owned(),
            format!("{:.1}", median(times)),
            format!("{least:.1} – {most:.1}"),
            format!("{:.2}", median(times) / bwrap),
            format!("{memory:.1}"),
        ]);
    }
    table.note(format!(
        "{ROUNDS} rounds, the ways in turn. The peak is that of the largest process of a run (`time -f %M`, \
         median of {MEMORY_ROUNDS}): who has several has more in all. Of a run that is asked of the daemon it is the caller's."
    ));
    if let Err(error) = runtime {
        table.note(format!("sandbox-runtime was not measured: {error:#}."));
    }
    // As typed in the project's folder.
    let project = format!("{}/", paths::project().display());
    for way in &ways {
        let typed = way.words.join(" ").replace(&project, "");
        table.note(format!("- {}: `{typed}`", way.name));
    }
    Ok(table)
}

fn ways(scene: &Scene, programs: &Programs, runtime: Option<&Path>) -> Result<Vec<Way>> {
    let manifest = scene.output("idle.yaml");
    fs::write(&manifest, MANIFEST)?;
    let settings = scene.output("settings.json");
    fs::write(&settings, SETTINGS)?;
    let text = |path: &Path| path.display().to_string();
    let mut ways = vec![
        Way::new("bare", [TRUE]),
        Way::new(
            "bwrap",
            [
                "bwrap",
                "--unshare-all",
                "--die-with-parent",
                "--ro-bind",
                "/",
                "/",
                "--proc",
                "/proc",
                "--dev",
                "/dev",
                TRUE,
            ],
        ),
        Way::new(
            "firejail, its default profile",
            ["firejail", "--quiet", TRUE],
        ),
        Way::new(
            "firejail, hardened",
            [
                "firejail",
                "--quiet",
                "--noprofile",
                "--net=none",
                "--private",
                "--private-dev",
                "--private-tmp",
                "--caps.drop=all",
                "--nonewprivs",
                "--seccomp",
                TRUE,
            ],
        ),
        Way::new(
            "skillsandbox, every layer and every access on record",
            [
                text(&programs.plain),
                "run".into(),
                "--events".into(),
                text(&scene.output("events")),
                "--manifest".into(),
                text(&manifest),
                "--".into(),
                TRUE.into(),
            ],
        ),
    ];
    if let Some(runtime) = runtime {
        let words = [
            text(runtime),
            "--settings".into(),
            text(&settings),
            TRUE.into(),
        ];
        ways.push(Way::new("sandbox-runtime", words));
    }
    ways.push(Way::new(
        "skillsandbox, the same asked of the daemon, and kept in its store",
        [
            text(&programs.plain),
            "run".into(),
            "--socket".into(),
            text(&Daemon::socket(scene)),
            "--manifest".into(),
            text(&manifest),
            "--".into(),
            TRUE.into(),
        ],
    ));
    Ok(ways)
}

/// Most memory that one process of a run had at a time, in MiB.
fn peak(scene: &Scene, way: &Way) -> Result<f64> {
    let file = scene.output("peak");
    let told = file.display().to_string();
    let mut peaks = Vec::new();
    for _ in 0..MEMORY_ROUNDS {
        way.run(&["time", "--format=%M", "--output", &told])?;
        let text = fs::read_to_string(&file)?;
        let kibibytes = text.trim().parse();
        let kibibytes: u64 = kibibytes.with_context(|| format!("{}: {text}", way.name))?;
        peaks.push(over(kibibytes, 1024));
    }
    Ok(median(&peaks))
}

/// Brings the peer from npm, once.
fn sandbox_runtime() -> Result<PathBuf> {
    let folder = paths::tools().join("sandbox-runtime");
    let program = folder.join("node_modules/.bin/srt");
    let version = Command::new(&program).arg("--version").output();
    let is_there = |output: &std::process::Output| {
        String::from_utf8_lossy(&output.stdout).contains(SANDBOX_RUNTIME_VERSION)
    };
    if version.is_ok_and(|output| is_there(&output)) {
        return Ok(program);
    }
    eprintln!("installing {SANDBOX_RUNTIME} {SANDBOX_RUNTIME_VERSION}…");
    process::run(
        // Not among our packages: Debian's brings some hundred others, and not every node needs it.
        Command::new("npm")
            .args(["install", "--silent", "--no-fund", "--no-audit", "--prefix"])
            .arg(&folder)
            .arg(format!("{SANDBOX_RUNTIME}@{SANDBOX_RUNTIME_VERSION}")),
    )?;
    if !program.exists() {
        bail!("npm installed no {}", program.display());
    }
    Ok(program)
}
