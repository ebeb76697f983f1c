//! The launcher and init: the two processes between the supervisor and the skill.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus, wait, waitpid};
use rustix::thread::UnshareFlags;

use super::error::{IsolateError, Result, Step};
use super::launch::Launch;
use super::report::{self, Ended, Layer, LayerReport, Record};
use super::system::{self, Forked};
use super::{limits, mounts, skill::Prepared, spawn::Order};

/// Exit code of a launch that failed.
const FAILED: u8 = 125;

/// The descriptors that a launch works with.
pub(super) struct Descriptors {
    pub(super) skill_dir: OwnedFd,
    pub(super) cgroup: Option<OwnedFd>,
    liveness: OwnedFd,
}

/// Runs this process as the launcher. `argument` is the number of the descriptor with the order.
///
/// Call it before any other thread exists.
#[must_use]
pub fn main(argument: Option<&OsStr>) -> ExitCode {
    let (order, report) = match receive(argument) {
        Ok(received) => received,
        Err(error) => {
            // There is no one else to tell.
            let _ = writeln!(io::stderr(), "skillsandbox launcher: {error}");
            return ExitCode::from(FAILED);
        }
    };
    launch(order, &report).unwrap_or_else(|error| fail(&report, &error))
}

/// Tells the supervisor why there is no skill.
fn fail(report: &File, error: &IsolateError) -> ExitCode {
    // If it is gone, so is the reason to go on.
    let _ = report::write(report, &Record::Failed(error.to_string()));
    ExitCode::from(FAILED)
}

fn receive(argument: Option<&OsStr>) -> Result<(Order, File)> {
    let number = argument
        .and_then(OsStr::to_str)
        .and_then(|number| number.parse().ok());
    let Some(number) = number else {
        return Err(IsolateError::refused(
            "this is how skillsandbox starts itself",
            "call skillsandbox run",
        ));
    };
    let order = File::from(system::adopt(number).step("find the launcher's order")?);
    system::keep_only_standard_streams().step("mark the inherited descriptors")?;
    let order: Order = serde_json::from_reader(BufReader::new(order))
        .map_err(io::Error::from)
        .step("read the launcher's order")?;
    let report = system::adopt(order.report).step("find the report's pipe")?;
    Ok((order, report.into()))
}

/// Makes the namespaces, and init in them; then waits for it.
fn launch(order: Order, report: &File) -> Result<ExitCode> {
    let adopt = |number| system::adopt(number).step("find an inherited descriptor");
    let descriptors = Descriptors {
        skill_dir: adopt(order.skill_dir)?,
        cgroup: order.cgroup.map(adopt).transpose()?,
        liveness: adopt(order.liveness)?,
    };
    let launch = order.launch;
    if launch.uid == 0 || launch.gid == 0 {
        return Err(IsolateError::refused(
            "a skill does not run as root",
            "name another user",
        ));
    }
    // Out of the terminal's foreground group: an interrupt is for the supervisor to handle.
    rustix::process::setsid().step("make a session")?;
    let threads = if launch.limits.processes.is_some() {
        limits::threads_of(launch.uid)?
    } else {
        0
    };
    if launch.has(Layer::Namespaces) {
        system::unshare(UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS)
            .step("make the PID, IPC and host name namespaces")?;
    }
    match system::fork().step("fork")? {
        Forked::Child => Ok(init(&launch, descriptors, report, threads)
            .unwrap_or_else(|error| fail(report, &error))),
        Forked::Parent(init) => {
            drop(descriptors);
            detach()?;
            let status = loop {
                match waitpid(Some(init), WaitOptions::empty()) {
                    Err(Errno::INTR) => {}
                    other => break other.step("wait for init")?,
                }
            };
            let code = status
                .and_then(|(_, status)| ended(status))
                .map_or(0, Ended::exit_code);
            Ok(ExitCode::from(u8::try_from(code).unwrap_or(FAILED)))
        }
    }
}

/// Lets go of the skill's streams, so that a pipe closes when the skill closes it.
fn detach() -> Result<()> {
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .step("open /dev/null")?;
    let doing = "let go of the skill's streams";
    rustix::stdio::dup2_stdin(&null).step(doing)?;
    rustix::stdio::dup2_stdout(&null).step(doing)?;
    rustix::stdio::dup2_stderr(&null).step(doing)
}

fn ended(status: WaitStatus) -> Option<Ended> {
    let code = status.exit_status().map(Ended::Code);
    code.or_else(|| status.terminating_signal().map(Ended::Signal))
}

fn gone() -> IsolateError {
    IsolateError::refused("the supervisor is gone", "run the skill again")
}

/// Whether the other end of a pipe has been closed, or written to.
fn is_readable(pipe: &OwnedFd) -> Result<bool> {
    let mut polled = [PollFd::new(pipe, PollFlags::IN)];
    let now = rustix::time::Timespec::default();
    let found = rustix::event::poll(&mut polled, Some(&now)).step("look for the supervisor")?;
    Ok(found > 0)
}

/// Has this process end with the launcher, and its memory looked at by nobody.
fn follow_and_hide() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .step("follow the launcher into death")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step("hide init's memory")
}

/// Process 1 of the sandbox: makes its file tree, starts the skill, reaps, and reports the end.
fn init(
    launch: &Launch,
    descriptors: Descriptors,
    report: &File,
    threads: u64,
) -> Result<ExitCode> {
    let namespaces = launch.has(Layer::Namespaces);
    if namespaces && rustix::process::getpid() != Pid::INIT {
        return Err(IsolateError::refused(
            "the PID namespace does not hold: init is not process 1",
            "report this with the kernel's version",
        ));
    }
    follow_and_hide()?;
    if namespaces {
        rustix::system::sethostname(launch.hostname.as_bytes()).step("set the host name")?;
    }
    // A setting of the PID namespace, so only of one that is the sandbox's own.
    let memory_files = namespaces && refuse_executable_memory_files();
    // The caller's would decide on what the skill can read of its own file tree.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let mounts = if launch.has(Layer::Mounts) {
        mounts::enter(launch, descriptors.skill_dir.as_fd())?
    } else {
        LayerReport::off(Layer::Mounts)
    };
    // The kernel forgets both when files were reached as another user (`commit_creds`, `kernel/cred.c`).
    follow_and_hide()?;
    if is_readable(&descriptors.liveness)? {
        return Err(gone());
    }
    report::write(report, &Record::Layer(mounts))?;

    let signals = system::child_signals().step("watch for children")?;
    let (handover, handover_end) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).step("make a pipe")?;
    let prepared = Prepared::new(launch, &descriptors)?;
    let liveness = descriptors.liveness;
    drop(descriptors.skill_dir);
    let forked = match descriptors.cgroup {
        Some(cgroup) => system::fork_into(cgroup.as_fd()).step("fork into the cgroup")?,
        None => system::fork().step("fork")?,
    };
    match forked {
        Forked::Child => {
            drop((handover, liveness));
            let end = File::from(handover_end);
            let Err(error) = prepared.become_skill(&end, threads, memory_files);
            Ok(fail(&end, &error))
        }
        Forked::Parent(skill) => {
            drop((handover_end, prepared));
            detach()?;
            follow(File::from(handover), report)?;
            let ended = watch(skill, &signals, &liveness)?;
            report::write(report, &Record::Ended(ended))?;
            Ok(ExitCode::from(
                u8::try_from(ended.exit_code()).unwrap_or(FAILED),
            ))
        }
    }
}

/// Makes memory files not executable in this PID namespace unless they ask to be, which the
/// system call filter refuses. Linux 6.3; says whether it did.
fn refuse_executable_memory_files() -> bool {
    let file = Path::new("/proc/sys/vm/memfd_noexec");
    std::fs::write(file, "1").is_ok()
        && std::fs::read_to_string(file).is_ok_and(|value| value.trim() == "1")
}

/// Passes on what the skill's process reports until `execve` closes its end of the pipe.
fn follow(mut handover: File, report: &File) -> Result<()> {
    let mut records = Vec::new();
    handover
        .read_to_end(&mut records)
        .step("read what the skill's process reports")?;
    let mut to = report;
    to.write_all(&records).step("write to the report")?;
    let ready = serde_json::to_vec(&Record::Ready)
        .map_err(io::Error::from)
        .step("encode")?;
    // After it comes nothing, unless `execve` failed.
    if records.trim_ascii_end().ends_with(&ready) {
        report::write(report, &Record::Started)?;
    }
    Ok(())
}

/// Waits until the skill ends, reaping what it leaves behind, or until the supervisor is gone.
fn watch(skill: Pid, mut signals: &File, liveness: &OwnedFd) -> Result<Ended> {
    loop {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == skill => {
                    if let Some(ended) = ended(status) {
                        return Ok(ended);
                    }
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(error) => return Err(error).step("wait for the skill"),
            }
        }
        let mut events = [
            PollFd::new(&signals, PollFlags::IN),
            PollFd::new(liveness, PollFlags::IN),
        ];
        match rustix::event::poll(&mut events, None) {
            Err(Errno::INTR) => continue,
            other => other.step("wait for the skill or the supervisor")?,
        };
        let [_, supervisor] = &events;
        if !supervisor.revents().is_empty() {
            return Err(gone());
        }
        // How many ended is for `wait` to say.
        let _ = signals.read(&mut [0; 1024]);
    }
}
