//! What an access costs on this host, and how much of it each recorder records.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::sample::{Sample, median, over, percent, range};
use super::scene::{EBPF_ALONE, Operation, Scene};
use super::table::Table;

/// Rounds; in each every way is tried once.
const ROUNDS: usize = 7;

/// A way to run the workload.
#[derive(Clone, Debug)]
enum Way {
    Bare,
    /// The eBPF programs and their records alone.
    Audit,
    /// Every layer.
    Ours,
    Bpftrace,
    Strace,
}

impl Way {
    fn name(&self) -> String {
        match self {
            Self::Bare => "bare".to_owned(),
            Self::Audit => "under audit: our eBPF programs and their records alone".to_owned(),
            Self::Ours => "`skillsandbox run --events FILE`, every layer".to_owned(),
            Self::Bpftrace => "`bpftrace`, printing each call".to_owned(),
            Self::Strace => "`strace --seccomp-bpf -f`".to_owned(),
        }
    }
}

/// What one way did in all rounds.
struct Column {
    way: Way,
    outcome: Result<Vec<Measured>, String>,
}

/// What it did in one.
struct Measured {
    ns: f64,
    cpu_ns: f64,
    /// Share of the workload's own count that is in the recorder's file.
    recorded: Option<f64>,
    /// Whether our own accounts say what became of the rest.
    balanced: bool,
}

/// The programs that are measured.
pub(super) struct Programs {
    /// As users have it.
    pub(super) plain: PathBuf,
    /// The same, and able to leave out layers: a release is not. Its eBPF programs are the same.
    pub(super) layered: PathBuf,
    /// What they run.
    pub(super) workload: PathBuf,
}

/// The costs of one operation, as a table.
pub(super) fn accesses(
    scene: &Scene,
    programs: &Programs,
    operation: Operation,
    count: u64,
) -> Result<Table> {
    eprintln!("measuring: {}…", operation.title());
    let ways = [Way::Bare, Way::Audit, Way::Ours, Way::Bpftrace, Way::Strace];
    let mut columns: Vec<Column> = ways
        .into_iter()
        .map(|way| Column {
            way,
            outcome: Ok(Vec::new()),
        })
        .collect();
    for round in 0..ROUNDS {
        // Back and forth, so that no way has always the same one before it.
        let mut order: Vec<&mut Column> = columns.iter_mut().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for column in order {
            let Ok(measured) = &mut column.outcome else {
                continue;
            };
            match measure(scene, programs, operation, count, &column.way) {
                Ok(one) => measured.push(one),
                // A peer that this kernel refuses is a fact to report; we are not.
                Err(error) if matches!(column.way, Way::Bpftrace | Way::Strace) => {
                    column.outcome = Err(format!("{error:#}"));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(table(operation, count, &columns))
}

fn measure(
    scene: &Scene,
    programs: &Programs,
    operation: Operation,
    count: u64,
    way: &Way,
) -> Result<Measured> {
    let arguments = scene.arguments(operation, count, count);
    let file = scene.output("events");
    let _ = std::fs::remove_file(&file);
    let trace = scene.output("trace.json");
    let sample = Sample::take(&mut match way {
        Way::Bare => scene.bare(&arguments),
        Way::Ours => {
            let mut command = Command::new(&programs.plain);
            command.args(["run", "--events"]).arg(&file);
            command.arg("--trace-output").arg(&trace);
            command.arg(scene.skill()).args(&arguments);
            command
        }
        Way::Audit => scene.without(&programs.layered, EBPF_ALONE, &file, &trace, &arguments),
        Way::Bpftrace => bpftrace(scene, operation, &arguments, &file),
        Way::Strace => strace(scene, operation, &arguments, &file),
    })?;
    ensure!(sample.count == count, "the workload did something else");
    let mut measured = Measured {
        ns: sample.mean_ns,
        cpu_ns: sample.cpu_ns,
        recorded: None,
        balanced: true,
    };
    if !matches!(way, Way::Bare) {
        let marks = match way {
            Way::Ours | Way::Audit => vec![
                format!("\"kind\":\"{}\"", operation.kind()),
                match operation {
                    Operation::Open | Operation::Exec => scene.object(operation),
                    Operation::Udp | Operation::Tcp => "\"port\":9,".to_owned(),
                },
            ],
            Way::Strace => vec![match operation {
                Operation::Open | Operation::Exec => scene.object(operation),
                Operation::Udp | Operation::Tcp => "htons(9)".to_owned(),
            }],
            _ => vec![match operation {
                Operation::Open | Operation::Exec => scene.object(operation),
                Operation::Udp | Operation::Tcp => "connect".to_owned(),
            }],
        };
        measured.recorded = Some(over(lines_with(&file, &marks)?, count));
        std::fs::remove_file(&file)?;
    }
    if matches!(way, Way::Ours | Way::Audit) {
        let trace: Value = serde_json::from_reader(BufReader::new(File::open(&trace)?))?;
        let balanced = trace.pointer("/accounting/balanced");
        measured.balanced = balanced.and_then(Value::as_bool) == Some(true);
    }
    Ok(measured)
}

fn bpftrace(scene: &Scene, operation: Operation, arguments: &[String], file: &Path) -> Command {
    let call = operation.call();
    let what = match operation {
        Operation::Open | Operation::Exec => "str(args->filename)",
        Operation::Udp | Operation::Tcp => "\"connect\"",
    };
    let program = format!(
        "tracepoint:syscalls:sys_enter_{call} {{ printf(\"%d %s %s\\n\", pid, comm, {what}); }}"
    );
    let mut child = vec![scene.skill().join("workload").display().to_string()];
    child.extend_from_slice(arguments);
    let mut command = Command::new("bpftrace");
    command.args(["-B", "full", "-o"]).arg(file);
    command.args(["-e", &program, "-c", &child.join(" ")]);
    command
}

fn strace(scene: &Scene, operation: Operation, arguments: &[String], file: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["--seccomp-bpf", "-f", "-qq", "-e"]);
    command.arg(format!("trace={}", operation.call()));
    command.arg("-o").arg(file);
    command.arg(scene.skill().join("workload")).args(arguments);
    command
}

pub(super) fn lines_with(file: &Path, marks: &[String]) -> Result<u64> {
    let lines = File::open(file).with_context(|| format!("no {}", file.display()))?;
    let mut found = 0;
    for line in BufReader::with_capacity(1 << 20, lines).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if marks.iter().all(|mark| line.contains(mark)) {
            found += 1;
        }
    }
    Ok(found)
}

fn table(operation: Operation, count: u64, columns: &[Column]) -> Table {
    let mut table = Table::new(&[
        operation.title(),
        "ns, median",
        "least – most",
        "× bare",
        "processor time, × bare",
        "recorded, median",
        "recorded, least",
    ]);
    let bare: &[Measured] = columns
        .first()
        .and_then(|column| column.outcome.as_deref().ok())
        .unwrap_or_default();
    for Column { way, outcome } in columns {
        let measured = match outcome {
            Ok(measured) => measured,
            Err(error) => {
                table.row(vec![way.name(), format!("did not run: {error}")]);
                continue;
            }
        };
        let ns: Vec<f64> = measured.iter().map(|one| one.ns).collect();
        let ratio = |number: fn(&Measured) -> f64| {
            let pairs = measured.iter().zip(bare);
            let ratios: Vec<f64> = pairs
                .map(|(one, bare)| number(one) / number(bare))
                .collect();
            format!("{:.2}", median(&ratios))
        };
        let (least, most) = range(&ns);
        let shares: Vec<f64> = measured.iter().filter_map(|one| one.recorded).collect();
        let share = |share: f64| {
            if shares.is_empty() {
                "–".to_owned()
            } else {
                percent(share)
            }
        };
        let unbalanced = measured.iter().filter(|one| !one.balanced).count();
        let mut recorded = share(range(&shares).0);
        if unbalanced > 0 {
            recorded = format!("{recorded}, accounts wrong in {unbalanced} rounds");
        }
        table.row(vec![
            way.name(),
            format!("{:.0}", median(&ns)),
            format!("{least:.0} – {most:.0}"),
            ratio(|one| one.ns),
            ratio(|one| one.cpu_ns),
            share(median(&shares)),
            recorded,
        ]);
    }
    table.note(format!(
        "{ROUNDS} rounds of {count} operations, the ways in turn within each round; × bare is the median of the rounds' ratios."
    ));
    table
}
