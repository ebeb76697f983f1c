//! The supervisor's side of a launch.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::{Child, Command, Stdio};

use rustix::fs::{MemfdFlags, Mode, OFlags, openat};
use rustix::pipe::PipeFlags;
use serde::{Deserialize, Serialize};

use super::cgroup::Cgroup;
use super::error::{Result, Step};
use super::launch::Launch;
use super::report::Report;
pub(crate) use super::system::inherit;

/// First argument of this program when it is to be the launcher; the second is the number of the
/// descriptor that holds the [`Launch`]. A front door passes the second to
/// [`launcher::main`](super::launcher::main) before it starts any thread.
pub const LAUNCHER: &str = "__launch";

/// Standard input, output and error of the skill.
#[derive(Debug)]
pub struct Streams {
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
}

/// A sandbox that was started, or is about to say why it was not.
///
/// Dropping it ends the sandbox.
#[derive(Debug)]
pub struct Running {
    /// The launcher, with the skill's streams as far as they are pipes. It exits with the skill's
    /// exit code, or 128 and the number of the signal; wait for it when the report has ended.
    pub child: Child,
    /// What the launcher has to say.
    pub report: Report,
    /// Init reads the other end, and ends when this one is closed.
    pub liveness: OwnedFd,
}

/// What the launcher reads first.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    pub(super) launch: Launch,
    pub(super) skill_dir: RawFd,
    pub(super) cgroup: Option<RawFd>,
    pub(super) report: RawFd,
    pub(super) liveness: RawFd,
}

/// Starts a sandbox around a skill.
///
/// `skill_dir` is its folder, opened: what happens to the path of it no longer matters. Without a
/// `cgroup`, no eBPF program applies to it.
pub fn spawn(
    launch: &Launch,
    skill_dir: BorrowedFd<'_>,
    cgroup: Option<&Cgroup>,
    streams: Streams,
) -> Result<Running> {
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).step("make a pipe");
    let (report, report_end) = pipe()?;
    let (liveness_end, liveness) = pipe()?;
    // Opened anew: the lock is with what `cgroup` has open, and is the supervisor's alone.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = cgroup.map(|cgroup| openat(cgroup.folder(), ".", flags, Mode::empty()));
    let folder = folder.transpose().step("open the cgroup")?;
    let order = Order {
        launch: launch.clone(),
        skill_dir: skill_dir.as_raw_fd(),
        cgroup: folder.as_ref().map(AsRawFd::as_raw_fd),
        report: report_end.as_raw_fd(),
        liveness: liveness_end.as_raw_fd(),
    };
    let spec = hold(&order)?;
    let mut descriptors = vec![
        spec.as_raw_fd(),
        order.skill_dir,
        order.report,
        order.liveness,
    ];
    descriptors.extend(order.cgroup);

    let mut command = Command::new("/proc/self/exe");
    command
        .arg(LAUNCHER)
        .arg(spec.as_raw_fd().to_string())
        .env_clear()
        .current_dir("/")
        .stdin(streams.stdin)
        .stdout(streams.stdout)
        .stderr(streams.stderr);
    inherit(&mut command, descriptors);
    let child = command.spawn().step("start the launcher")?;
    Ok(Running {
        child,
        report: Report::new(report.into()),
        liveness,
    })
}

/// A file in memory with the order: the environment in it is in no argument list and on no disk.
fn hold(order: &Order) -> Result<File> {
    let doing = "write the launcher's order";
    let flags = MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("launch", flags).step(doing)?);
    let bytes = serde_json::to_vec(order)
        .map_err(std::io::Error::from)
        .step(doing)?;
    file.write_all(&bytes).step(doing)?;
    file.rewind().step(doing)?;
    Ok(file)
}
