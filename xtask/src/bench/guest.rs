//! What an access costs by instruction count, in a virtual machine whose clock counts instructions.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::host::Programs;
use super::sample::Sample;
use super::scene::{EBPF_ALONE, Operation, Scene};
use super::table::Table;
use crate::vm::kernels::Series;
use crate::vm::{self, Echo, Ending, VmRequest};

/// What is measured, how often, and how many operations are timed together: few enough that most
/// groups are not interrupted by anything.
const OPERATIONS: [(Operation, u64, u64); 3] = [
    (Operation::Open, 3000, 20),
    (Operation::Udp, 3000, 20),
    (Operation::Exec, 90, 1),
];
/// One emulated processor is slow, and its host may be busy.
const PATIENCE: Duration = Duration::from_mins(15);

/// Kernel arguments without BPF among the security modules, which makes the fallback tier.
pub(super) const WITHOUT_BPF: &str = "lsm=landlock,lockdown,yama";

/// Where the workload runs, by the name that the table and the machine use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Bare,
    Beside,
    Inside(&'static str),
}

/// Layers that are left out, from most to fewest; the last is what users have.
const STAGES: [(&str, &str); 4] = [
    (EBPF_ALONE, "in a sandbox of eBPF alone"),
    ("iptables,mounts,landlock", "and seccomp"),
    ("iptables,mounts", "and Landlock"),
    ("", "in a sandbox, all layers"),
];

impl Place {
    fn title(self) -> String {
        match self {
            Self::Bare => "bare".to_owned(),
            Self::Beside => "beside a sandbox".to_owned(),
            Self::Inside(left_out) => STAGES
                .iter()
                .find(|(layers, _)| *layers == left_out)
                .map_or_else(|| left_out.to_owned(), |(_, title)| (*title).to_owned()),
        }
    }

    fn all() -> Vec<Self> {
        let inside = STAGES.iter().map(|(layers, _)| Self::Inside(layers));
        [Self::Bare, Self::Beside]
            .into_iter()
            .chain(inside)
            .collect()
    }
}

/// The costs under this kernel, as a table.
pub(super) fn accesses(
    series: Series,
    programs: &Programs,
    append: &str,
) -> Result<(String, Table)> {
    eprintln!("measuring under Linux {series} {append}…");
    let (release, measured) = measured(series, programs, &[], append, PATIENCE)?;
    Ok((release, table(&measured)))
}

/// What is measured in a machine whose clock counts instructions: its kernel, and the numbers. `words` say what to measure.
pub(super) fn measured(
    series: Series,
    programs: &Programs,
    words: &[&str],
    append: &str,
    patience: Duration,
) -> Result<(String, Value)> {
    let text = |path: &Path| path.display().to_string();
    let mut command = vec![
        text(&env::current_exe()?),
        "bench".to_owned(),
        "--inside".to_owned(),
        text(&programs.plain),
        "--layered".to_owned(),
        text(&programs.layered),
        "--workload".to_owned(),
        text(&programs.workload),
    ];
    command.extend(words.iter().map(ToString::to_string));
    let mut request = VmRequest::new(series, command);
    request.timeout = patience;
    request.cpus = 1;
    request.icount = true;
    request.echo = Echo::Lines(format!("Linux {series} | "));
    append.clone_into(&mut request.append);
    let outcome = vm::run(&request)?;
    if let Some(trouble) = outcome.trouble() {
        bail!("Linux {series}: {trouble}");
    }
    if outcome.ending != Ending::Exited(0) {
        bail!("Linux {series}: {:?}\n{}", outcome.ending, outcome.stdout);
    }
    let measured: Value = outcome
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("measured "))
        .map(serde_json::from_str)
        .context("the machine measured nothing")??;
    Ok((outcome.release, measured))
}

fn table(measured: &Value) -> Table {
    let mut heading = vec!["instructions"];
    for (operation, ..) in OPERATIONS {
        heading.extend([operation.title(), "× bare"]);
    }
    let mut table = Table::new(&heading);
    let number = |place: Place, operation: Operation| {
        let place = measured.get(place.title())?;
        place.get(operation.word())?.as_f64()
    };
    for place in Place::all() {
        let mut row = vec![place.title()];
        for (operation, ..) in OPERATIONS {
            let here = number(place, operation).unwrap_or(f64::NAN);
            let bare = number(Place::Bare, operation).unwrap_or(f64::NAN);
            row.extend([format!("{here:.0}"), format!("{:.2}", here / bare)]);
        }
        table.row(row);
    }
    let tier = measured.get("tier").and_then(Value::as_str);
    table.note(format!(
        "Tier: {}. eBPF's own time in a sandbox of all layers, by its program, in instructions per run: {}.",
        tier.unwrap_or("not known"),
        measured
            .get("programs")
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .unwrap_or("not measured")
    ));
    table
}

/// The part that runs in the machine. Prints one line for the part that does not.
pub(super) fn inside(programs: &Programs) -> Result<()> {
    let scene = Scene::make(&programs.workload)?;
    let mut measured = serde_json::Map::new();
    let arguments: Vec<_> = OPERATIONS
        .iter()
        .flat_map(|(operation, count, batch)| scene.arguments(*operation, *count, *batch))
        .collect();
    // The first of all would be measured while the machine still settles.
    let _: [Sample; OPERATIONS.len()] = Sample::take_all(&mut scene.bare(&arguments))?;
    for place in Place::all() {
        let neighbour = match place {
            Place::Beside => Some(Neighbour::start(&scene, programs)?),
            _ => None,
        };
        eprintln!("{}…", place.title());
        let events = scene.output("events");
        let mut command = match place {
            Place::Inside("") => {
                let mut command = Command::new(&programs.plain);
                command.args(["run", "--events"]).arg(&events);
                command.arg(scene.skill()).args(&arguments);
                command
            }
            Place::Inside(layers) => {
                let trace = scene.output("trace.json");
                scene.without(&programs.layered, layers, &events, &trace, &arguments)
            }
            Place::Bare | Place::Beside => scene.bare(&arguments),
        };
        // The clock is exact, and what it counts repeats: once is enough.
        let samples: [Sample; OPERATIONS.len()] = Sample::take_all(&mut command)?;
        let numbers = OPERATIONS
            .iter()
            .zip(samples)
            .map(|((operation, ..), sample)| (operation.word().to_owned(), json!(sample.median_ns)))
            .collect();
        drop(neighbour);
        measured.insert(place.title(), Value::Object(numbers));
    }
    measured.insert("tier".to_owned(), json!(tier(&scene, programs)?));
    measured.insert(
        "programs".to_owned(),
        json!(program_times(&scene, programs, &arguments)?),
    );
    println!("measured {}", Value::Object(measured));
    Ok(())
}

/// The tier of a run here, in its own words.
fn tier(scene: &Scene, programs: &Programs) -> Result<String> {
    let trace = scene.output("trace.json");
    let mut command = Command::new(&programs.plain);
    command.arg("run").arg("--trace-output").arg(&trace);
    command.arg(scene.skill());
    command.args(scene.arguments(Operation::Open, 1, 1));
    Sample::take(&mut command)?;
    let trace: Value = serde_json::from_slice(&fs::read(&trace)?)?;
    let tier = trace.get("tier").and_then(Value::as_str);
    Ok(tier.context("trace.json has no tier")?.to_owned())
}

/// What the kernel says that our programs took, with its own count of their runs
/// (`kernel.bpf_stats_enabled`). Its clock counts instructions like every other here; the two
/// readings of it around each run are partly in the number.
fn program_times(scene: &Scene, programs: &Programs, arguments: &[String]) -> Result<String> {
    let switch = Path::new("/proc/sys/kernel/bpf_stats_enabled");
    let before = program_statistics()?;
    fs::write(switch, "1")?;
    let mut command = Command::new(&programs.plain);
    command.arg("run").arg(scene.skill()).args(arguments);
    let _: [Sample; OPERATIONS.len()] = Sample::take_all(&mut command)?;
    fs::write(switch, "0")?;
    let mut texts = Vec::new();
    for (name, (time, runs)) in program_statistics()? {
        let (earlier_time, earlier_runs) = before.get(&name).copied().unwrap_or_default();
        let (time, runs) = (time - earlier_time, runs - earlier_runs);
        if runs >= 50 {
            texts.push(format!("`{name}` {}", time / runs));
        }
    }
    Ok(texts.join(", "))
}

/// Time and runs of our programs, by name.
fn program_statistics() -> Result<std::collections::BTreeMap<String, (u64, u64)>> {
    let output = Command::new("bpftool")
        .args(["prog", "list", "--json"])
        .output()?;
    let list: Value = serde_json::from_slice(&output.stdout).context("bpftool lists nothing")?;
    let mut programs = std::collections::BTreeMap::new();
    for program in list.as_array().into_iter().flatten() {
        let number = |name: &str| program.get(name).and_then(Value::as_u64).unwrap_or(0);
        if let Some(name) = program.get("name").and_then(Value::as_str) {
            programs.insert(name.to_owned(), (number("run_time_ns"), number("run_cnt")));
        }
    }
    Ok(programs)
}

/// A sandbox that does nothing but exist.
struct Neighbour(Child);

impl Neighbour {
    fn start(scene: &Scene, programs: &Programs) -> Result<Self> {
        let mut command = Command::new(&programs.plain);
        let manifest = scene.skill().join("skillsandbox.yaml");
        command.args(["run", "--manifest"]).arg(manifest);
        command.args(["--", "/usr/bin/sleep", "100000"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut neighbour = Self(child);
        // It is there when its program runs.
        for _ in 0..600 {
            if sleeps()? {
                return Ok(neighbour);
            }
            ensure!(
                neighbour.0.try_wait()?.is_none(),
                "the sandbox beside ended"
            );
            thread::sleep(Duration::from_millis(20));
        }
        bail!("the sandbox beside did not start");
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // The sandbox dies with its supervisor; the next run removes what is left.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a process of the neighbour's program is there.
fn sleeps() -> Result<bool> {
    for entry in fs::read_dir("/proc")? {
        let name = fs::read_to_string(entry?.path().join("comm"));
        if name.is_ok_and(|name| name == "sleep\n") {
            return Ok(true);
        }
    }
    Ok(false)
}
