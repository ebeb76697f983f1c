//! `cargo xtask vm`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result};

use super::kernels::Series;
use super::{Ending, VmRequest};

/// What `timeout(1)` exits with.
const TIMED_OUT: u8 = 124;

/// Where and how to run a command.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The series of the kernel
    #[arg(long, default_value = "6.12")]
    kernel: Series,
    /// A folder that the guest sees at /share and can write to
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
    /// Boot the Debian in that folder; what it has to say it writes to /dev/vport0p1, and its status to /dev/vport0p3
    #[arg(long, requires = "share", conflicts_with = "command")]
    boot: bool,
    /// Give up after so many seconds, with status 124
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// The number of processors
    #[arg(long, value_name = "N", default_value_t = 2)]
    cpus: u8,
    /// More arguments for the kernel
    #[arg(
        long,
        value_name = "KERNEL ARGS",
        default_value = "",
        allow_hyphen_values = true
    )]
    append: String,
    /// Let the guest's clock count the instructions of its one processor: times are repeatable
    #[arg(long)]
    icount: bool,
    /// The command and its arguments
    #[arg(last = true, required_unless_present = "boot")]
    command: Vec<String>,
}

/// Runs the command in a virtual machine and passes on its output and its status.
pub(crate) fn run(options: Options) -> Result<ExitCode> {
    let mut request = VmRequest::new(options.kernel, options.command);
    request.directory = env::current_dir().context("the current folder is gone")?;
    request.folders.push(request.directory.clone());
    let share = options.share.map(|folder| {
        fs::canonicalize(&folder).with_context(|| format!("cannot share {}", folder.display()))
    });
    request.share = share.transpose()?;
    request.boots = options.boot;
    request.timeout = Duration::from_secs(options.timeout);
    request.cpus = options.cpus;
    request.append = options.append;
    request.icount = options.icount;

    let outcome = super::run(&request)?;
    if let Some(trouble) = outcome.trouble() {
        eprintln!("error: {trouble}");
    }
    Ok(match outcome.ending {
        Ending::Exited(status) => ExitCode::from(status),
        Ending::TimedOut => ExitCode::from(TIMED_OUT),
        Ending::Died => ExitCode::FAILURE,
    })
}
