//! What keeping fifty million records costs, and what asking them does, against another engine on the same
//! files.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::host::Programs;
use super::sample::median;
use super::table::Table;
use crate::{paths, process, python};

const ROUNDS: usize = 5;
/// Where a day's records are; the processes of each run have the same numbers.
const PREFIX: &str = "/srv/data/007/";
const PROCESS: u32 = 12_345;

/// Answers a query as often as it is told, each time in a connection of its own, and says how many
/// seconds each took.
const DUCKDB: &str = r#"
import os, sys, time
import duckdb
os.chdir(sys.argv[1])
connection = duckdb.connect()
connection.execute("set timezone = 'UTC'")
connection.execute("create view records as select * from read_parquet('segments/*/*.parquet', hive_partitioning = true)")
for _ in range(int(sys.argv[3])):
    start = time.perf_counter()
    rows = connection.execute(sys.argv[2]).fetchall()
    print(time.perf_counter() - start, len(rows))
"#;

/// A command's time, processor time and memory.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    seconds: f64,
    processor: f64,
    mebibytes: f64,
    lines: usize,
}

/// Makes the records, seals them, and asks.
pub(super) fn store(programs: &Programs, events: u64) -> Result<String> {
    let folder = paths::target().join("bench-audit");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("cannot remove the last store")?;
    }
    let history = programs.workload.with_file_name("history");
    eprintln!("measuring: making {events} records…");
    let made = cost(Command::new(history).arg(&folder).arg(events.to_string()))?;
    let logged = bytes(&folder)?;
    eprintln!("measuring: sealing them…");
    let sealed = cost(&mut audit(programs, &folder, &["seal"]))?;
    let segments = bytes(&folder)?;
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let per = |count: u64| count as f64 / events as f64;
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let rate = |cost: Cost| format!("{:.2} M", events as f64 / cost.seconds / 1e6);
    let mut kept = Table::new(&[
        "",
        "events a second",
        "processor time an event, ns",
        "MiB",
        "bytes an event",
    ]);
    for (name, cost, size) in [
        ("drawn, described and written to logs", made, logged),
        ("proved, and sealed into segments", sealed, segments),
    ] {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let processor = format!("{:.0}", cost.processor * 1e9 / events as f64);
        kept.row(vec![
            name.to_owned(),
            rate(cost),
            processor,
            format!("{:.0}", cost.mebibytes),
            format!("{:.1}", per(size)),
        ]);
    }
    let asked = questions(programs, &folder)?;
    fs::remove_dir_all(&folder).context("cannot remove the store")?;
    Ok(format!("{events} events of one day.\n\n{kept}\n{asked}"))
}

/// A question, as we and the other engine are asked it.
struct Question {
    name: &'static str,
    arguments: Vec<String>,
    /// Lines of our answer that are no row; `None` where the answer is another table.
    heading: Option<usize>,
    query: String,
}

/// What is asked, of a day and of one of its runs.
fn asked(run: &str) -> [Question; 3] {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    let rows = "run, time, sequence, kind, verdict, reason, pid, tgid, uid, comm, executable, path, \
                address, port, name, rule, rule_text";
    let within = |from: &str, to: &str| {
        format!("time >= timestamptz '2026-11-27{from}' and time < timestamptz '2026-11-{to}'")
    };
    [
        Question {
            name: "denials under a path in an hour",
            arguments: words(&format!(
                "query --format csv --verdict deny --path {PREFIX}** \
                 --since 2026-11-27T10:00:00Z --until 2026-11-27T11:00:00Z"
            )),
            heading: Some(1),
            query: format!(
                "select {rows} from records where verdict = 'deny' and starts_with(path, '{PREFIX}') and {}",
                within(" 10:00:00", "27 11:00:00")
            ),
        },
        Question {
            name: "the 20 paths of a day that were used most",
            arguments: words("stats --list paths --top 20 --since 2026-11-27 --until 2026-11-28"),
            heading: None,
            query: format!(
                "select path, count(*) as times from records where {} \
                 group by path order by times desc, path limit 20",
                within("", "28")
            ),
        },
        Question {
            name: "everything that one process did",
            arguments: words(&format!(
                "query --format csv --run {run} --process {PROCESS}"
            )),
            heading: Some(1),
            query: format!(
                "select {rows} from records where run = '{run}' and tgid = {PROCESS} order by time"
            ),
        },
    ]
}

fn questions(programs: &Programs, folder: &Path) -> Result<Table> {
    let runs = process::stdout(&mut audit(programs, folder, &["runs"]))?;
    let middle = runs.lines().nth(runs.lines().count() / 2);
    let run = middle.and_then(|line| line.split(' ').next());
    let mut table = Table::new(&[
        "question",
        "ours, ms",
        "least – most",
        "MiB",
        "DuckDB, ms",
        "least – most",
        "ours ÷ DuckDB",
        "rows",
    ]);
    for question in asked(run.context("there are no runs")?) {
        table.row(ask(programs, folder, &question)?);
    }
    table.note(
        "Ours is the whole command, from its start to its last line; DuckDB's is the query alone, the second time \
         in its process, on as many threads as there are processors. MiB is the most memory of our command."
            .to_owned(),
    );
    Ok(table)
}

/// Both answers, in turn.
fn ask(programs: &Programs, folder: &Path, question: &Question) -> Result<Vec<String>> {
    let name = question.name;
    eprintln!("measuring: {name}…");
    let (mut ours, mut theirs, mut rows, mut mebibytes) = (Vec::new(), Vec::new(), 0, 0.0_f64);
    let arguments: Vec<&str> = question.arguments.iter().map(String::as_str).collect();
    for _ in 0..ROUNDS {
        let cost = cost(&mut audit(programs, folder, &arguments))?;
        ours.push(cost.seconds * 1e3);
        mebibytes = mebibytes.max(cost.mebibytes);
        let (seconds, found) = duckdb(folder, &question.query)?;
        theirs.push(seconds * 1e3);
        if let Some(heading) = question.heading {
            let lines = cost.lines.saturating_sub(heading);
            ensure!(
                found == lines,
                "{name}: {lines} rows, and DuckDB has {found}"
            );
        }
        rows = found;
    }
    let span = |times: &[f64]| {
        let least = times.iter().copied().fold(f64::INFINITY, f64::min);
        let most = times.iter().copied().fold(0.0, f64::max);
        format!("{least:.0} – {most:.0}")
    };
    let (one, other) = (median(&ours), median(&theirs));
    Ok(vec![
        name.to_owned(),
        format!("{one:.0}"),
        span(&ours),
        format!("{mebibytes:.0}"),
        format!("{other:.0}"),
        span(&theirs),
        format!("{:.2}", one / other),
        rows.to_string(),
    ])
}

fn audit(programs: &Programs, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(&programs.plain);
    command
        .args(["audit", "--audit-dir"])
        .arg(folder)
        .args(arguments);
    command
}

/// Runs a command, and counts the lines that it prints.
fn cost(command: &mut Command) -> Result<Cost> {
    let mut timed = Command::new("/usr/bin/time");
    timed
        .args(["--quiet", "--format", "%e %U %S %M"])
        .arg(command.get_program())
        .args(command.get_args());
    let started = Instant::now();
    let output = timed
        .stdin(Stdio::null())
        .output()
        .context("could not start time")?;
    let seconds = started.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{timed:?}: {said}");
    let numbers: Vec<f64> = said
        .lines()
        .next_back()
        .unwrap_or_default()
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    let [_, user, system, kibibytes] = numbers.as_slice() else {
        anyhow::bail!("time says {said}");
    };
    Ok(Cost {
        seconds,
        processor: user + system,
        mebibytes: kibibytes / 1024.0,
        lines: String::from_utf8_lossy(&output.stdout).lines().count(),
    })
}

/// Seconds and rows.
fn duckdb(folder: &Path, query: &str) -> Result<(f64, usize)> {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", DUCKDB]).arg(folder).args([query, "2"]);
    let said = process::stdout(command.env("PYTHONPATH", python::packages()?))?;
    let last = said.lines().next_back().context("it says nothing")?;
    let (seconds, rows) = last.split_once(' ').context("it says something else")?;
    Ok((seconds.parse()?, rows.parse()?))
}

/// Bytes of all files in a folder.
fn bytes(folder: &Path) -> Result<u64> {
    let mut all = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        all += if entry.file_type()?.is_dir() {
            bytes(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(all)
}
