//! The founding story, played: a weather skill that steals, alone and under SkillSandbox.
//!
//! [`collect`] plays it in one place, on the host or in a virtual machine, and leaves what happened
//! in a folder. Everything shown is read from there.

mod collect;
mod evidence;
mod loot;
mod page;
mod server;
mod stage;
mod stop;
mod table;
mod verdict;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use self::evidence::Evidence;
use self::page::Place;
use crate::packages::{self, Need};
use crate::vm::kernels::Series;
use crate::vm::{self, Ending, VmRequest};
use crate::{build, paths, process};

/// Where a guest sees the folder that it leaves the evidence in.
const SHARE: &str = "/share";

/// Where to play.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Start no virtual machine
    #[arg(long)]
    host_only: bool,
    /// Play here and leave what happened in this folder; show nothing
    #[arg(long, hide = true, value_name = "DIR")]
    collect: Option<PathBuf>,
}

/// Plays the demo and shows what happened.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if let Some(folder) = &options.collect {
        return collect::all(folder).map(|()| ExitCode::SUCCESS);
    }
    ensure_root()?;
    packages::ensure(&[Need::Demo])?;
    build::prepare()?;
    eprintln!("building skillsandbox…");
    process::run(build::cargo("build").args(["--package", "skillsandbox"]))?;

    let mut places = vec![on_the_host()?];
    if !options.host_only {
        places.push(in_a_machine()?);
    }
    let failures = verdict::failures(&places);
    let page = page::page(&places, &failures, options.host_only);
    let mut out = io::stdout().lock();
    let coloured = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let page = if coloured { page::colour(&page) } else { page };
    out.write_all(page.as_bytes())?;
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn ensure_root() -> Result<()> {
    ensure!(
        stage::is_root()?,
        "`skillsandbox run` needs root, for its cgroup, mounts and eBPF programs: \
         run `sudo env \"PATH=$PATH\" \"HOME=$HOME\" cargo xtask demo`"
    );
    Ok(())
}

fn on_the_host() -> Result<Place> {
    let folder = empty_folder("host")?;
    eprintln!("playing on this host (a few seconds)…");
    collect::all(&folder)?;
    place("on this host", folder)
}

fn in_a_machine() -> Result<Place> {
    let series = Series::V6_12;
    let folder = empty_folder("vm")?;
    eprintln!("playing under Linux {series} in a virtual machine (one to five minutes)…");
    let xtask = std::env::current_exe()?.into_os_string().into_string();
    let xtask = xtask.ok().context("the project's path is not UTF-8")?;
    let command = [&xtask, "demo", "--collect", SHARE].map(str::to_owned);
    let mut request = VmRequest::new(series, command.to_vec());
    request.share = Some(folder.clone());
    let outcome = vm::run(&request)?;
    if let Some(trouble) = outcome.trouble() {
        bail!("{trouble}");
    }
    match outcome.ending {
        Ending::Exited(0) => place("in a virtual machine", folder),
        ending => bail!("the demo in the virtual machine: {ending:?}"),
    }
}

fn place(name: &'static str, folder: PathBuf) -> Result<Place> {
    let evidence = Evidence::read(&folder)?;
    Ok(Place {
        name,
        evidence,
        folder,
    })
}

/// A new folder for what happens in a place.
fn empty_folder(place: &str) -> Result<PathBuf> {
    let folder = paths::target().join("demo").join(place);
    remove(&folder)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Removes a folder and everything in it, if it is there. Links are not followed.
fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
