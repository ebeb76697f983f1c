//! Runs a command under another kernel: a virtual machine that sees the host's files, and whose
//! own writes stay in its memory.

pub(crate) mod command;
mod cpio;
mod image;
pub(crate) mod kernels;
mod ports;
mod qemu;
mod scratch;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use self::kernels::Series;
use self::ports::Ports;
use self::scratch::Scratch;
use crate::packages::{self, Need};
use crate::paths;
use crate::process::{Guarded, POLL};

/// Where a guest looks for programs: Debian's own before anything that a user installed.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long the servers and the emulator may take to find each other.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of the kernel's messages is shown of a machine that did not do its job: an oops with its stack.
const LAST_LINES: usize = 40;

/// What to run, and in what kind of machine.
#[derive(Clone)]
pub(crate) struct VmRequest {
    /// The kernel to boot.
    pub(crate) series: Series,
    /// The command and its arguments.
    pub(crate) command: Vec<String>,
    /// Where to run it.
    pub(crate) directory: PathBuf,
    /// Variables to set beside `PATH`, `HOME`, `LANG` and `TERM`.
    pub(crate) environment: Vec<(String, String)>,
    /// Folders to look for programs in before the usual ones.
    pub(crate) programs: Vec<PathBuf>,
    /// Folders to keep visible even if they are below `/tmp` or `/run`.
    pub(crate) folders: Vec<PathBuf>,
    /// A folder that the guest sees at `/share` and can write to.
    pub(crate) share: Option<PathBuf>,
    /// Whether it boots the Debian in that folder, in place of running the command.
    pub(crate) boots: bool,
    /// When to give up.
    pub(crate) timeout: Duration,
    /// The number of processors.
    pub(crate) cpus: u8,
    /// More arguments for the kernel.
    pub(crate) append: String,
    /// Whether the guest's clock counts instructions.
    pub(crate) icount: bool,
    /// How to pass on the command's output as it comes.
    pub(crate) echo: Echo,
}

/// What becomes of a command's output while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// It is passed on byte by byte.
    Bytes,
    /// It is passed on in whole lines that begin with this, for machines that run side by side.
    Lines(String),
}

impl VmRequest {
    /// A request to run `command` at the top of the project, with everything else as usual.
    pub(crate) fn new(series: Series, command: Vec<String>) -> Self {
        let project = paths::project().to_owned();
        Self {
            series,
            command,
            directory: project.clone(),
            environment: Vec::new(),
            programs: vec![paths::target().join("debug")],
            folders: vec![project],
            share: None,
            boots: false,
            timeout: Duration::from_mins(10),
            cpus: 2,
            append: String::new(),
            icount: false,
            echo: Echo::Bytes,
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The command ended with this status.
    Exited(u8),
    /// It was not done in time.
    TimedOut,
    /// The machine stopped before the command ended.
    Died,
}

/// What became of a request.
pub(crate) struct VmOutcome {
    /// How it ended.
    pub(crate) ending: Ending,
    /// The release of the kernel.
    pub(crate) release: String,
    /// What the command wrote to its standard output.
    pub(crate) stdout: String,
    /// The kernel's messages, kept unless all went well.
    pub(crate) log: PathBuf,
}

impl VmOutcome {
    /// Why the command did not end, and the last that the kernel said; nothing if it ended, well or not.
    pub(crate) fn trouble(&self) -> Option<String> {
        let what = match self.ending {
            Ending::Exited(_) => return None,
            Ending::TimedOut => "was not done in time",
            Ending::Died => "died",
        };
        let said = fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let mut last: Vec<&str> = said.lines().rev().take(LAST_LINES).collect();
        last.reverse();
        let last = last.join("\n  ");
        let log = self.log.display();
        Some(format!(
            "the virtual machine {what}: see {log}, which ends with\n  {last}"
        ))
    }
}

/// Brings what virtual machines need, boots one and runs the command in it.
pub(crate) fn run(request: &VmRequest) -> Result<VmOutcome> {
    packages::ensure(&[Need::Vm])?;
    let kernel = kernels::find(request.series)?;
    let log = log_file(request.series)?;
    let scratch = Scratch::create()?;
    fs::write(
        scratch.path().join("initrd"),
        image::build(&kernel, request)?,
    )?;

    let ports = Ports::listen(scratch.path())?;
    let _host = serve(Path::new("/"), &scratch.path().join("host"), &log)?;
    let share = request.share.as_ref();
    let _share = share
        .map(|folder| serve(folder, &scratch.path().join("share"), &log))
        .transpose()?;
    let deadline = Instant::now() + request.timeout;
    let mut guest = start(
        &mut qemu::guest(request, &kernel.image(), scratch.path(), &log),
        &log,
    )?;

    let mut ports = ports
        .accept(&mut guest.0, PATIENCE, &request.echo)
        .with_context(|| {
            format!(
                "the emulator did not start: see {}",
                errors_of(&log).display()
            )
        })?;
    let ending = ports.wait(deadline)?;
    drop(guest);
    let stdout = ports.stdout();
    if ending == Ending::Exited(0) {
        fs::remove_file(&log)?;
        fs::remove_file(errors_of(&log))?;
    }
    Ok(VmOutcome {
        ending,
        release: kernel.release,
        stdout,
        log,
    })
}

/// Starts a file server and waits until it listens.
fn serve(source: &Path, socket: &Path, log: &Path) -> Result<Guarded> {
    let mut server = start(&mut qemu::file_server(source, socket), log)?;
    let deadline = Instant::now() + PATIENCE;
    while !socket.exists() {
        let ended = server.0.try_wait()?;
        ensure!(
            ended.is_none() && Instant::now() < deadline,
            "the server of {} did not start (it needs root): see {}",
            source.display(),
            errors_of(log).display()
        );
        thread::sleep(POLL);
    }
    Ok(server)
}

/// Starts a program whose own messages go beside the kernel's.
fn start(command: &mut Command, log: &Path) -> Result<Guarded> {
    let errors = File::options()
        .append(true)
        .create(true)
        .open(errors_of(log))?;
    let command = command
        .stdin(Stdio::null())
        .stdout(errors.try_clone()?)
        .stderr(errors);
    let child = command
        .spawn()
        .context("could not start setpriv, of Debian's util-linux")?;
    Ok(Guarded(child))
}

/// The file for the kernel's messages; each machine has its own.
fn log_file(series: Series) -> Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let folder = paths::target().join("vm");
    fs::create_dir_all(&folder)
        .with_context(|| format!("could not create {}", folder.display()))?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Ok(folder.join(format!("{series}-{}-{number}.log", std::process::id())))
}

/// The file for the messages of the emulator and the file servers.
fn errors_of(log: &Path) -> PathBuf {
    log.with_extension("err")
}
