//! Many threads that interrupt each other in the middle of decisions.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use skillsandbox::audit::decode::{self, Body};
use skillsandbox::policy::{Grant, RuleSet, Subject};
use skillsandbox_common::header::{Reason, Verdict};
use skillsandbox_common::rule::{Access, Decision};

use crate::kernel_sandbox::{Folder, Ground};

/// The argument that makes the helper program the process with the threads.
pub const SUBCOMMAND: &str = "threads";

const THREADS: usize = 32;
/// One thread in so many sleeps after each open: whoever runs when it wakes is interrupted.
const SLEEPERS: usize = 4;
/// Below how many folders, each with a name of [`COMPONENT`] bytes, files lie.
const DEPTHS: [usize; 6] = [0, 1, 3, 7, 11, 16];
const COMPONENT: usize = 238;
const RING: u32 = 32 << 20;
/// Faults to describe before the rest is only counted.
const SHOWN: usize = 5;

/// A file of one thread, and what is to be decided on it.
#[derive(Debug)]
struct Goal {
    path: Vec<u8>,
    decision: Decision,
}

/// The files of a thread, in the order in which it opens them, again and again.
fn goals(top: &[u8], thread: usize) -> Vec<Goal> {
    let tag = tag(thread);
    let first = u16::try_from(3 * thread).unwrap_or(u16::MAX) + 1;
    let allowed = ("allowed", "file", Decision::allow(first));
    let kinds = [
        (
            "denied",
            "file",
            Decision::deny(Reason::DenyRule, first + 1),
        ),
        (
            "allowed",
            "secret",
            Decision::deny(Reason::DenyRule, first + 2),
        ),
        ("unnamed", "file", Decision::deny(Reason::NoRule, 0)),
    ];
    let mut goals = Vec::new();
    for (depth, kind) in (0..DEPTHS.len()).flat_map(|depth| kinds.map(|kind| (depth, kind))) {
        for (turn, (folder, name, decision)) in [allowed, kind].into_iter().enumerate() {
            // Neighbours differ in length, and so do the threads at any time.
            let depth = DEPTHS.iter().cycle().nth(depth + thread + 2 * turn);
            let mut path = [top, b"/", tag.as_bytes(), b"/", folder.as_bytes()].concat();
            for level in 0..*depth.unwrap_or(&0) {
                path.push(b'/');
                let name = format!("{tag}{level:02}-").repeat(COMPONENT / 6 + 1);
                path.extend(name.bytes().take(COMPONENT));
            }
            path.extend(format!("/{name}-{tag}").bytes());
            goals.push(Goal { path, decision });
        }
    }
    goals
}

fn tag(thread: usize) -> String {
    format!("t{thread:02}")
}

/// The rules that the decisions of [`goals`] come from.
fn rules(top: &[u8]) -> RuleSet {
    let mut set = RuleSet::default();
    for tag in (0..THREADS).map(tag) {
        let below = |name: &[u8]| [top, b"/", tag.as_bytes(), b"/", name].concat();
        set.push(
            Subject::Path(below(b"allowed"), Grant::READ),
            "allowed",
            None,
        );
        set.push(Subject::Path(below(b"denied"), Grant::Deny), "denied", None);
        let secret = format!("secret-{tag}").into_bytes();
        set.push(Subject::Name(secret), "secret", None);
    }
    set
}

/// The process with the threads: says their ids, waits for a line, opens, and says what was wrong.
pub fn inside(top: &str, opens: usize) -> Result<()> {
    // Made here, because a thread that frees much memory has the C library read a file of `/proc`.
    let attempts: Vec<Vec<Attempt>> = (0..THREADS)
        .map(|thread| {
            let goals = goals(top.as_bytes(), thread);
            goals.into_iter().map(Attempt::new).collect()
        })
        .collect();
    let barrier = Barrier::new(THREADS + 1);
    let mut out = io::stdout().lock();
    let (tids, told) = std::sync::mpsc::channel();
    let faults: Vec<String> = thread::scope(|scope| -> Result<Vec<String>> {
        let mut threads = Vec::new();
        for (number, attempts) in attempts.iter().enumerate() {
            let (barrier, tids) = (&barrier, tids.clone());
            threads.push(scope.spawn(move || {
                let tid = rustix::thread::gettid().as_raw_nonzero().get();
                tids.send((number, tid)).expect("the main thread listens");
                barrier.wait();
                open(attempts, opens / THREADS, number % SLEEPERS == 0)
            }));
        }
        for _ in 0..THREADS {
            let (number, tid) = told.recv()?;
            writeln!(out, "{number} {tid}")?;
        }
        out.flush()?;
        io::stdin().lock().read_line(&mut String::new())?;
        barrier.wait();
        let faults = threads.into_iter().map(thread::ScopedJoinHandle::join);
        Ok(faults
            .flat_map(|faults| faults.expect("no panic"))
            .collect())
    })?;
    for fault in faults {
        writeln!(out, "{fault}")?;
    }
    out.flush()?;
    Ok(())
}

/// An open, and the `errno` that it must have.
struct Attempt(CString, i32);

impl Attempt {
    fn new(goal: Goal) -> Self {
        let denied = goal.decision.verdict == Verdict::Deny;
        let path = CString::new(goal.path).expect("a path without NUL");
        let errno = if denied {
            Errno::PERM.raw_os_error()
        } else {
            0
        };
        Self(path, errno)
    }
}

/// Opens the files in turn and answers what each wrong outcome was.
fn open(attempts: &[Attempt], times: usize, sleeps: bool) -> Vec<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut faults = Vec::new();
    for Attempt(path, expected) in attempts.iter().cycle().take(times) {
        let outcome = rustix::fs::openat(CWD, path.as_c_str(), flags, Mode::empty());
        let errno = outcome.err().map_or(0, Errno::raw_os_error);
        if errno != *expected {
            faults.push(format!("errno {errno} and not {expected} for {path:?}"));
        }
        if sleeps {
            thread::sleep(Duration::from_micros(20));
        }
    }
    faults
}

/// What the events said.
#[derive(Debug, Default)]
struct Seen {
    received: u64,
    without_scratch: u64,
    faults: Vec<String>,
}

/// Lets the threads loose and checks every outcome and every event.
pub fn open_as_fast_as_can_be(opens: usize) -> Result<()> {
    preempts_on_one_processor()?;
    let opens = opens.next_multiple_of(THREADS);
    let started = Instant::now();
    let ground = Ground::new("preemption")?;
    ground.decides_on_files()?;
    let folder = Folder::new("preemption")?;
    let goals: Vec<Vec<Goal>> = (0..THREADS)
        .map(|thread| goals(&folder.0, thread))
        .collect();
    for goal in goals.iter().flatten() {
        let parent = goal.path.rsplitn(2, |byte| *byte == b'/').last();
        fs::create_dir_all(OsStr::from_bytes(parent.unwrap_or_default()))?;
        File::create(OsStr::from_bytes(&goal.path))?;
    }
    let lengths = goals.iter().flatten().map(|goal| goal.path.len());
    println!(
        "paths of {} to {} bytes, made after {:?}",
        lengths.clone().min().unwrap_or(0),
        lengths.max().unwrap_or(0),
        started.elapsed()
    );

    let top = std::str::from_utf8(&folder.0)?;
    let mut child = Command::new("/proc/self/exe")
        .args([SUBCOMMAND, top, &opens.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut go = child.stdin.take().context("no pipe to the threads")?;
    let mut lines = BufReader::new(child.stdout.take().context("no pipe from the threads")?);
    let mut threads: HashMap<u32, usize> = HashMap::new();
    for _ in 0..THREADS {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let (number, tid) = line.trim().split_once(' ').context("two numbers")?;
        threads.insert(tid.parse()?, number.parse()?);
    }
    let (attached, mut rings) = ground.enforce(77, &rules(&folder.0).compile()?, RING)?;
    let procs = ground.cgroup().path().join("cgroup.procs");
    fs::write(procs, child.id().to_string())?;
    let begun = Instant::now();
    writeln!(go, "go")?;
    let mut seen = Seen::default();
    loop {
        let at_most = Timespec {
            tv_sec: 0,
            tv_nsec: 5_000_000,
        };
        // Not at each denial: that would only slow the threads down.
        let mut ready = [PollFd::new(lines.get_ref(), PollFlags::IN)];
        poll(&mut ready, Some(&at_most))?;
        let is_done = ready.last().is_some_and(|fd| !fd.revents().is_empty());
        rings.drain(usize::MAX, |bytes| seen.check(bytes, &threads, &goals));
        rings.release();
        if is_done {
            break;
        }
    }
    let took = begun.elapsed();
    let outcomes: Vec<String> = lines.lines().collect::<io::Result<_>>()?;
    let status = child.wait()?;
    rings.drain(usize::MAX, |bytes| seen.check(bytes, &threads, &goals));
    rings.release();
    let counters = attached.counters()?;
    attached.detach()?;
    let dropped = counters.dropped_allowed + counters.dropped_denied;
    println!(
        "{opens} opens by {THREADS} threads in {took:?} ({:?} in all): {} wrong outcomes, \
         {} events received, {dropped} dropped and counted, {} wrong events, {} without scratch memory",
        started.elapsed(),
        outcomes.len(),
        seen.received,
        seen.faults.len(),
        seen.without_scratch
    );
    for fault in outcomes
        .iter()
        .take(SHOWN)
        .chain(seen.faults.iter().take(SHOWN))
    {
        println!("  {fault}");
    }
    ensure!(status.success(), "the process with the threads: {status}");
    ensure!(outcomes.is_empty(), "{} wrong outcomes", outcomes.len());
    ensure!(seen.faults.is_empty(), "{} wrong events", seen.faults.len());
    ensure!(
        usize::try_from(counters.records) == Ok(opens)
            && usize::try_from(counters.denied) == Ok(opens / 2)
            && seen.received + dropped == counters.records
            && counters.processes == 0,
        "the counters do not add up: {counters:?}"
    );
    ensure!(
        seen.received > counters.records / 4,
        "too few events were received to prove anything"
    );
    Ok(())
}

/// An error on a machine where threads would not interrupt each other as they are to.
fn preempts_on_one_processor() -> Result<()> {
    let cmdline = fs::read_to_string("/proc/cmdline")?;
    let processors = thread::available_parallelism()?.get();
    ensure!(
        cmdline
            .split_whitespace()
            .any(|word| word == "preempt=full")
            && processors == 1,
        "this needs a kernel with preempt=full and one processor, as `cargo xtask test` starts it; \
         this one has {processors} and {cmdline}"
    );
    Ok(())
}

impl Seen {
    /// Checks that an event is about a file of the thread that it names, decided as it must be.
    fn check(&mut self, bytes: &[u8], threads: &HashMap<u32, usize>, goals: &[Vec<Goal>]) {
        self.received += 1;
        if let Err(fault) = self.of(bytes, threads, goals) {
            self.faults.push(fault.to_string());
        }
    }

    fn of(
        &mut self,
        bytes: &[u8],
        threads: &HashMap<u32, usize>,
        goals: &[Vec<Goal>],
    ) -> Result<()> {
        let event = decode::decode(bytes)?;
        let prefix = event.prefix;
        let thread = threads.get(&prefix.actor.pid);
        let thread = thread.with_context(|| format!("no such thread: {}", prefix.actor.pid))?;
        if prefix.header.reason == Reason::NoScratch as u8 {
            self.without_scratch += 1;
        }
        let Body::Open(open) = event.body else {
            anyhow::bail!("not an open: {event:?}");
        };
        let shown = || open.path.escape_ascii().to_string();
        let is_it = |goal: &&Goal| goal.path == open.path;
        let own = goals
            .get(*thread)
            .and_then(|goals| goals.iter().find(is_it));
        let Some(Goal { decision, .. }) = own else {
            let owner = goals
                .iter()
                .position(|goals| goals.iter().any(|goal| is_it(&goal)));
            anyhow::bail!(
                "thread {thread} has the path of {owner:?}: {} {prefix:?}",
                shown()
            );
        };
        ensure!(
            prefix.header.verdict == decision.verdict as u8
                && prefix.header.reason == decision.reason as u8
                && prefix.actor.rule == u32::from(decision.rule)
                && open.body.access == Access::READ,
            "{prefix:?} and not {decision:?} for {}",
            shown()
        );
        Ok(())
    }
}
