//! Makes an audit store of a day that never was: `history FOLDER EVENTS`.
//!
//! Runs follow each other, a million events each. Of a hundred events 85 are opens, ten connects and five
//! executions; three are denials. Files are asked for as files are: of 20,000 the first most, each next one less
//! (Zipf). A process makes some two hundred events. Everything is drawn from one seed.

use std::{env, fs, io::Write, path::Path};

use anyhow::{Context, Result, bail, ensure};
use skillsandbox::audit::{
    clock::Clock,
    collect::Collector,
    describe::{Knowledge, RuleText},
    record::Ending,
    store::{About, FORMAT, Log, Writer},
};
use skillsandbox_common::{
    event::{NetworkBody, PathBody, PathSource},
    header::{Actor, EVENT_VERSION, EventHeader, EventPrefix, Kind, Reason, Verdict},
    rule::Access,
    slot::SlotCounters,
};
use skillsandbox_tests::kernel_rng::Rng as Generator;
use zerocopy::IntoBytes;

const RUN: u64 = 1_000_000;
const BATCH: u64 = 4096;
const PATHS: usize = 20_000;
const PROCESS: u64 = 200;
/// 2026-11-27, 00:00 UTC.
const MIDNIGHT: i128 = 1_795_737_600_000_000_000;
const DAY: u64 = 86_400_000_000_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, events] = arguments.as_slice() else {
        bail!("usage: history FOLDER EVENTS");
    };
    let events: u64 = events.parse().context("EVENTS is a number")?;
    let folder = Path::new(folder);
    ensure!(!folder.exists(), "{} is there already", folder.display());
    fs::create_dir_all(folder)?;
    let runs = events.div_ceil(RUN);
    let mut random = Generator::new(7);
    let files = Files::new();
    for run in 0..runs {
        let length = RUN.min(events - run * RUN);
        record(folder, run, runs, length, &files, &mut random)?;
        write!(std::io::stderr(), "\r{} of {runs} runs", run + 1)?;
    }
    writeln!(std::io::stderr())?;
    Ok(())
}

/// One run, which begins when the one before ends.
fn record(
    folder: &Path,
    run: u64,
    runs: u64,
    events: u64,
    files: &Files,
    random: &mut Generator,
) -> Result<()> {
    let began = DAY / runs * run;
    let rules: Vec<RuleText> = (1..=9)
        .map(|line| RuleText {
            text: format!("filesystem.read /usr/{line}"),
            line: Some(line),
        })
        .collect();
    let clock = Clock::with_offset(MIDNIGHT + i128::from(began));
    let name: String = clock
        .time(0)
        .to_string()
        .chars()
        .filter(|c| !"-:.".contains(*c))
        .collect();
    let sandbox = format!("skill-{:08x}", random.any() as u32);
    let about = About {
        format: FORMAT,
        run: format!("{name}-{sandbox}"),
        sandbox: sandbox.clone(),
        skill_name: format!("skill-{}", run % 7),
        skill_version: "1.0.0".to_owned(),
        host: "host".to_owned(),
        tier: "kernel".to_owned(),
        lasts_for_boot: None,
        booted_unix_ns: clock.offset(),
        rules: rules.clone(),
    };
    let log = Log::begin(Writer::open(folder)?, &about, clock.time(0))?;
    let mut collector = Collector::new(Knowledge {
        sandbox,
        clock,
        rules: &rules,
        names: None,
        judge: None,
    });
    collector.add("store", Box::new(log));
    let step = DAY / runs / events;
    let mut denied = 0;
    for at in 0..events {
        let event = event(at, step, files, random, &mut denied);
        collector.push(&event)?;
        if at % BATCH == 0 {
            collector.end_batch()?;
        }
    }
    let counters = SlotCounters {
        records: events,
        denied,
        ..SlotCounters::default()
    };
    let (summary, errors) = collector.finish(&counters, Ending::default());
    ensure!(
        errors.is_empty() && summary.accounting.balanced,
        "{errors:?} {summary:?}"
    );
    Ok(())
}

fn event(at: u64, step: u64, files: &Files, random: &mut Generator, denied: &mut u64) -> Vec<u8> {
    let is_denied = random.below(100) < 3;
    *denied += u64::from(is_denied);
    let which = random.below(100);
    let kind = match which {
        0..85 => Kind::Open,
        85..95 => Kind::Connect,
        _ => Kind::Exec,
    };
    let body = if kind == Kind::Connect {
        let address = std::net::Ipv4Addr::new(203, 0, 113, random.below(40) as u8);
        let body = NetworkBody {
            address: address.to_ipv6_mapped().octets(),
            port: 443,
            family: 2,
            protocol: 6,
            socket_type: 1,
        };
        body.as_bytes().to_vec()
    } else {
        let body = PathBody {
            access: if kind == Kind::Exec {
                Access::EXEC
            } else {
                Access::READ
            },
            source: PathSource::Resolved as u16,
            open_flags: if kind == Kind::Open { 0o2_000_000 } else { 0 },
            directory: 0,
            result: 0,
        };
        let path = match kind {
            Kind::Exec => format!("/usr/bin/tool-{}", random.below(30)),
            _ => files.one(random),
        };
        [body.as_bytes(), path.as_bytes()].concat()
    };
    let process = 10_000 + u32::try_from(at / PROCESS).unwrap_or(u32::MAX);
    let mut comm = [0; 16];
    comm[..7].copy_from_slice(b"python3");
    let prefix = EventPrefix {
        header: EventHeader {
            version: EVENT_VERSION,
            kind: kind as u8,
            verdict: if is_denied {
                Verdict::Deny
            } else {
                Verdict::Allow
            } as u8,
            reason: if is_denied {
                Reason::NoRule
            } else {
                Reason::Rule
            } as u8,
            length: u32::try_from(size_of::<EventPrefix>() + body.len()).unwrap_or(u32::MAX),
            // Not one every so often: a clock has jitter.
            time_ns: at * step + random.below(usize::try_from(step).unwrap_or(1).max(1)) as u64,
        },
        actor: Actor {
            sequence: at + 1,
            pid: process,
            tgid: process,
            ppid: 9_999,
            uid: 65_534,
            gid: 65_534,
            rule: if is_denied {
                0
            } else {
                1 + random.below(9) as u32
            },
            comm,
        },
    };
    [prefix.as_bytes(), &body].concat()
}

/// Paths, and how often each is asked for.
struct Files {
    paths: Vec<String>,
    /// Sums of 1/n, in millionths.
    sums: Vec<u64>,
}

impl Files {
    fn new() -> Self {
        let mut sum = 0;
        let (mut paths, mut sums) = (Vec::new(), Vec::new());
        for rank in 1..=PATHS {
            sum += 1_000_000 / rank as u64;
            sums.push(sum);
            // Often and seldom used ones beside each other.
            let folder = rank * 7919 % 200;
            paths.push(format!("/srv/data/{folder:03}/dataset/part-{rank:05}.json"));
        }
        Self { paths, sums }
    }

    fn one(&self, random: &mut Generator) -> String {
        let all = self.sums.last().copied().unwrap_or(1);
        let drawn = random.any() % all;
        let at = self.sums.partition_point(|sum| *sum <= drawn);
        self.paths[at.min(PATHS - 1)].clone()
    }
}
