//! The virtual machines that the behaviour is tested in, several at a time.

use std::env;
use std::num::NonZero;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::programs::{self, Package, Programs};
use super::tally::Tally;
use super::{FALLBACK_TIER, Report, boot};
use crate::packages::{self, Need};
use crate::roots::RELEASES;
use crate::suite;
use crate::vm::kernels::{self, ALL, Series};
use crate::vm::{self, Echo, VmRequest};

/// The test program whose machine is [`Machine::Preempting`]. The others run faster on two
/// processors, and find there what one cannot show.
const PREEMPTION: &str = "preemption";
/// Test programs about what userspace does: no kernel makes it something else, so each of these runs under
/// one of them, and on the host.
const ONE_KERNEL: [&str; 14] = [
    "audit",
    "endings",
    "limits",
    "lookups",
    "manifests",
    "together",
    "recorder",
    "ceiling",
    "service",
    "hostile",
    "firewall",
    "syscalls",
    "ahead",
    "back_pressure",
];
/// Test programs of what is made of our files: they run on the host.
const NO_KERNEL: [&str; 5] = ["engines", "investigation", "package", "sealing", "shipping"];
/// Emulated processors are slow; a test that hangs is slower.
const PATIENCE: Duration = Duration::from_mins(30);

/// Machines that share one kernel's tests: three long ones would leave a processor idle at the end.
const SHARES: usize = 2;

/// The kind of machine that a test program runs in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Machine {
    /// Two processors, which run at the same time.
    Usual {
        /// Which of the [`SHARES`] of the test programs, from 0.
        share: usize,
    },
    /// One processor, and a kernel that lets a task be interrupted wherever it can.
    Preempting,
}

impl Machine {
    fn all() -> impl Iterator<Item = Self> {
        let usual = (0..SHARES).map(|share| Self::Usual { share });
        usual.chain([Self::Preempting])
    }

    /// Its part of all test programs, under the kernel that is this one of [`ALL`].
    fn tests(self, kernel: usize, all: &[String]) -> Vec<String> {
        let is_here = |test: &&String| {
            let name = suite::name(Path::new(test));
            let at = ONE_KERNEL.iter().position(|one| *one == name);
            !NO_KERNEL.contains(&name.as_str()) && at.is_none_or(|at| at % ALL.len() == kernel)
        };
        let (preempted, usual): (Vec<_>, Vec<_>) = all
            .iter()
            .filter(is_here)
            .cloned()
            .partition(|test| suite::name(Path::new(test)) == PREEMPTION);
        match self {
            Self::Usual { share } => usual.into_iter().skip(share).step_by(SHARES).collect(),
            Self::Preempting => preempted,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Usual { .. } => "",
            Self::Preempting => " on one processor, preempted",
        }
    }
}

/// What a machine is started for.
enum Job<'a> {
    /// The tests of such a machine, under the kernel that is this one of [`ALL`].
    Suite(usize, Series, Machine),
    /// The newest Debian, which boots with the package in it. `cargo xtask boot` boots each.
    Boot(&'a Package),
}

/// Runs the tests under every kernel, and boots a Debian. An emulator keeps one of our processors busy, whatever its
/// machine has, so as many machines run side by side as we have processors.
pub(super) fn all(programs: &Programs) -> Result<Vec<Report>> {
    let suites = |machine| {
        let kernels = ALL.into_iter().enumerate();
        kernels.map(move |(kernel, series)| Job::Suite(kernel, series, machine))
    };
    let boot = programs.package.as_ref().map(Job::Boot);
    // The long ones first.
    let jobs: Vec<_> = boot
        .into_iter()
        .chain(Machine::all().flat_map(suites))
        .collect();
    packages::ensure(&[Need::Vm])?;
    for series in ALL {
        kernels::find(series)?;
    }
    let next = Mutex::new(jobs.iter());
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let work = || {
        let mut reports = Vec::new();
        while let Some(job) = next.lock().ok().and_then(|mut next| next.next()) {
            reports.push(match job {
                Job::Suite(kernel, series, machine) => {
                    let tests = machine.tests(*kernel, &programs.tests);
                    under(*series, programs, *machine, tests)
                }
                Job::Boot(package) => {
                    let [.., newest] = RELEASES;
                    boot::of(package, newest)
                }
            });
        }
        reports
    };
    let reports: Result<Vec<Report>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    Ok(by_place(reports?))
}

/// One report of the machines that share a kernel's tests.
fn by_place(reports: Vec<Report>) -> Vec<Report> {
    let mut places: Vec<Report> = Vec::new();
    for report in reports {
        match places.iter_mut().find(|place| place.place == report.place) {
            Some(place) => place.tally += report.tally,
            None => places.push(report),
        }
    }
    places
}

fn under(
    series: Series,
    programs: &Programs,
    machine: Machine,
    tests: Vec<String>,
) -> Result<Report> {
    let kind = machine.kind();
    eprintln!("testing the behaviour under Linux {series}{kind}…");
    let started = Instant::now();
    let expected = tests.len();
    let xtask = env::current_exe()?.into_os_string().into_string();
    let xtask = xtask.ok().context("the project's path is not UTF-8")?;
    let mut command = vec![xtask];
    command.extend(programs::suite(FALLBACK_TIER));
    command.extend(tests);
    let mut request = VmRequest::new(series, command);
    request.environment = programs.environment();
    request.timeout = PATIENCE;
    request.echo = Echo::Lines(format!("Linux {series}{kind} | "));
    if machine == Machine::Preempting {
        request.cpus = 1;
        "preempt=full".clone_into(&mut request.append);
    }

    let outcome = vm::run(&request)?;
    if let Some(trouble) = outcome.trouble() {
        println!("error: Linux {series}{kind}: {trouble}");
    }
    let tally = Tally::of(&outcome.stdout).expect(expected);
    if tally.failed > 0 {
        println!(
            "the messages of Linux {series}{kind}: {}",
            outcome.log.display()
        );
    }
    eprintln!(
        "Linux {series}{kind}: done after {} s",
        started.elapsed().as_secs()
    );
    Ok(Report {
        place: format!("Linux {}{kind}", outcome.release),
        tally,
        left_to: "the host",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_program_runs_under_every_kernel_or_in_one_machine() {
        let names = [
            "audit-1",
            "ceiling-8",
            "endings-2",
            "engines-7",
            "lookups-3",
            "paths-4",
            "attacks-5",
            "preemption-6",
        ];
        let all = names.map(|name| format!("/t/{name}"));
        let mut runs = Vec::new();
        for kernel in 0..ALL.len() {
            for machine in Machine::all() {
                runs.extend(machine.tests(kernel, &all));
            }
        }
        let times = |name: &str| runs.iter().filter(|run| run.contains(name)).count();
        for name in ["paths", "attacks", "preemption"] {
            assert_eq!(times(name), ALL.len(), "{name}");
        }
        for name in ["audit", "ceiling", "endings", "lookups"] {
            assert_eq!(times(name), 1, "{name}");
        }
        assert_eq!(times("engines"), 0);
    }
}
