//! Whether everything is kept when four processes do as much as two processors allow, and what that costs them.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::host::{Programs, lines_with};
use super::sample::{over, percent};
use super::scene::{EBPF_ALONE, Operation, Scene};
use super::table::Table;
use crate::{paths, process};

const PROCESSES: u64 = 4;
const SECONDS: u64 = 60;
/// What a peer that runs beside the workload needs to begin, and to write its last lines.
const BESIDE: Duration = Duration::from_secs(3);

/// What the workload counted.
struct Counted {
    opens: u64,
    connects: u64,
    execs: u64,
    open_ns: f64,
    open_cpu_ns: f64,
}

/// Runs it bare, under us, and beside peers.
pub(super) fn flood(programs: &Programs) -> Result<Table> {
    let scene = Scene::make(&programs.workload.with_file_name("flood"))?;
    let mut table = Table::new(&[
        "",
        "accesses a second",
        "open + close, ns",
        "× bare",
        "processor time, ns",
        "× bare",
        "opens kept",
        "connects kept",
        "executions kept",
    ]);
    eprintln!("measuring: {PROCESSES} processes for {SECONDS} s, five times…");
    let bare = counted(&mut scene.bare(&arguments(&scene)))?;
    row(
        &mut table,
        "bare",
        &bare,
        &bare,
        ["–", "–", "–"].map(str::to_owned),
    );
    let store = paths::target().join("bench-flood");
    for (name, program, layers) in [
        (
            "under audit: our eBPF programs and their records alone",
            &programs.layered,
            Some(EBPF_ALONE),
        ),
        (
            "`skillsandbox run --audit-dir`, every layer",
            &programs.plain,
            None,
        ),
    ] {
        let (counted, kept) = ours(&scene, &programs.plain, program, layers, &store)?;
        row(&mut table, name, &counted, &bare, kept);
    }
    let told = scene.output("told");
    let mut bpftrace = bpftrace(&scene, &told);
    let counted_by_it = counted(&mut bpftrace)?;
    let kept = shares(&scene, &told, &counted_by_it)?;
    row(
        &mut table,
        "`bpftrace`, printing each call",
        &counted_by_it,
        &bare,
        kept,
    );
    let counted_by_it = opensnoop(&scene, &told)?;
    let kept = shares(&scene, &told, &counted_by_it)?;
    let [opens, ..] = kept;
    let kept = [opens, "–".to_owned(), "–".to_owned()];
    row(
        &mut table,
        "`opensnoop`, beside it",
        &counted_by_it,
        &bare,
        kept,
    );
    fs::remove_file(&told)?;
    table.note(format!(
        "One run of {SECONDS} s each: {PROCESSES} processes which all do 1,000 opens, 100 connects of a UDP socket and one execution \
         in turn, and count them. Ours is kept in a store on the disk and counted there after it is sealed; what the peers print goes to a file in memory, \
         and its lines are counted. Where the recorder takes a processor's time, the processes have less: × bare of the time that passes has both in it."
    ));
    Ok(table)
}

fn arguments(scene: &Scene) -> [String; 5] {
    [
        scene.object(Operation::Open),
        scene.object(Operation::Udp),
        scene.object(Operation::Exec),
        PROCESSES.to_string(),
        SECONDS.to_string(),
    ]
}

fn counted(command: &mut Command) -> Result<Counted> {
    let said = process::stdout(command.stdin(Stdio::null()))?;
    let line = said.lines().find(|line| line.starts_with("{\"connects\""));
    let line: Value = serde_json::from_str(line.context("the workload did not report")?)?;
    let number = |name: &str| line.get(name).and_then(Value::as_u64).context("no number");
    let opens = number("opens")?;
    Ok(Counted {
        opens,
        connects: number("connects")?,
        execs: number("execs")?,
        open_ns: over(number("open_ns")?, opens),
        open_cpu_ns: over(number("open_cpu_ns")?, opens),
    })
}

/// Under us: what the workload counted, and what of it is in the store.
fn ours(
    scene: &Scene,
    plain: &Path,
    program: &Path,
    layers: Option<&str>,
    store: &Path,
) -> Result<(Counted, [String; 3])> {
    if store.exists() {
        fs::remove_dir_all(store).context("cannot remove the last store")?;
    }
    let mut command = Command::new(program);
    command.args(["run", "--audit-dir"]).arg(store);
    if let Some(layers) = layers {
        command.args(["--without-layer", layers, "--manifest"]);
        command.arg(scene.skill().join("unmounted.yaml"));
    }
    let counted = counted(command.arg(scene.skill()).args(arguments(scene)))?;
    eprintln!("measuring: sealing what was kept…");
    let audit = |arguments: &[&str]| {
        let mut command = Command::new(plain);
        command
            .args(["audit", "--audit-dir"])
            .arg(store)
            .args(arguments);
        process::stdout(&mut command)
    };
    audit(&["seal"])?;
    let kept = |kind: &str, of_it: &[&str], own: u64| -> Result<String> {
        let question = [&["stats", "--list", "programs", "--kind", kind], of_it].concat();
        let answer = audit(&question)?;
        let kept: u64 = answer.split_whitespace().next().unwrap_or("0").parse()?;
        ensure!(
            kept <= own,
            "{kept} of {own} are kept of {kind}: they are not only the workload's"
        );
        Ok(if kept == own {
            "all".to_owned()
        } else {
            percent(over(kept, own))
        })
    };
    let file = scene.object(Operation::Open);
    let shares = [
        kept("open", &["--path", &file], counted.opens)?,
        kept("connect", &[], counted.connects)?,
        kept("exec", &[], counted.execs)?,
    ];
    fs::remove_dir_all(store).context("cannot remove the store")?;
    Ok((counted, shares))
}

fn bpftrace(scene: &Scene, told: &Path) -> Command {
    let program = "tracepoint:syscalls:sys_enter_openat { printf(\"open %s\\n\", str(args->filename)); } \
                   tracepoint:syscalls:sys_enter_connect { printf(\"connect %s\\n\", comm); } \
                   tracepoint:syscalls:sys_enter_execve { printf(\"exec %s\\n\", str(args->filename)); }";
    let child = [
        vec![scene.skill().join("workload").display().to_string()],
        arguments(scene).to_vec(),
    ];
    let mut command = Command::new("bpftrace");
    command.args(["-B", "full", "-o"]).arg(told);
    command.args(["-e", program, "-c", &child.concat().join(" ")]);
    command
}

/// It watches the whole host, and is asked to end.
fn opensnoop(scene: &Scene, told: &Path) -> Result<Counted> {
    let mut command = Command::new("opensnoop");
    let started = command
        .stdout(File::create(told)?)
        .stderr(Stdio::null())
        .spawn();
    let mut opensnoop = process::Guarded(started.context("could not start opensnoop")?);
    thread::sleep(BESIDE);
    let counted = counted(&mut scene.bare(&arguments(scene)))?;
    thread::sleep(BESIDE);
    ensure!(
        opensnoop.0.try_wait()?.is_none(),
        "opensnoop has ended by itself"
    );
    process::run(Command::new("kill").args(["-INT", &opensnoop.0.id().to_string()]))?;
    opensnoop.0.wait()?;
    Ok(counted)
}

/// Lines of a peer, of what the workload counted.
fn shares(scene: &Scene, told: &Path, counted: &Counted) -> Result<[String; 3]> {
    let lines = |marks: &[String], own: u64| -> Result<String> {
        Ok(percent(over(lines_with(told, marks)?, own).min(1.0)))
    };
    let program = scene.object(Operation::Exec);
    Ok([
        lines(&[scene.object(Operation::Open)], counted.opens)?,
        lines(&["connect workload".to_owned()], counted.connects)?,
        lines(&[format!("exec {program}")], counted.execs)?,
    ])
}

fn row(table: &mut Table, name: &str, counted: &Counted, bare: &Counted, kept: [String; 3]) {
    let all = counted.opens + counted.connects + counted.execs;
    let mut cells = vec![
        name.to_owned(),
        (all / SECONDS).to_string(),
        format!("{:.0}", counted.open_ns),
        format!("{:.2}", counted.open_ns / bare.open_ns),
        format!("{:.0}", counted.open_cpu_ns),
        format!("{:.2}", counted.open_cpu_ns / bare.open_cpu_ns),
    ];
    cells.extend(kept);
    table.row(cells);
}
