use std::net::IpAddr;

use parquet::file::metadata::ParquetMetaDataReader;
use proptest::{prelude::*, sample::select};
use skillsandbox_common::header::{Kind, Reason};

use super::{columns::Row, *};
use crate::audit::{
    clock::Clock,
    decode::decode,
    describe::{Knowledge, Names, RuleText},
    json,
    process::Processes,
    query::{Filter, Moment, Process, RuleIs, Stats, glob, path_glob},
    sequence::Sequences,
    testing::{self, Scratch, about},
};

struct Then;

impl Names for Then {
    fn name_of(&self, address: IpAddr) -> Option<String> {
        address.is_ipv4().then(|| format!("name-of-{address}"))
    }
}

const BOOTED: i128 = 1_767_225_600_000_000_000;

const FILES: [Kind; 11] = [
    Kind::Open,
    Kind::Exec,
    Kind::Map,
    Kind::Unlink,
    Kind::Rename,
    Kind::RenameTo,
    Kind::Link,
    Kind::LinkTo,
    Kind::Truncate,
    Kind::Create,
    Kind::Attributes,
];
const NETWORK: [Kind; 3] = [Kind::Connect, Kind::Sendmsg, Kind::Bind];

/// The bytes of an event: any kind, verdict, reason and numbers, also such as no kernel writes.
fn event() -> impl Strategy<Value = Vec<u8>> {
    let path = prop_oneof![
        select(vec![
            "",
            "/etc/passwd",
            "/usr/lib/\u{1b}x",
            "relative",
            "/a b"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..30),
    ];
    let numbers = (
        0..20_000_000_000u64,
        1..9u64,
        0..4u32,
        any::<u8>(),
        any::<u8>(),
        0..3u32,
    );
    (numbers, any::<[i32; 4]>(), any::<[u16; 6]>(), path, 0..9).prop_map(
        |((since_boot, sequence, process, verdict, reason, rule), wide, short, path, which)| {
            let mut prefix = testing::prefix(sequence);
            prefix.header.time_ns = since_boot;
            prefix.header.verdict = if verdict < 250 { verdict % 2 } else { verdict };
            prefix.header.reason = reason;
            prefix.actor.tgid = 4000 + process;
            prefix.actor.pid = prefix.actor.tgid + u32::from(short[0] % 2);
            prefix.actor.rule = rule;
            let mut body = testing::path_body(short[1] % 32);
            body.source = short[2] % 4;
            body.open_flags = wide[0].cast_unsigned();
            body.directory = wide[1];
            body.result = wide[2] % 40;
            let address = ["203.0.113.9", "2001:db8::1", "127.0.0.1"][usize::from(short[3] % 3)];
            match which {
                0..4 => testing::path(prefix, FILES[usize::from(short[4]) % 11], body, path),
                4 | 5 => testing::network(
                    prefix,
                    NETWORK[usize::from(short[4]) % 3],
                    address,
                    short[5],
                ),
                6 => testing::socket(prefix, short[4] % 50, short[5] % 10),
                7 => testing::unix(prefix, &String::from_utf8_lossy(&path)),
                _ => match short[4] % 3 {
                    0 => testing::fork(prefix, short[5].into()),
                    1 => testing::exit(prefix, short[5].into()),
                    _ => testing::ptrace(prefix, short[5].into(), wide[3]),
                },
            }
        },
    )
}

/// Hands out the record of an event, as it would be of a run.
fn described<T>(bytes: &[u8], take: impl FnOnce(&crate::audit::record::Record<'_>) -> T) -> T {
    let rules = [RuleText {
        text: "read /usr".to_owned(),
        line: Some(4),
    }];
    let knowledge = Knowledge {
        sandbox: about("run").sandbox,
        clock: Clock::with_offset(BOOTED),
        rules: &rules,
        names: Some(&Then),
        judge: None,
    };
    let (mut processes, mut sequences) = (Processes::default(), Sequences::default());
    sequences.insert(1);
    let program = crate::audit::process::Executable {
        path: b"/usr/bin/\xffcat".as_slice().into(),
        since: 1,
        source: crate::audit::code::Code::path_source(1),
    };
    processes.exec(4001, program, &sequences);
    (2..9).for_each(|sequence| sequences.insert(sequence));
    let event = decode(bytes).unwrap();
    take(&knowledge.describe(&event, &knowledge.say(&event), &processes, &sequences))
}

fn line(record: &crate::audit::record::Record<'_>) -> String {
    let mut line = Vec::new();
    json::write(&mut line, record).unwrap();
    String::from_utf8(line).unwrap()
}

/// A note of userspace's own, `seconds` after boot.
fn note(seconds: u64, fields: &str) -> String {
    let boot_ns = seconds * 1_000_000_000;
    let time = Clock::with_offset(BOOTED).time(boot_ns);
    format!(
        r#"{{"v":1,"time":"{time}","boot_ns":{boot_ns},"sandbox":"s","sequence":null,{fields}}}"#
    )
}

/// A segment of two runs: the first half of the events, and the others with some notes.
fn segment(scratch: &Scratch, events: &[Vec<u8>]) -> (Segment, Vec<(String, String)>) {
    let path = scratch.path("segment");
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap();
    // So few that there are pages which need not be read.
    let mut writer = SegmentWriter::with_pages(file, 3).unwrap();
    let mut lines = Vec::new();
    let (one, two) = events.split_at(events.len() / 2);
    for (run, events) in [("run-1", one), ("run-2", two)] {
        for event in events {
            described(event, |record| {
                writer.event(&about(run), record).unwrap();
                lines.push((run.to_owned(), line(record)));
            });
        }
    }
    for fields in [
        r#""kind":"dns","verdict":"deny","reason":"no_rule","rule":null,"name":"evil.example","addresses":["203.0.113.9"],"refused":[]"#,
        r#""kind":"repeat","of":"open","count":40,"from_boot_ns":1,"verdict":"deny","reason":"no_rule","rule":null,"pid":4001,"tgid":4001,"comm":"python3","access":["read"],"path":"/etc/x","path_bytes":null"#,
        r#""kind":"lost","dropped":{"allowed":3,"denied":1,"processes":0},"undecodable":0"#,
    ] {
        let note = note(9, fields);
        writer.note(&about("run-2"), note.as_bytes()).unwrap();
        lines.push(("run-2".to_owned(), note));
    }
    let file = writer.finish().unwrap().file;
    (Segment::open(file).unwrap(), lines)
}

fn filter() -> impl Strategy<Value = Filter> {
    let moment = || {
        prop::option::of((0..20u64).prop_map(|seconds| {
            let boot = u64::try_from(BOOTED).unwrap() + seconds * 1_000_000_000;
            Moment(std::time::UNIX_EPOCH + std::time::Duration::from_nanos(boot))
        }))
    };
    let some = |texts: &'static [&'static str]| prop::option::of(select(texts));
    let process = prop::option::of(select(vec!["4001", "4002", "7", "/usr/bin/*", "python3"]));
    let rule = prop::option::of(select(vec!["1", "2", "read *", "x"]));
    (
        (
            moment(),
            moment(),
            some(&["allow", "deny"]),
            some(&["open", "connect", "dns", "lost"]),
        ),
        (
            some(&["/etc/*", "/usr/**", "/**"]),
            some(&["203.0.113.0/24", "2001:db8::/32"]),
            some(&["name-of-*", "evil.*"]),
        ),
        (process, rule),
    )
        .prop_map(
            |((since, until, verdict, kind), (path, address, name), (process, rule))| Filter {
                since,
                until,
                verdict: verdict.map(str::to_owned),
                kinds: kind.into_iter().map(str::to_owned).collect(),
                paths: path
                    .into_iter()
                    .map(|path| path_glob(path).unwrap())
                    .collect(),
                addresses: address
                    .into_iter()
                    .map(|cidr| cidr.parse().unwrap())
                    .collect(),
                names: name.into_iter().map(|name| glob(name).unwrap()).collect(),
                process: process.map(|text| text.parse::<Process>().unwrap()),
                rule: rule.map(|text| text.parse::<RuleIs>().unwrap()),
            },
        )
}

proptest! {
    #[test]
    fn the_record_of_a_row_is_the_record_that_it_was_made_of(event in event()) {
        described(&event, |record| {
            let about = about("run");
            let row = Row::of_event(&about, record).unwrap();
            let back = row.record().unwrap();
            prop_assert_eq!(line(&back), line(record));
            let text = line(record);
            let json = serde_json::from_str(&text).unwrap();
            let row = Row::of_json(&about, &json, text.as_bytes()).unwrap();
            prop_assert_eq!(line(&row.record().unwrap()), text);
            Ok(())
        })?;
    }

    #[test]
    fn what_is_asked_for_is_not_passed_over_before_it_is_written_out(
        event in event(),
        filters in prop::collection::vec(filter(), 8),
    ) {
        described(&event, |record| {
            let written: serde_json::Value = serde_json::from_str(&line(record)).unwrap();
            let is_file = written.get("access").is_some() && written["path_bytes"].is_null();
            for filter in filters {
                let (may, does) = (filter.may_match(record), filter.matches(&written));
                prop_assert!(may || !does, "{filter:?}");
                // Of a file it is seen whether it is, but for these.
                let seen = Filter {
                    addresses: Vec::new(),
                    names: Vec::new(),
                    process: None,
                    rule: None,
                    ..filter
                };
                let (may, does) = (seen.may_match(record), seen.matches(&written));
                prop_assert!(!is_file || may == does, "{seen:?}");
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_segment_answers_as_its_records_do(
        events in prop::collection::vec(event(), 0..40),
        most in select(&[usize::MAX, 7]),
        filters in prop::collection::vec((filter(), prop::option::of(select(&["run-1", "run-2"]))), 1..6),
    ) {
        let scratch = Scratch::new("segment");
        let (segment, lines) = segment(&scratch, &events);
        for (filter, run) in filters {
            let mut found = Vec::new();
            let wanted = |part: &RunPart| run.is_none_or(|run| part.about.run == run);
            // More rows than there are, and so few that there are several pieces.
            let search = segment.search(&filter, &wanted, most).unwrap();
            for piece in 0..search.as_ref().map_or(0, Search::pieces) {
                let each = search.as_ref().unwrap().each(piece, |one| {
                    let text = String::from_utf8(one.line.to_vec()).unwrap();
                    if filter.matches(&serde_json::from_str(&text).unwrap()) {
                        found.push((segment.runs()[one.part].about.run.clone(), text));
                    }
                    Ok(())
                });
                each.unwrap();
            }
            let asked = |(of, line): &&(String, String)| {
                run.is_none_or(|run| of == run) && filter.matches(&serde_json::from_str(line).unwrap())
            };
            let expected: Vec<_> = lines.iter().filter(asked).cloned().collect();
            prop_assert_eq!(&found, &expected, "{:?}", filter);
            let mut counted = Stats::default();
            let is_it = |part: &RunPart| run.is_none_or(|run| part.about.run == run);
            if segment.tally(&filter, &is_it, &mut counted).unwrap() {
                let mut stats = Stats::default();
                for (_, line) in &expected {
                    stats.add(&serde_json::from_str(line).unwrap());
                }
                let written = |stats: &Stats| {
                    let mut out = Vec::new();
                    stats.write(&mut out, 99).unwrap();
                    String::from_utf8(out).unwrap()
                };
                prop_assert_eq!(written(&counted), written(&stats), "{:?}", filter);
            } else {
                prop_assert!(!filter.addresses.is_empty());
            }
        }
    }
}

#[test]
fn a_segment_says_of_which_runs_it_is_and_what_they_lost() {
    let scratch = Scratch::new("parts");
    let opens: Vec<_> = (1..=5)
        .map(|sequence| {
            let body = testing::path_body(1);
            testing::path(
                testing::denied(sequence, Reason::NoRule),
                Kind::Open,
                body,
                "/etc/x",
            )
        })
        .collect();
    let (segment, _) = segment(&scratch, &opens);
    let said: Vec<_> = segment
        .runs()
        .iter()
        .map(|part| (part.about.run.as_str(), part.rows, part.lost))
        .collect();
    assert_eq!(said, [("run-1", 2, 0), ("run-2", 6, 4)]);
    let [first, second] = segment.runs() else {
        panic!()
    };
    assert_eq!(first.last - first.first, 1);
    assert!(second.last > second.first);
}

#[test]
fn where_nothing_is_said_of_pages_the_time_of_each_row_is_looked_at() {
    let scratch = Scratch::new("unsaid");
    let (_segment, _lines) = segment(&scratch, &[]);
    let file = std::fs::File::open(scratch.path("segment")).unwrap();
    let without_pages = ParquetMetaDataReader::new()
        .parse_and_finish(&file)
        .unwrap();
    let filter = Filter {
        since: Some(Moment(std::time::UNIX_EPOCH)),
        ..Filter::default()
    };
    let pieces = pages::pieces(&without_pages, 0, &filter, usize::MAX);
    assert!(!pieces.is_empty());
    assert!(pieces.iter().all(|piece| !piece.is_within));
}
