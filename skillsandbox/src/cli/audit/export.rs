//! `skillsandbox audit export`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::asked::Asked;
use crate::{
    audit::{
        json,
        query::{Findings, Format as Shown, Output},
        segment::SegmentWriter,
        store::{About, Store},
    },
    export::ocsf,
};

/// Exit code when no record is what was asked for.
const NOTHING: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A JSON object a line, as docs/events.md has it
    Jsonl,
    /// A row of comma-separated values
    Csv,
    /// An object of OCSF 1.8 a line, and one for each finding
    Ocsf,
    /// A Parquet file with the columns of segments
    Parquet,
}

/// Write the records that are asked for in a form that other systems take.
///
/// The options are those of `audit query`.
/// Exit code 0 when there are such records, 1 when there are none, 123 when some could not be read.
#[derive(Args, Debug)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    asked: Asked,
    /// The form.
    #[arg(long, value_enum)]
    format: Format,
    /// A new file to write to, which Parquet needs [default: standard output].
    #[arg(long, value_name = "FILE", required_if_eq("format", "parquet"))]
    to: Option<PathBuf>,
}

pub(super) fn run(folder: &Path, arguments: &ExportArguments) -> anyhow::Result<ExitCode> {
    let store = Store::open(folder)?;
    let out = match &arguments.to {
        Some(path) => Some(
            File::create_new(path).with_context(|| format!("cannot make {}", path.display()))?,
        ),
        None => None,
    };
    let mut exporter = match (arguments.format, out) {
        (Format::Parquet, Some(file)) => Exporter::Parquet(Box::new(SegmentWriter::new(file)?)),
        (format, out) => {
            let out: Box<dyn Write> = match out {
                Some(file) => Box::new(file),
                None => Box::new(io::stdout().lock()),
            };
            let out = BufWriter::new(out);
            match format {
                Format::Ocsf => Exporter::Ocsf(out, BTreeMap::new()),
                Format::Csv => Exporter::Shown(Output::new(out, Shown::Csv)),
                _ => Exporter::Shown(Output::new(out, Shown::Jsonl)),
            }
        }
    };
    let mut records = 0_u64;
    let unread = arguments.asked.each(&store, |about, record, line| {
        records += 1;
        exporter.record(about, record, line)
    })?;
    exporter.finish()?;
    Ok(match unread {
        Some(code) => ExitCode::from(code),
        None if records == 0 => ExitCode::from(NOTHING),
        None => ExitCode::SUCCESS,
    })
}

enum Exporter<W: Write> {
    Shown(Output<W>),
    /// With what was found so far, of each run.
    Ocsf(W, BTreeMap<String, (About, Findings)>),
    Parquet(Box<SegmentWriter>),
}

impl<W: Write> Exporter<W> {
    fn record(&mut self, about: &About, record: &Value, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Shown(output) => output.record(&about.run, record, line),
            Self::Ocsf(out, found) => {
                if !found.contains_key(&about.run) {
                    found.insert(about.run.clone(), (about.clone(), Findings::default()));
                }
                if let Some((_, findings)) = found.get_mut(&about.run) {
                    findings.add(record);
                }
                line_of(out, &ocsf::record(about, record))
            }
            Self::Parquet(writer) => writer.json(about, record, line).map_err(io::Error::other),
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Shown(output) => output.finish()?,
            Self::Ocsf(mut out, found) => {
                for (about, findings) in found.into_values() {
                    for finding in findings.findings() {
                        line_of(&mut out, &ocsf::finding(&about, &finding))?;
                    }
                }
                out.flush()?;
            }
            Self::Parquet(writer) => {
                writer.finish()?;
            }
        }
        Ok(())
    }
}

fn line_of(out: &mut impl Write, object: &Value) -> io::Result<()> {
    json::write(out, object)?;
    out.write_all(b"\n")
}
