//! What a connect costs among few rules and among many.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::host::Programs;
use super::sample::{Sample, median, range};
use super::scene::{Operation, Scene};
use super::table::Table;

const ROUNDS: usize = 9;
const COUNT: u64 = 50_000;
const FEW: usize = 10;
/// As many as a manifest can have.
const MANY: usize = 10_000;

/// A way to run the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Bare,
    Enforced(usize),
    Audited(usize),
}

const WAYS: [Way; 5] = [
    Way::Bare,
    Way::Enforced(FEW),
    Way::Enforced(MANY),
    Way::Audited(FEW),
    Way::Audited(MANY),
];

impl Way {
    fn name(self) -> String {
        match self {
            Self::Bare => "bare".to_owned(),
            Self::Enforced(rules) => format!("enforced, {rules} rules"),
            Self::Audited(rules) => format!("enforced and every access in a file, {rules} rules"),
        }
    }

    /// The way that it is compared with.
    fn among_few(self) -> Option<Self> {
        match self {
            Self::Enforced(MANY) => Some(Self::Enforced(FEW)),
            Self::Audited(MANY) => Some(Self::Audited(FEW)),
            _ => None,
        }
    }

    fn command(self, scene: &Scene, program: &Path, arguments: &[String]) -> Result<Command> {
        let (rules, audited) = match self {
            Self::Bare => return Ok(scene.bare(arguments)),
            Self::Enforced(rules) => (rules, false),
            Self::Audited(rules) => (rules, true),
        };
        let mut command = Command::new(program);
        command.arg("run");
        if audited {
            command.arg("--events").arg(scene.output("events"));
        }
        command.arg("--manifest").arg(scene.among(rules)?);
        command.arg(scene.skill()).args(arguments);
        Ok(command)
    }
}

/// The costs of one operation, as a table.
pub(super) fn accesses(scene: &Scene, programs: &Programs, operation: Operation) -> Result<Table> {
    eprintln!("measuring: {} among {MANY} rules…", operation.title());
    let arguments = scene.arguments(operation, COUNT, COUNT);
    let mut times = WAYS.map(|_| Vec::new());
    for round in 0..ROUNDS {
        let mut order: Vec<_> = WAYS.iter().zip(&mut times).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (way, times) in order {
            let _ = std::fs::remove_file(scene.output("events"));
            let sample = Sample::take(&mut way.command(scene, &programs.plain, &arguments)?)?;
            ensure!(sample.count == COUNT, "the workload did something else");
            times.push(sample.mean_ns);
        }
    }
    let of = |way: Way| {
        let mut found = WAYS.iter().zip(&times).filter(|(other, _)| **other == way);
        found.next().map_or(&[][..], |(_, times)| times.as_slice())
    };
    let ratio = |times: &[f64], base: &[f64]| {
        let ratios: Vec<f64> = times
            .iter()
            .zip(base)
            .map(|(one, base)| one / base)
            .collect();
        format!("{:.2}", median(&ratios))
    };
    let mut table = Table::new(&[
        operation.title(),
        "ns, median",
        "least – most",
        "× bare",
        &format!("× the same among {FEW}"),
    ]);
    for way in WAYS {
        let (least, most) = range(of(way));
        table.row(vec![
            way.name(),
            format!("{:.0}", median(of(way))),
            format!("{least:.0} – {most:.0}"),
            ratio(of(way), of(Way::Bare)),
            way.among_few()
                .map_or_else(|| "–".to_owned(), |few| ratio(of(way), of(few))),
        ]);
    }
    table.note(format!(
        "{ROUNDS} rounds of {COUNT} operations, the ways in turn within each round; each × is the median of the rounds' ratios."
    ));
    Ok(table)
}
