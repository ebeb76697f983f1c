//! Attacks on a sandbox, here and under each kernel, and the page that tells how they ended.

mod page;
mod place;

use std::env;
use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::place::{Place, Tried};
use crate::packages::{self, Need};
use crate::test::programs::{self, Programs};
use crate::vm::kernels::{ALL, Series};
use crate::vm::{self, Echo, VmRequest};
use crate::{build, paths, process, suite};

/// The test program that attacks.
const TEST: &str = "attacks";
/// What the line with the results begins with.
const MARK: &str = "attacks: ";
/// Emulated processors are slow; a machine that hangs is slower.
const PATIENCE: Duration = Duration::from_mins(20);

/// Where to attack.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Start no virtual machines: the page says of them that they were not run
    #[arg(long)]
    host_only: bool,
}

/// Attacks everywhere, prints how that ended, and writes the page.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    build::prepare()?;
    packages::ensure(&[Need::Demo, Need::Test])?;
    let programs = Programs::build()?;
    let is_it = |test: &&String| suite::name(test.as_ref()) == TEST;
    let test = programs.tests.iter().find(is_it);
    let test = test.with_context(|| format!("no test program is called {TEST}"))?;

    let mut places = vec![here(&programs, test)?];
    for series in ALL {
        places.push(if options.host_only {
            Place::not_run(format!("Linux {series}"))
        } else {
            under(series, &programs, test)?
        });
    }
    let file = paths::project().join("docs/attacks.md");
    let page = page::write(&places)?;
    fs::write(&file, &page).with_context(|| format!("could not write {}", file.display()))?;
    println!("{page}");
    println!("written to {}", file.display());
    let failed: Vec<_> = places.iter().filter(|place| place.failed).collect();
    for place in &failed {
        println!(
            "error: {}: the tests of these attacks failed, see above",
            place.name
        );
    }
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn here(programs: &Programs, test: &str) -> Result<Place> {
    eprintln!("attacking on this host…");
    let mut command = Command::new(env::current_exe()?);
    command
        .args(programs::suite("of another place"))
        .arg(test)
        .envs(programs.environment())
        .env("ATTACKS_RESULTS", "1");
    let (status, output) = process::tee(&mut command)?;
    place("this host".to_owned(), status.success(), &output)
}

fn under(series: Series, programs: &Programs, test: &str) -> Result<Place> {
    eprintln!("attacking under Linux {series}…");
    let xtask = env::current_exe()?.into_os_string().into_string();
    let xtask = xtask.ok().context("the project's path is not UTF-8")?;
    let mut command = vec![xtask];
    command.extend(programs::suite("of another place"));
    command.push(test.to_owned());
    let mut request = VmRequest::new(series, command);
    request.environment = programs.environment();
    request
        .environment
        .push(("ATTACKS_RESULTS".to_owned(), "1".to_owned()));
    request.timeout = PATIENCE;
    request.echo = Echo::Lines(format!("Linux {series} | "));
    let outcome = vm::run(&request)?;
    let ended_well = matches!(outcome.ending, vm::Ending::Exited(0));
    place(format!("Linux {series}"), ended_well, &outcome.stdout)
}

fn place(name: String, ended_well: bool, output: &str) -> Result<Place> {
    let line = output.lines().find_map(|line| line.strip_prefix(MARK));
    ensure!(
        line.is_some() || !ended_well,
        "{name}: the tests passed and told no results"
    );
    let tried = line.map(serde_json::from_str::<Tried>).transpose();
    Ok(Place {
        name,
        failed: !ended_well,
        tried: tried.context("the results are not what was expected")?,
    })
}
