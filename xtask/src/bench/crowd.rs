//! Many attached cgroups at once, in a virtual machine whose clock counts instructions: whether each has its own rules, what an
//! access costs among them, and what the kernel keeps of each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::daemon::{Daemon, kib};
use super::guest;
use super::host::Programs;
use super::sample::{Sample, over};
use super::scene::{Operation, Scene};
use super::table::Table;
use crate::vm::kernels::Series;

/// How many there are.
const SIZES: [usize; 4] = [1, 10, 100, 1000];
/// Opens that are measured, and how many are timed together.
const OPENS: (u64, u64) = (3000, 20);
/// One emulated processor attaches a thousand in some minutes.
const PATIENCE: Duration = Duration::from_hours(2);
/// Each may send datagrams to a port of its own, this and its number.
const PORT: usize = 10_000;
const CGROUPS: &str = "/sys/fs/cgroup/crowd";

/// The numbers under this kernel, as a table.
pub(super) fn crowd(series: Series, programs: &Programs) -> Result<(String, Table)> {
    eprintln!("measuring a thousand attached cgroups under Linux {series} (a quarter of an hour)…");
    let (release, measured) = guest::measured(series, programs, &["--crowd"], "", PATIENCE)?;
    let rows = measured.as_array().context("no rows")?;
    let number = |row: &Value, name: &str| row.get(name).and_then(Value::as_f64);
    let mut table = Table::new(&[
        "attached cgroups",
        "open in the first, instructions",
        "× with one",
        "open outside, instructions",
        "× with one",
        "memory of the kernel, KiB for each",
        "of the daemon",
    ]);
    let one = rows.first().context("no row")?;
    for row in rows {
        let (inside, outside) = (number(row, "inside"), number(row, "outside"));
        let to_one = |name| Some(number(row, name)? / number(one, name)?);
        let shown = |value: Option<f64>, digits| {
            value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
        };
        table.row(vec![
            shown(number(row, "size"), 0),
            shown(inside, 0),
            shown(to_one("inside"), 3),
            shown(outside, 0),
            shown(to_one("outside"), 3),
            shown(number(row, "kib"), 0),
            shown(number(row, "daemon_kib"), 0),
        ]);
    }
    table.note(
        "One daemon attaches and records them all. Each cgroup has a policy of its own, and of each it was tried that it may \
         send to the port that its policy names, and not to its neighbour's. The memory is what is neither free (on a \
         processor's list or not), nor of files, nor of processes, over what it was with one, for each of the others: rings \
         of the default size, links, tables, and a thread that records. The cgroups were all there before. Beside it, the \
         daemon's own."
            .to_owned(),
    );
    Ok((release, table))
}

/// The part that runs in the machine. Prints one line for the part that does not.
pub(super) fn inside(programs: &Programs) -> Result<()> {
    let scene = Scene::make(&programs.workload)?;
    let policies = scene.output("policies");
    fs::create_dir_all(&policies)?;
    let most = SIZES.into_iter().max().unwrap_or_default();
    // All are there from the start: what a cgroup itself takes is not ours.
    fs::create_dir(CGROUPS)?;
    for number in 0..most {
        fs::create_dir(cgroup(number))?;
    }
    // It attaches and records them all.
    let mut daemon = Daemon::start(&programs.plain, &scene, &policies)?;
    let mut rows: Vec<Value> = Vec::new();
    let (mut attached, mut with_one) = (0, [0; 2]);
    for size in SIZES {
        let started = Instant::now();
        for number in attached..size {
            // It looks each second, and is to find none that is written in part.
            let made = policies.join(format!("agent-{number}.new"));
            fs::write(&made, policy(&scene, number))?;
            fs::rename(&made, made.with_extension("yaml"))?;
        }
        daemon.wait_for(size - attached)?;
        attached = size;
        eprintln!(
            "{size} are attached, the last after {} s",
            started.elapsed().as_secs()
        );
        for number in 0..size {
            has_its_own_rules(number, size)?;
        }
        let used = [used_by_the_kernel()?, daemon.memory()?];
        let arguments = scene.arguments(Operation::Open, OPENS.0, OPENS.1);
        let outside = Sample::take(&mut scene.bare(&arguments))?;
        let inside = Sample::take(&mut joining(0, &scene.bare(&arguments)))?;
        if rows.is_empty() {
            with_one = used;
        }
        let others = u64::try_from(size - 1)?;
        let for_each =
            |now: u64, with_one| (others > 0).then(|| over(now.saturating_sub(with_one), others));
        let row = json!({
            "size": size, "inside": inside.median_ns, "outside": outside.median_ns,
            "kib": for_each(used[0], with_one[0]), "daemon_kib": for_each(used[1], with_one[1]),
        });
        eprintln!("{row}");
        rows.push(row);
    }
    drop(daemon);
    println!("measured {}", Value::Array(rows));
    Ok(())
}

fn cgroup(number: usize) -> PathBuf {
    Path::new(CGROUPS).join(format!("agent-{number}"))
}

fn policy(scene: &Scene, number: usize) -> String {
    let skill = scene.skill();
    let folder = skill.parent().unwrap_or(&skill).display();
    json!({
        "cgroup": format!("/crowd/agent-{number}"),
        "skill": {"name": "agent", "version": "1"},
        "permissions": {
            "network": {"egress": [{"cidr": "127.0.0.1/32", "ports": [PORT + number], "protocol": "udp"}]},
            "filesystem": {"read": [folder.to_string()]},
        },
        "entrypoint": {"command": skill.join("workload")},
    })
    .to_string()
}

/// A command in that cgroup.
fn joining(number: usize, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "echo 0 >\"$0\" && exec \"$@\""])
        .arg(cgroup(number).join("cgroup.procs"))
        .arg(command.get_program())
        .args(command.get_args());
    shell
}

/// Tries one access that this one's policy allows, and one that only its neighbour's does.
fn has_its_own_rules(number: usize, size: usize) -> Result<()> {
    let script = "echo 0 >\"$0\"; for port; do if { : >\"/dev/udp/127.0.0.1/$port\"; } 2>/dev/null; then echo yes; else echo no; fi; done";
    let (own, neighbours) = (PORT + number, PORT + (number + 1) % size.max(2));
    let said = Command::new("bash")
        .args(["-c", script])
        .arg(cgroup(number).join("cgroup.procs"))
        .args([own.to_string(), neighbours.to_string()])
        .stdin(Stdio::null())
        .output()?;
    let answers = String::from_utf8_lossy(&said.stdout);
    ensure!(
        answers == "yes\nno\n",
        "agent {number} of {size}: {answers}{}",
        String::from_utf8_lossy(&said.stderr)
    );
    Ok(())
}

/// What is neither free, nor of files, nor of processes: KiB.
fn used_by_the_kernel() -> Result<u64> {
    // What could be given back is, and a part of what is freed late.
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    std::thread::sleep(Duration::from_secs(1));
    let text = fs::read_to_string("/proc/meminfo")?;
    let field = |name| kib(&text, name).with_context(|| format!("no {name} in /proc/meminfo"));
    let mut used = field("MemTotal:")?.saturating_sub(free_on_lists()?);
    for others in ["MemFree:", "Buffers:", "Cached:", "AnonPages:"] {
        used = used.saturating_sub(field(others)?);
    }
    Ok(used)
}

/// Free pages that each processor keeps for itself, which `MemFree` leaves out (`/proc/zoneinfo`, `pagesets`): KiB.
fn free_on_lists() -> Result<u64> {
    let text = fs::read_to_string("/proc/zoneinfo")?;
    let pages = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("count:"));
    let pages = pages.map(|number| Ok(number.trim().parse::<u64>()?));
    Ok(pages.sum::<Result<u64>>()? * 4)
}
