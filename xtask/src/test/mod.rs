//! All tests: of the parts, and of the behaviour on the host and under each kernel.

mod boot;
mod machines;
pub(crate) mod programs;
mod tally;

use std::env;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;

use self::programs::{Package, Programs};
use self::tally::Tally;
use crate::packages::{self, Need};
use crate::{build, lint, process};

/// Tests that need the BPF security module have this module in their paths …
const KERNEL_TIER: &str = "kernel_tier";
/// … and those of what stands in for it have this one.
const FALLBACK_TIER: &str = "fallback_tier";

/// Where to test.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Start no virtual machines
    #[arg(long)]
    host_only: bool,
}

/// A place, and how its tests ended.
struct Report {
    place: String,
    tally: Tally,
    /// Where the tests that were left out are run.
    left_to: &'static str,
}

/// Runs all tests. The last line is the sum.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut reports = Vec::new();
    if let Err(error) = lint::quick() {
        eprintln!("error: {error:#}");
        let tally = Tally {
            failed: 1,
            ..Tally::default()
        };
        reports.push(Report {
            place: "format and lints".into(),
            tally,
            left_to: "nobody",
        });
    }
    reports.push(of_the_parts()?);
    packages::ensure(&[Need::Demo, Need::Test])?;
    let programs = Programs::build()?.packaged()?;
    reports.push(on_the_host(&programs)?);
    if !options.host_only {
        reports.extend(machines::all(&programs)?);
    }

    println!();
    if options.host_only {
        println!("virtual machines: none started, as --host-only asks");
    }
    Ok(sum_up(&reports))
}

/// Tries the package in machines that boot Debian, and nothing else.
pub(crate) fn boot() -> Result<ExitCode> {
    let package = Package::of(&build::plain()?)?;
    Ok(sum_up(&boot::all(&package)?))
}

/// Says how the tests of each place ended, and at last the sum.
fn sum_up(reports: &[Report]) -> ExitCode {
    let mut sum = Tally::default();
    for Report {
        place,
        tally,
        left_to,
    } in reports
    {
        print!("{place}: {tally}");
        if tally.ignored > 0 {
            print!(", {} ignored by their authors", tally.ignored);
        }
        if tally.left > 0 {
            print!(", {} left to {left_to}", tally.left);
        }
        println!();
        sum += *tally;
    }
    println!("{sum}");
    if sum.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Tests that are part of the code that they test.
fn of_the_parts() -> Result<Report> {
    eprintln!("building and running the tests of the parts…");
    let mut cargo = build::cargo("test");
    cargo.args([
        "--workspace",
        "--exclude",
        "skillsandbox-ebpf",
        "--exclude",
        "skillsandbox-tests",
    ]);
    let (status, output) = process::tee(cargo.arg("--no-fail-fast"))?;
    let mut tally = Tally::of(&output);
    if !status.success() && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(Report {
        place: "parts".into(),
        tally,
        left_to: "nobody",
    })
}

fn on_the_host(programs: &Programs) -> Result<Report> {
    eprintln!("testing the behaviour on this host…");
    let (skip, left_to) = if host_has_bpf_lsm() {
        (FALLBACK_TIER, "hosts without BPF LSM")
    } else {
        (
            KERNEL_TIER,
            "virtual machines, as BPF LSM does not work here",
        )
    };
    let mut command = Command::new(env::current_exe()?);
    command
        .args(programs::suite(skip))
        .args(&programs.tests)
        .envs(programs.environment());
    let (_, output) = process::tee(&mut command)?;
    let tally = Tally::of(&output).expect(programs.tests.len());
    Ok(Report {
        place: "host".into(),
        tally,
        left_to,
    })
}

/// Whether this host runs BPF programs on trampolines and asks BPF for its verdicts. There are
/// hosts that say so and refuse, so try.
fn host_has_bpf_lsm() -> bool {
    let listed = std::fs::read_to_string("/sys/kernel/security/lsm");
    let listed = listed.is_ok_and(|list| list.trim_end().split(',').any(|name| name == "bpf"));
    let probe = "kfunc:vfs_open { } BEGIN { exit(); }";
    let bpftrace = &mut Command::new("bpftrace");
    listed && process::succeeds_within(bpftrace.args(["-e", probe]), Duration::from_secs(30))
}
