//! The virtual machines that the behaviour is tested in, several at a time.

use std::env;
use std::num::NonZero;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::programs::{self, Programs};
use super::tally::Tally;
use super::{FALLBACK_TIER, Report};
use crate::packages::{self, Need};
use crate::suite;
use crate::vm::kernels::{self, ALL, Series};
use crate::vm::{self, Echo, Ending, VmRequest};

/// The test program whose machine is [`Machine::Preempting`]. The others run faster on two
/// processors, and find there what one cannot show.
const PREEMPTION: &str = "preemption";
/// Emulated processors are slow; a test that hangs is slower.
const PATIENCE: Duration = Duration::from_mins(30);

/// The kind of machine that a test program runs in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Machine {
    /// Two processors, which run at the same time.
    Usual,
    /// One processor, and a kernel that lets a task be interrupted wherever it can.
    Preempting,
}

impl Machine {
    fn of(test: &str) -> Self {
        if suite::name(Path::new(test)) == PREEMPTION {
            Self::Preempting
        } else {
            Self::Usual
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Usual => "",
            Self::Preempting => " on one processor, preempted",
        }
    }
}

/// Runs the tests under every kernel. An emulator keeps one of our processors busy, whatever its
/// machine has, so as many machines run side by side as we have processors.
pub(super) fn all(programs: &Programs) -> Result<Vec<Report>> {
    // The long ones first.
    let machines: Vec<_> = [Machine::Usual, Machine::Preempting]
        .into_iter()
        .flat_map(|machine| ALL.map(|series| (series, machine)))
        .collect();
    packages::ensure(&[Need::Vm])?;
    for series in ALL {
        kernels::find(series)?;
    }
    let next = Mutex::new(machines.iter());
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let work = || {
        let mut reports = Vec::new();
        while let Some((series, machine)) = next.lock().ok().and_then(|mut next| next.next()) {
            reports.push(under(*series, programs, *machine));
        }
        reports
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

fn under(series: Series, programs: &Programs, machine: Machine) -> Result<Report> {
    let kind = machine.kind();
    eprintln!("testing the behaviour under Linux {series}{kind}…");
    let started = Instant::now();
    let is_for_it = |test: &&String| machine == Machine::of(test);
    let tests: Vec<String> = programs.tests.iter().filter(is_for_it).cloned().collect();
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
    match outcome.ending {
        Ending::Exited(_) => {}
        Ending::TimedOut => {
            println!(
                "error: Linux {series}{kind}: not done after {} s",
                PATIENCE.as_secs()
            );
        }
        Ending::Died => println!("error: Linux {series}{kind}: the virtual machine died"),
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
