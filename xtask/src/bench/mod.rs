//! What an access, and a sandbox, costs: against nothing and against peers in the same run.

mod audit;
mod crowd;
mod daemon;
mod flood;
mod guest;
mod host;
mod lookups;
mod page;
mod rules;
mod sample;
mod scene;
mod start;
mod table;
mod tracefs;

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use self::host::Programs;
use self::scene::{Operation, Scene};
use crate::packages::{self, Need};
use crate::vm::kernels::Series;
use crate::{build, paths, process};

/// Operations of one run on the host: enough to fill our ring many times over, and a peer's too.
const OPENS: u64 = 200_000;
const CONNECTS: u64 = 100_000;
/// Records of one day, in the store that is asked.
const RECORDS: u64 = 50_000_000;

/// What can be measured alone.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Opens and connects on this host
    Accesses,
    /// Connects among many rules, and lookups, on this host
    Egress,
    /// Starts on this host
    Start,
    /// Four processes at full speed, on this host
    Flood,
    /// Keeping and asking records, on this host
    Audit,
    /// Accesses in virtual machines, by instruction count
    Machines,
    /// A thousand attached cgroups in a virtual machine, by instruction count
    Crowd,
}

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Measure only this; several, with commas between them
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// We are in the virtual machine, and this is the program
    #[arg(long, hide = true, requires_all = ["layered", "workload"])]
    inside: Option<PathBuf>,
    /// Measure many attached cgroups there
    #[arg(long, hide = true)]
    crowd: bool,
    #[arg(long, hide = true)]
    layered: Option<PathBuf>,
    #[arg(long, hide = true)]
    workload: Option<PathBuf>,
}

/// Measures, prints the tables, and puts them into BENCHMARKS.md.
pub(crate) fn run(options: Options) -> Result<()> {
    if let (Some(plain), Some(layered), Some(workload)) =
        (options.inside, options.layered, options.workload)
    {
        let programs = Programs {
            plain,
            layered,
            workload,
        };
        return if options.crowd {
            crowd::inside(&programs)
        } else {
            guest::inside(&programs)
        };
    }
    packages::ensure(&[Need::Bench])?;
    let programs = programs()?;
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    if wanted(Part::Accesses) {
        on_the_host(&programs)?;
    }
    if wanted(Part::Egress) {
        egress(&programs)?;
    }
    if wanted(Part::Start) {
        start_up(&programs)?;
    }
    if wanted(Part::Flood) {
        at_full_speed(&programs)?;
    }
    if wanted(Part::Audit) {
        records(&programs)?;
    }
    if wanted(Part::Machines) {
        for (section, series, append) in [
            ("6.12", Series::V6_12, ""),
            ("7", Series::V7, ""),
            ("6.12 without BPF LSM", Series::V6_12, guest::WITHOUT_BPF),
        ] {
            let (release, table) = guest::accesses(series, &programs, append)?;
            let place = format!("Linux {release} under QEMU, one processor. {}", today()?);
            show(section, &format!("{place}\n\n{table}"))?;
        }
    }
    if wanted(Part::Crowd) {
        let (release, table) = crowd::crowd(Series::V6_12, &programs)?;
        let place = format!("Linux {release} under QEMU, one processor. {}", today()?);
        show("crowd", &format!("{place}\n\n{table}"))?;
    }
    Ok(())
}

/// Builds what is measured, as it is released.
fn programs() -> Result<Programs> {
    eprintln!("building the programs, optimised…");
    build::run(&build::Options::release())?;
    Ok(Programs {
        plain: paths::target().join("release/skillsandbox"),
        layered: build::layered_release()?,
        workload: paths::target().join("release/workload"),
    })
}

fn on_the_host(programs: &Programs) -> Result<()> {
    let scene = Scene::make(&programs.workload)?;
    let _tracefs = tracefs::mounted();
    let mut text = format!("{} Load before: {}.\n", host()?, load()?);
    for (operation, count) in [
        (Operation::Open, OPENS),
        (Operation::Udp, CONNECTS),
        (Operation::Tcp, CONNECTS),
    ] {
        let table = host::accesses(&scene, programs, operation, count)?;
        write!(text, "\n{table}")?;
    }
    write!(text, "\nLoad after: {}.", load()?)?;
    show("host", &text)
}

fn egress(programs: &Programs) -> Result<()> {
    let scene = Scene::make(&programs.workload)?;
    let mut text = format!("{} Load before: {}.\n", host()?, load()?);
    for operation in [Operation::Udp, Operation::Tcp] {
        write!(text, "\n{}", rules::accesses(&scene, programs, operation)?)?;
    }
    write!(text, "\n{}", lookups::lookups(&scene, programs)?)?;
    write!(text, "\nLoad after: {}.", load()?)?;
    show("egress", &text)
}

fn at_full_speed(programs: &Programs) -> Result<()> {
    let _tracefs = tracefs::mounted();
    let mut text = format!("{} Load before: {}.\n", host()?, load()?);
    write!(text, "\n{}", flood::flood(programs)?)?;
    write!(text, "\nLoad after: {}.", load()?)?;
    show("flood", &text)
}

fn start_up(programs: &Programs) -> Result<()> {
    let scene = Scene::make(&programs.workload)?;
    let mut text = format!("{} Load before: {}.\n", host()?, load()?);
    write!(text, "\n{}", start::starts(&scene, programs)?)?;
    write!(text, "\nLoad after: {}.", load()?)?;
    show("start", &text)
}

fn records(programs: &Programs) -> Result<()> {
    let mut text = format!("{} Load before: {}.\n", host()?, load()?);
    write!(text, "\n{}", audit::store(programs, RECORDS)?)?;
    write!(text, "\nLoad after: {}.", load()?)?;
    show("audit", &text)
}

fn show(section: &str, text: &str) -> Result<()> {
    println!("\n{text}");
    page::put(section, text)
}

/// Kernel, processors, tier and date.
fn host() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let processors = std::thread::available_parallelism()?;
    Ok(format!(
        "This host: Linux {}, {processors} processors. {}",
        release.trim(),
        today()?
    ))
}

/// How many others wanted the processors, over 1, 5 and 15 minutes.
fn load() -> Result<String> {
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(load.split(' ').take(3).collect::<Vec<_>>().join(", "))
}

fn today() -> Result<String> {
    let commit = process::stdout(
        Command::new("git")
            .args(["rev-parse", "--short", "HEAD"])
            .current_dir(paths::project()),
    )?;
    let date = process::stdout(Command::new("date").args(["-u", "+%F"]))?;
    Ok(format!("{}, commit {}.", date.trim(), commit.trim()))
}
