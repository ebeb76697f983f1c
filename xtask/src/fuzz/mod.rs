//! Bytes that nobody chose, for everything that reads bytes of a skill's or of a manifest's author.

mod seeds;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, Result, ensure};

use crate::packages::{self, Need};
use crate::process::Guarded;
use crate::tools::Tool;
use crate::{build, paths, process};

/// Where a program that hangs on an input, or takes more memory, has found something.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=2048"];
/// How often we say how far it is.
const SAY_EVERY: Duration = Duration::from_secs(20);

/// How to fuzz.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long each target runs
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// The targets, which run side by side [default: all]
    #[arg(value_enum, value_name = "TARGET")]
    targets: Vec<Target>,
}

/// What reads bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// The reader of manifests
    Manifest,
    /// The reader of the kernel's events, up to what is written
    Event,
    /// The reader of what the name server is asked
    Question,
}

impl Target {
    const ALL: [Self; 3] = [Self::Manifest, Self::Event, Self::Question];

    fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Event => "event",
            Self::Question => "question",
        }
    }

    /// Longest input, bytes: a manifest of a few pages; the longest event; more than is read.
    fn longest(self) -> u32 {
        match self {
            Self::Manifest => 8192,
            Self::Event => 4400,
            Self::Question => 1400,
        }
    }

    fn corpus(self) -> PathBuf {
        folder().join("corpus").join(self.name())
    }

    /// Where an input that finds something is kept, with the start of its name.
    fn findings(self) -> PathBuf {
        folder().join(format!("{}-", self.name()))
    }
}

/// Where inputs are kept between runs.
fn folder() -> PathBuf {
    paths::target().join("fuzz")
}

/// Runs the targets. The exit code says whether any found something.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    build::prepare()?;
    packages::ensure(&[Need::Fuzz])?;
    let tool = Tool {
        name: "cargo-fuzz",
        version: "0.13.2",
        features: "",
        profile: "dev",
        environment: Vec::new(),
    };
    tool.ensure()?;
    eprintln!("building the fuzz targets, for some minutes the first time…");
    // One unit by default, which keeps all processors but one idle for minutes.
    process::run(cargo_fuzz(&tool, "build").args(["--codegen-units", "16"]))?;
    let mut targets = options.targets.clone();
    if targets.is_empty() {
        targets.extend(Target::ALL);
    }
    targets.dedup();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let runs: Vec<_> = targets
            .iter()
            .map(|target| (*target, scope.spawn(|| fuzz(*target, options.seconds))))
            .collect();
        let joined = runs.into_iter().map(|(target, run)| {
            let outcome = run.join();
            (
                target,
                outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            )
        });
        joined.collect()
    });
    let mut found = false;
    for (target, outcome) in outcomes {
        let name = target.name();
        match outcome {
            Ok(last) => println!("{name}: nothing found; {last}"),
            Err(error) => {
                println!("error: {name}: {error:#}");
                println!("again: cargo xtask fuzz {name}, which starts with what it kept");
                found = true;
            }
        }
    }
    Ok(if found {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Runs one target and returns the last that it said of its progress.
fn fuzz(target: Target, seconds: u64) -> Result<String> {
    let corpus = target.corpus();
    fs::create_dir_all(&corpus)?;
    seeds::write(target, &corpus)?;
    keep_findings(target, &corpus)?;
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(target.findings());
    let mut command = Command::new(program(target)?);
    command
        .arg(&corpus)
        .args(LIMITS)
        .arg(format!("-max_len={}", target.longest()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(prefix)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let name = target.name();
    eprintln!("fuzzing {name} for {seconds} s…");
    let log = folder().join(format!("{name}.log"));
    let mut kept = File::create(&log)?;
    let mut child = Guarded(command.spawn().context("could not start a fuzz target")?);
    let (mut last, mut said) = (String::new(), Instant::now());
    if let Some(lines) = child.0.stderr.take() {
        for line in BufReader::new(lines).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            std::io::Write::write_all(&mut kept, format!("{line}\n").as_bytes())?;
            // A line of progress, or the last one: `Done 1234 runs in 61 second(s)`.
            if line.starts_with('#') || line.starts_with("Done ") {
                if said.elapsed() > SAY_EVERY {
                    eprintln!("{name}: {line}");
                    said = Instant::now();
                }
                last = line;
            }
        }
    }
    let status = child.0.wait()?;
    ensure!(
        status.success(),
        "found something ({status}): the input is at {}*, what it did in {}",
        target.findings().display(),
        log.display()
    );
    Ok(last)
}

/// What was found before comes first, so that it is tried again.
fn keep_findings(target: Target, corpus: &Path) -> Result<()> {
    let start = format!("{}-", target.name());
    for entry in fs::read_dir(folder())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&start) {
            fs::rename(entry.path(), corpus.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn cargo_fuzz(tool: &Tool, subcommand: &str) -> Command {
    let mut command = Command::new(tool.program());
    command
        .args(["fuzz", subcommand, "--fuzz-dir"])
        .arg(paths::project().join("tests/fuzz"))
        .arg("--target-dir")
        .arg(folder().join("build"))
        // The sanitizer is an unstable option of the stable compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        .current_dir(paths::project());
    command
}

/// The built target, below a folder named after this machine's kind.
fn program(target: Target) -> Result<PathBuf> {
    let machine = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let program = folder()
        .join("build")
        .join(machine)
        .join("release")
        .join(target.name());
    ensure!(program.is_file(), "{} was not built", program.display());
    Ok(program)
}
