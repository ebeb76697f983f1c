mod mutations;
mod resumed;
mod sealed;

use std::{fs, net::IpAddr, path::Path};

use skillsandbox_common::{
    header::{Kind, Reason},
    rule::Access,
    slot::SlotCounters,
};

use super::*;
use crate::{
    audit::{
        collect::Collector,
        describe::{Judge, Knowledge, Names, RuleText},
        json_lines::JsonLines,
        record::{AddressChange, Change, Ending, Note},
        testing::{self, Scratch, Shared},
    },
    policy::{Advice, DeniedFile},
};

/// Says of an event what nobody can say later.
struct Then;

impl Names for Then {
    fn name_of(&self, address: IpAddr) -> Option<String> {
        Some(format!("name-of-{address}"))
    }
}

impl Judge for Then {
    fn judge(&self, _: &[u8], _: u16, _: i32) -> skillsandbox_common::rule::Decision {
        skillsandbox_common::rule::Decision::deny(Reason::NoRule, 1)
    }

    fn advise_file(&self, _: &DeniedFile<'_>) -> Option<Advice> {
        Some(Advice::Permit("filesystem: { read: [/x] }".to_owned()))
    }
}

fn rules() -> Vec<RuleText> {
    vec![RuleText {
        text: "read /usr".to_owned(),
        line: Some(4),
    }]
}

fn about(run: &str) -> About {
    About {
        rules: rules(),
        ..testing::about(run)
    }
}

fn log(store: &Path, run: &str) -> Log {
    let clock = about(run).clock();
    Log::begin(Writer::open(store).unwrap(), &about(run), clock.time(0)).unwrap()
}

/// Records one run, and returns what was written out of it meanwhile.
fn record(store: &Path, run: &str) -> Vec<u8> {
    let rules = rules();
    let mut collector = Collector::new(Knowledge {
        sandbox: about(run).sandbox,
        clock: about(run).clock(),
        rules: &rules,
        names: Some(&Then),
        judge: Some(&Then),
    });
    let out = Shared::default();
    collector.add("events", Box::new(JsonLines::new(out.clone())));
    collector.add("store", Box::new(log(store, run)));
    let file = |sequence, kind, path: &str| {
        let body = testing::path_body(Access::READ);
        testing::path(testing::prefix(sequence), kind, body, path)
    };
    let mut passed = testing::path_body(Access::READ);
    passed.source = 1;
    let mut observed = testing::prefix(6);
    observed.header.reason = Reason::Observed as u8;
    let events = [
        file(2, Kind::Open, "/usr/lib/\u{1b}[31m"),
        file(1, Kind::Exec, "/usr/bin/python3"),
        testing::network(testing::prefix(3), Kind::Connect, "203.0.113.9", 443),
        testing::path(
            testing::denied(4, Reason::NoRule),
            Kind::Open,
            passed,
            b"/etc/\xff",
        ),
        testing::unix(testing::denied(5, Reason::NoRule), "/run/x"),
        testing::path(observed, Kind::Open, passed, "/root/.ssh"),
        testing::fork(testing::prefix(7), 4243),
        testing::exit(testing::prefix(9), 0),
    ];
    for batch in events.chunks(3) {
        for event in batch {
            collector.push(event).unwrap();
        }
        collector.end_batch().unwrap();
    }
    let change = AddressChange {
        change: Change::Granted,
        name: "api.example.com".to_owned(),
        address: [203, 0, 113, 9].into(),
        seconds: Some(30),
    };
    collector.note(&Note::Address(change)).unwrap();
    let counters = SlotCounters {
        records: 9,
        processes: 2,
        denied: 3,
        dropped_allowed: 1,
        ..SlotCounters::default()
    };
    let (summary, errors) = collector.finish(&counters, Ending::default());
    assert!(
        errors.is_empty() && summary.accounting.balanced,
        "{summary:?}"
    );
    out.bytes()
}

fn replayed(store: &Store, run: &str) -> Vec<u8> {
    let mut replay = Replay::open(store.log(run).unwrap(), run).unwrap();
    let mut out = Vec::new();
    replay
        .each(|stored| {
            match stored {
                Stored::Event(record) => crate::audit::json::write(&mut out, record)?,
                Stored::Note(line) => out.extend_from_slice(line),
            }
            out.push(b'\n');
            Ok(())
        })
        .unwrap();
    out
}

#[test]
fn a_log_gives_back_the_very_records_that_were_written_out() {
    let scratch = Scratch::new("replay");
    let folder = scratch.path("audit");
    let written = record(&folder, "run-1");
    let back = replayed(&Store::open(&folder).unwrap(), "run-1");
    assert_eq!(String::from_utf8(back), String::from_utf8(written));
}

#[test]
fn a_store_as_it_was_written_has_no_trouble_and_says_what_was_lost() {
    let scratch = Scratch::new("whole");
    let folder = scratch.path("audit");
    for run in ["run-1", "run-2"] {
        record(&folder, run);
    }
    let store = Store::open(&folder).unwrap();
    let report = verify(&store, None).unwrap();
    assert_eq!(report.troubles, []);
    assert_eq!((report.runs, report.running, report.lost), (2, 0, 2));
    let key = fs::read_to_string(folder.join("key.pub")).unwrap();
    assert_eq!(verify(&store, Some(&key)).unwrap().troubles, []);
    let other = verify(&store, Some(&"11".repeat(32)));
    assert!(other.is_err() || !other.unwrap().troubles.is_empty());
}

#[test]
fn a_run_whose_recorder_was_killed_is_named_and_the_next_is_recorded() {
    let scratch = Scratch::new("killed");
    let folder = scratch.path("audit");
    let running = log(&folder, "run-1");
    let store = Store::open(&folder).unwrap();
    let report = verify(&store, None).unwrap();
    assert_eq!((report.running, report.troubles), (1, Vec::new()));
    drop(running);
    // The next one was killed while it wrote a line.
    let ledger = folder.join("ledger");
    let torn = [fs::read(&ledger).unwrap(), b"00 11 {\"num".to_vec()].concat();
    fs::write(&ledger, torn).unwrap();
    record(&folder, "run-2");
    let report = verify(&store, None).unwrap();
    let [trouble] = report.troubles.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(trouble.file, "runs/run-1.log");
    assert!(trouble.what.contains("no end"), "{trouble:?}");
}

#[test]
fn what_is_taken_away_on_purpose_is_not_missed_and_what_stays_is_proved() {
    let scratch = Scratch::new("pruned");
    let folder = scratch.path("audit");
    for run in ["run-1", "run-2", "run-3"] {
        record(&folder, run);
    }
    // Killed, and one that is still written.
    drop(log(&folder, "run-0"));
    let running = log(&folder, "run-4");
    let writer = Writer::open(&folder).unwrap();
    let length = |run: &str| {
        fs::metadata(folder.join(format!("runs/{run}.log")))
            .unwrap()
            .len()
    };
    let keep = Keep {
        bytes: Some(length("run-4") + length("run-3") + length("run-2")),
        younger_than: None,
    };
    let names = |pruned: Vec<Pruned>| {
        let logs = pruned.into_iter().map(|one| match one.file {
            Kept::Log(run) => run,
            Kept::Segment(name) => panic!("nothing was sealed into {name}"),
        });
        logs.collect::<Vec<_>>()
    };
    assert_eq!(names(writer.prune(keep, true).unwrap()), ["run-0", "run-1"]);
    let store = Store::open(&folder).unwrap();
    assert_eq!(store.runs().unwrap().0.len(), 5, "only said");
    assert_eq!(
        names(writer.prune(keep, false).unwrap()),
        ["run-0", "run-1"]
    );
    let report = verify(&store, None).unwrap();
    assert_eq!((report.removed, report.troubles), (2, Vec::new()));
    assert!(writer.prune(keep, false).unwrap().is_empty());
    let all = Keep {
        younger_than: Some(std::time::Duration::ZERO),
        bytes: None,
    };
    assert_eq!(names(writer.prune(all, false).unwrap()), ["run-2", "run-3"]);
    assert_eq!(store.runs().unwrap().0, ["run-4"]);
    // What is said to be gone does not come back, and nothing goes without a word.
    fs::copy(folder.join("runs/run-4.log"), folder.join("runs/run-1.log")).unwrap();
    drop(running);
    fs::remove_file(folder.join("runs/run-4.log")).unwrap();
    let files: Vec<_> = verify(&store, None)
        .unwrap()
        .troubles
        .into_iter()
        .map(|one| one.file)
        .collect();
    assert_eq!(files, ["runs/run-1.log", "runs/run-4.log"]);
}

#[test]
fn a_folder_that_others_may_write_to_is_no_store() {
    use std::os::unix::fs::PermissionsExt;

    let scratch = Scratch::new("open");
    let folder = scratch.path("audit");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(
        Writer::open(&folder),
        Err(StoreError::NotOurs { .. })
    ));
    let linked = scratch.path("linked");
    std::os::unix::fs::symlink(&folder, &linked).unwrap();
    assert!(Writer::open(&linked).is_err());
    // Nor one in it, which others could put another in the place of.
    let below = folder.join("audit");
    assert!(matches!(
        Writer::open(&below),
        Err(StoreError::NotOurs { .. })
    ));
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(
        Store::open(&folder),
        Err(StoreError::Missing { .. })
    ));
    record(&below, "run-1");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o757)).unwrap();
    assert!(matches!(
        Store::open(&below),
        Err(StoreError::NotOurs { .. })
    ));
}

#[test]
fn an_emptied_log_is_named() {
    let scratch = Scratch::new("emptied");
    let folder = scratch.path("audit");
    record(&folder, "run-1");
    fs::write(folder.join("runs/run-1.log"), "").unwrap();
    let store = Store::open(&folder).unwrap();
    assert_eq!(verify(&store, None).unwrap().troubles.len(), 1);
}
