//! Holds `docs/events.md` equal to what the code writes.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Map, Value};
use skillsandbox_common::{
    event::{PathBody, PathSource},
    header::{EventPrefix, Kind, Reason, Verdict},
    rule::{Access, Decision},
    slot::SlotCounters,
};

use super::{
    bits::AccessBits,
    clock::Clock,
    code::Code,
    counts::{Counts, Dropped, Tally, Verdicts},
    decode::decode,
    describe::{ByResult, Judge, Knowledge, Names, RuleText},
    process::{Executable, Processes},
    record::{
        AddressChange, Change, Deadline, Dns, End, Ending, Environment, Layer, Limit, Lost, Note,
        Record, Repeat, Running, Start, StatedRule,
    },
    sequence::Sequences,
    testing,
};
use crate::policy::{Advice, DeniedAddress, DeniedFile, RuleSet, advise_address, advise_name};

const PAGE: &str = include_str!("../../../docs/events.md");

/// 2026-01-01T00:00:00Z at boot.
const CLOCK: Clock = Clock::with_offset(1_767_225_600_000_000_000);

struct Hook;

impl Names for Hook {
    fn name_of(&self, address: IpAddr) -> Option<String> {
        let declared = address.to_string() == "203.0.113.9";
        declared.then(|| "api.openweathermap.org".to_owned())
    }
}

/// Advises as a run does.
impl Judge for Hook {
    fn judge(&self, path: &[u8], access: u16, result: i32) -> Decision {
        ByResult.judge(path, access, result)
    }

    fn advise_file(&self, denied: &DeniedFile<'_>) -> Option<Advice> {
        Some(RuleSet::default().advise_file(denied))
    }

    fn advise_address(&self, denied: &DeniedAddress<'_>) -> Option<Advice> {
        Some(advise_address(denied))
    }
}

fn rules() -> Vec<RuleText> {
    [
        ("read /usr", None),
        ("connect api.openweathermap.org 443/tcp", Some(5)),
        ("exec /usr/bin/python3", Some(14)),
    ]
    .map(|(text, line)| RuleText {
        text: text.to_owned(),
        line,
    })
    .to_vec()
}

fn by_rule(sequence: u64, rule: u32) -> EventPrefix {
    let mut prefix = testing::prefix(sequence);
    prefix.actor.rule = rule;
    prefix
}

/// As a hook says it that is told no flags.
fn named(access: u16) -> PathBody {
    PathBody {
        open_flags: 0,
        ..testing::path_body(access)
    }
}

fn event_bytes() -> Vec<Vec<u8>> {
    let body = testing::path_body;
    let mut passed = body(Access::READ);
    passed.source = PathSource::Passed as u16;
    passed.directory = -100;
    passed.result = -libc::EACCES;
    let mut seen = testing::prefix(6);
    seen.header.reason = Reason::Observed as u8;
    seen.actor.rule = 0;
    let shadow = testing::denied(3, Reason::NoRule);
    vec![
        testing::path(
            by_rule(1, 3),
            Kind::Exec,
            body(Access::EXEC),
            "/usr/bin/python3.13",
        ),
        testing::path(
            by_rule(2, 1),
            Kind::Open,
            body(Access::READ),
            "/usr/lib/os.py",
        ),
        testing::path(shadow, Kind::Open, body(Access::READ), b"/etc/\xffshadow"),
        testing::network(by_rule(4, 2), Kind::Connect, "203.0.113.9", 443),
        testing::network(
            testing::denied(5, Reason::NoRule),
            Kind::Sendmsg,
            "2001:db8::53",
            53,
        ),
        testing::path(seen, Kind::Open, passed, "../secrets"),
        testing::fork(testing::prefix(7), 4243),
        testing::exit(testing::prefix(8), 9),
        testing::network(
            testing::denied(9, Reason::NotGranted),
            Kind::Bind,
            "0.0.0.0",
            53,
        ),
        testing::socket(testing::denied(10, Reason::AddressFamily), 17, 3),
        testing::unix(testing::denied(11, Reason::NoRule), "/run/docker.sock"),
        testing::path(
            testing::denied(12, Reason::NotGranted),
            Kind::Exec,
            body(Access::EXEC),
            "/usr/bin/curl",
        ),
        testing::path(
            by_rule(13, 1),
            Kind::Map,
            named(Access::MAP),
            "/usr/lib/libc.so.6",
        ),
    ]
    .into_iter()
    .chain(later_event_bytes())
    .collect()
}

fn later_event_bytes() -> [Vec<u8>; 9] {
    [
        testing::path(
            testing::denied(14, Reason::NotGranted),
            Kind::Unlink,
            named(Access::WRITE),
            "/srv/data/orders.db",
        ),
        testing::path(
            by_rule(15, 1),
            Kind::Rename,
            named(Access::WRITE),
            "/tmp/new",
        ),
        testing::path(
            testing::denied(16, Reason::MoreGranted),
            Kind::RenameTo,
            named(Access::WRITE),
            "/srv/tools/new",
        ),
        testing::path(by_rule(17, 1), Kind::Link, named(Access::WRITE), "/tmp/one"),
        testing::path(
            testing::denied(18, Reason::OtherFolder),
            Kind::LinkTo,
            named(Access::WRITE),
            "/tmp/folder/two",
        ),
        testing::path(
            by_rule(19, 1),
            Kind::Truncate,
            named(Access::WRITE),
            "/tmp/log",
        ),
        testing::ptrace(testing::denied(20, Reason::OutsideProcess), 1, 0x19),
        testing::path(
            by_rule(21, 1),
            Kind::Create,
            named(Access::WRITE),
            "/tmp/new",
        ),
        testing::path(
            testing::denied(22, Reason::NotGranted),
            Kind::Attributes,
            named(Access::WRITE),
            "/srv/data/orders.db",
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "one of each")]
fn notes() -> Vec<Note> {
    let counters = SlotCounters {
        records: 24,
        processes: 2,
        denied: 11,
        dropped_allowed: 3,
        ..SlotCounters::default()
    };
    let verdicts = |allowed, denied| Verdicts {
        allowed,
        denied,
        would_deny: 0,
        unknown: 0,
    };
    let tally = Tally {
        open: verdicts(1, 2),
        exec: verdicts(1, 0),
        connect: verdicts(1, 0),
        sendmsg: verdicts(0, 1),
        bind: verdicts(0, 1),
        socket: verdicts(0, 1),
        unix: verdicts(0, 1),
        map: verdicts(1, 0),
        unlink: verdicts(0, 1),
        rename: verdicts(1, 0),
        rename_to: verdicts(0, 1),
        link: verdicts(1, 0),
        link_to: verdicts(0, 1),
        truncate: verdicts(1, 0),
        create: verdicts(1, 0),
        attributes: verdicts(0, 1),
        ptrace: verdicts(0, 1),
        fork: 1,
        exit: 1,
    };
    let layer = |name: &str, achieved, detail: Option<&str>| Layer {
        name: name.to_owned(),
        achieved,
        detail: detail.map(str::to_owned),
    };
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    vec![
        Note::Start(Start {
            skill_name: "weather-lookup".to_owned(),
            skill_version: "0.1.0".to_owned(),
            program: "/usr/bin/python3.13".to_owned(),
            tier: "fallback".to_owned(),
            layers: vec![
                layer("connect4", true, Some("a connection was refused")),
                layer("file_open", false, Some("EPERM when loaded")),
            ],
        }),
        Note::Environment(Environment {
            passed: list(&["LANG", "OPENWEATHER_API_KEY"]),
            set: list(&["HOME"]),
            withheld: list(&["AWS_SECRET_ACCESS_KEY"]),
        }),
        Note::Running(Running {
            tgid: 4001,
            executable: "/usr/bin/python3.13".to_owned(),
            executable_source: "resolved".to_owned(),
        }),
        Note::Deadline(Deadline { seconds: 60 }),
        Note::Limit(Limit {
            resource: "memory".to_owned(),
            limit: 268_435_456,
            count: 1,
            effect: "processes were killed".to_owned(),
        }),
        Note::Dns(dns()),
        Note::Address(AddressChange {
            change: Change::Granted,
            name: "api.openweathermap.org".to_owned(),
            address: [203, 0, 113, 9].into(),
            seconds: Some(300),
        }),
        Note::Repeat(Repeat {
            of: "open",
            count: 41,
            from_boot_ns: 4_000_000_000,
            verdict: Code::Known(Verdict::Allow),
            reason: Code::Known(Reason::Rule),
            rule: Some(StatedRule {
                number: 1,
                text: "/skill (the skill)".to_owned(),
                line: None,
            }),
            pid: 4001,
            tgid: 4001,
            comm: "python3".to_owned(),
            access: AccessBits(Access::READ),
            path: Some("/skill/data.json".to_owned()),
            path_bytes: None,
        }),
        Note::Lost(Lost {
            dropped: Dropped::of(&counters),
            undecodable: 0,
            from_boot_ns: 4_000_000_000,
            skipped: 0,
        }),
        Note::End(End {
            ending: Ending::from_wait_status(0),
            counts: Counts::new(tally, 0, 0, &counters),
            balanced: true,
        }),
    ]
}

fn dns() -> Dns {
    let mut dns = Dns::asked("collector.example.net", "A".to_owned(), "udp");
    dns.deny(Reason::NoRule);
    dns.advise(advise_name(Reason::NoRule, "collector.example.net"));
    dns
}

/// What the code writes for each of these, in order.
fn written() -> Vec<Value> {
    let rules = rules();
    let knowledge = Knowledge {
        sandbox: "weather-lookup-7f3a".to_owned(),
        clock: CLOCK,
        rules: &rules,
        names: Some(&Hook),
        judge: Some(&Hook),
    };
    let mut sequences = Sequences::default();
    let mut processes = Processes::default();
    let json = |record: &Record<'_>| serde_json::to_value(record).unwrap();
    let mut written = Vec::new();
    for bytes in event_bytes() {
        let event = decode(&bytes).unwrap();
        let sequence = event.prefix.actor.sequence;
        sequences.insert(sequence);
        written.push(json(&knowledge.describe(
            &event,
            &knowledge.say(&event),
            &processes,
            &sequences,
        )));
        if sequence == 1 {
            let program = Executable {
                path: b"/usr/bin/python3.13"[..].into(),
                source: Code::Known(PathSource::Resolved),
                since: 1,
            };
            processes.exec(event.prefix.actor.tgid, program, &sequences);
        }
    }
    for note in &notes() {
        let mut record = knowledge.note(note);
        record.boot_ns = 5_000_000_000;
        record.time = CLOCK.time(record.boot_ns);
        written.push(json(&record));
    }
    written
}

fn blocks(page: &str) -> Vec<Value> {
    let blocks = page.split("```json\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap())
        .map(|json| serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}")))
        .collect()
}

#[test]
fn the_pages_examples_are_what_the_code_writes() {
    let records: Vec<_> = blocks(PAGE)
        .into_iter()
        .filter(|block| block.get("kind").is_some())
        .collect();
    let written = written();
    for expected in &written {
        assert!(
            records.contains(expected),
            "docs/events.md lacks this example:\n{expected}"
        );
    }
    assert_eq!(records.len(), written.len());
}

#[test]
fn the_page_has_an_example_of_every_kind() {
    let shown: Vec<_> = blocks(PAGE)
        .iter()
        .filter_map(|block| Some(block.get("kind")?.as_str()?.to_owned()))
        .collect();
    let kernel = Kind::ALL.iter().map(|kind| kind.as_str());
    for kind in kernel.chain(notes().iter().map(Note::kind)) {
        assert!(shown.iter().any(|shown| shown == kind), "{kind}");
    }
}

#[test]
fn the_page_describes_every_field_and_every_reason() {
    for record in written() {
        for (name, value) in record.as_object().unwrap() {
            assert!(PAGE.contains(&format!("| `{name}`")), "{name} = {value}");
        }
    }
    for reason in Reason::ALL {
        assert!(
            PAGE.contains(&format!("| `{}` |", reason.as_str())),
            "{reason:?}"
        );
    }
}

#[test]
fn records_of_one_kind_have_the_same_fields() {
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in written() {
        let record = record.as_object().unwrap();
        let names: Vec<_> = record.keys().cloned().collect();
        let kind = record["kind"].as_str().unwrap().to_owned();
        let first = fields.entry(kind).or_insert_with(|| names.clone());
        assert_eq!(*first, names);
    }
}

/// The names of an object's fields, at every depth that is not a list.
fn names(object: &Map<String, Value>) -> Value {
    let names = object.iter().map(|(name, value)| {
        let inside = value.as_object().map_or(Value::Null, names);
        (name.clone(), inside)
    });
    Value::Object(names.collect())
}

/// Compares the page's example of `trace.json` with a real one.
pub(super) fn assert_trace_is_as_documented(trace: &Value) {
    let page = blocks(PAGE);
    let documented = page
        .iter()
        .find(|block| block.get("trace_id").is_some())
        .expect("docs/events.md has an example of trace.json");
    assert_eq!(
        names(documented.as_object().unwrap()),
        names(trace.as_object().unwrap())
    );
}
