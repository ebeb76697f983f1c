//! `skillsandbox audit query`.

use std::{
    io::{self, BufReader, BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use globset::GlobMatcher;
use serde_json::Value;

use crate::{
    audit::{
        json,
        query::{Filter, Format, Moment, Output, Process, RuleIs, glob, number, path_glob, text},
        store::{Replay, ReplayError, Store, Stored},
        text::Escaped,
    },
    cli::exit,
    manifest::Cidr,
};

/// Exit code when no record is what was asked for.
const NOTHING: u8 = 1;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Verdict {
    Allow,
    Deny,
}

/// Show the records that are asked for: those for which everything given holds, the oldest first.
///
/// In patterns of paths `*` is anything but a slash and `**` any folders, in others `*` is anything. Times are `2h` (ago), `2026-11-27`,
/// `2026-11-27 18:00` or RFC 3339, in UTC.
/// Exit code 0 when there are such records, 1 when there are none, 123 when some could not be read.
#[derive(Args, Debug)]
pub(super) struct QueryArguments {
    /// Of this run, by its name or that of its sandbox.
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Of runs of this skill.
    #[arg(long, value_name = "PATTERN", value_parser = glob)]
    skill: Option<GlobMatcher>,
    /// At this time or later.
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Of what was allowed, or denied.
    #[arg(long, value_enum)]
    verdict: Option<Verdict>,
    /// Of these kinds: open, exec, connect, dns, … as docs/events.md has them.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<String>,
    /// About a file or unix socket whose path is like this. Can be given more than once, as those below.
    #[arg(long, value_name = "PATTERN", value_parser = path_glob)]
    path: Vec<GlobMatcher>,
    /// About an address of this network: 203.0.113.0/24.
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    addr: Vec<Cidr>,
    /// About a host whose name is like this.
    #[arg(long, value_name = "PATTERN", value_parser = glob)]
    name: Vec<GlobMatcher>,
    /// Of the process of this id, or whose program's path or name is like this.
    #[arg(long, value_name = "ID|PATTERN")]
    process: Option<Process>,
    /// Decided by the rule of this number, or whose text is like this.
    #[arg(long, value_name = "NUMBER|PATTERN")]
    rule: Option<RuleIs>,
    /// How records are shown.
    #[arg(long, value_enum, default_value = "lines")]
    format: Format,
}

fn cidr(text: &str) -> Result<Cidr, String> {
    text.parse().map_err(|refusal| format!("{refusal:?}"))
}

pub(super) fn run(folder: &Path, arguments: &QueryArguments) -> anyhow::Result<ExitCode> {
    let filter = Filter {
        since: arguments.since,
        until: arguments.until,
        verdict: arguments.verdict.map(|verdict| match verdict {
            Verdict::Allow => "allow".to_owned(),
            Verdict::Deny => "deny".to_owned(),
        }),
        kinds: arguments.kind.clone(),
        paths: arguments.path.clone(),
        addresses: arguments.addr.clone(),
        names: arguments.name.clone(),
        process: arguments.process.clone(),
        rule: arguments.rule.clone(),
    };
    let store = Store::open(folder)?;
    let mut asked = Asked {
        filter,
        output: Output::new(BufWriter::new(io::stdout().lock()), arguments.format),
        lost: 0,
        line: Vec::new(),
    };
    let mut unread = false;
    for run in store.runs()?.0 {
        let read = asked.run(&store, &run, arguments);
        match read {
            Ok(()) => {}
            Err(ReplayError::Taker(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                // Whoever reads has seen enough.
                return Ok(ExitCode::SUCCESS);
            }
            Err(ReplayError::Taker(error)) => return Err(error.into()),
            Err(error) => {
                tracing::error!("runs/{}.log {error}", Escaped(run.as_bytes()));
                unread = true;
            }
        }
    }
    let Asked { output, lost, .. } = asked;
    let rows = output.rows();
    output.finish()?;
    if lost > 0 {
        tracing::warn!(
            "{lost} events of these runs were lost when they were recorded: see --kind lost"
        );
    }
    Ok(if unread {
        ExitCode::from(exit::RECORD)
    } else if rows == 0 {
        ExitCode::from(NOTHING)
    } else {
        ExitCode::SUCCESS
    })
}

/// What is asked for, and what was found.
struct Asked<W> {
    filter: Filter,
    output: Output<W>,
    lost: u64,
    line: Vec<u8>,
}

impl<W: Write> Asked<W> {
    fn run(
        &mut self,
        store: &Store,
        run: &str,
        arguments: &QueryArguments,
    ) -> Result<(), ReplayError> {
        let log = store.log(run).map_err(io::Error::other)?;
        let mut replay = Replay::open(BufReader::new(log), run)?;
        let about = replay.about();
        let wanted = arguments
            .run
            .as_deref()
            .is_none_or(|wanted| wanted == run || wanted == about.sandbox)
            && arguments
                .skill
                .as_ref()
                .is_none_or(|skill| skill.is_match(&about.skill_name));
        if !wanted {
            return Ok(());
        }
        replay.each(|stored| {
            let line = match stored {
                Stored::Event(record) => {
                    self.line.clear();
                    json::write(&mut self.line, record)?;
                    self.line.as_slice()
                }
                Stored::Note(line) => line,
            };
            let record: Value = serde_json::from_slice(line)?;
            if text(&record, "/kind") == Some("lost") {
                let causes = ["/dropped/allowed", "/dropped/denied", "/dropped/processes"];
                let dropped = causes.iter().filter_map(|cause| number(&record, cause));
                self.lost += dropped.sum::<u64>();
            }
            if self.filter.matches(&record) {
                self.output.record(run, &record, line)?;
            }
            Ok(())
        })
    }
}
