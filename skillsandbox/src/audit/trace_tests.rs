use std::path::PathBuf;

use serde_json::Value;
use skillsandbox_common::{
    header::{Kind, Reason},
    rule::Access,
    slot::SlotCounters,
};

use super::*;
use crate::audit::{
    clock::Clock, collect::Collector, describe::Knowledge, record::Ending, testing,
};

fn info() -> TraceInfo {
    TraceInfo {
        trace_id: "t1".to_owned(),
        sandbox: "s1".to_owned(),
        skill_name: "weather".to_owned(),
        skill_version: "0.1.0".to_owned(),
        started: Clock::with_offset(0).time(0),
        tier: "kernel".to_owned(),
        layers: vec![Layer {
            name: "file_open".to_owned(),
            achieved: true,
            detail: None,
        }],
        environment: Environment {
            passed: vec!["LANG".to_owned()],
            set: Vec::new(),
            withheld: vec!["AWS_SECRET_ACCESS_KEY".to_owned()],
        },
    }
}

/// The trace of these events, read back.
fn trace(name: &str, counters: &SlotCounters, events: impl IntoIterator<Item = Vec<u8>>) -> Value {
    let folder = std::env::temp_dir().canonicalize().unwrap();
    let path: PathBuf = folder.join(format!("skillsandbox-{name}-{}.json", std::process::id()));
    let place = Place::open(&path).unwrap();
    let mut collector = Collector::new(Knowledge {
        sandbox: "s1".to_owned(),
        clock: Clock::with_offset(0),
        rules: &[],
        names: None,
        judge: None,
    });
    collector.add("trace", Box::new(Trace::new(info(), place, None)));
    for event in events {
        collector.push(&event).unwrap();
    }
    let (_, errors) = collector.finish(counters, Ending::from_wait_status(3 << 8));
    assert!(errors.is_empty(), "{errors:?}");
    let json = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    serde_json::from_slice(&json).unwrap()
}

fn denied(sequence: u64, path: &str) -> Vec<u8> {
    let prefix = testing::denied(sequence, Reason::NoRule);
    testing::path(prefix, Kind::Open, testing::path_body(Access::READ), path)
}

#[test]
fn a_trace_tells_what_happened_and_adds_up() {
    let counters = SlotCounters {
        records: 5,
        processes: 1,
        denied: 2,
        dropped_allowed: 1,
        ..SlotCounters::default()
    };
    let events = [
        testing::network(testing::prefix(1), Kind::Connect, "203.0.113.9", 443),
        denied(2, "/etc/shadow"),
        denied(3, "/etc/shadow"),
        testing::exit(testing::prefix(4), 3 << 8),
    ];
    let trace = trace("whole", &counters, events);
    assert_eq!(trace["exit_code"], 3);
    assert_eq!(trace["signal"], Value::Null);
    assert_eq!(trace["skill_name"], "weather");
    assert_eq!(trace["started_at"], "1970-01-01T00:00:00.000000000Z");
    assert_eq!(trace["environment"]["withheld"][0], "AWS_SECRET_ACCESS_KEY");
    let counts = &trace["counts"];
    assert_eq!(counts["decisions"], 4);
    assert_eq!(counts["allowed"], 1);
    assert_eq!(counts["denied"], 2);
    assert_eq!(counts["emitted"], 4);
    assert_eq!(counts["dropped"]["allowed"], 1);
    crate::audit::schema::assert_trace_is_as_documented(&trace);
    assert_eq!(trace["accounting"]["balanced"], true);
    assert_eq!(trace["accounting"]["missing"], serde_json::json!([[5, 5]]));
    // The four, one about the loss, and the end.
    assert_eq!(trace["events"].as_array().unwrap().len(), 6);
    assert_eq!(trace["policy_violations"].as_array().unwrap().len(), 2);
    assert_eq!(
        trace["violation_summary"],
        serde_json::json!({
            "total": 2,
            "by_kind": {"open": 2},
            "by_reason": {"no_rule": 2},
            "top_targets": [{"target": "open /etc/shadow", "denied": 2}],
            "targets_not_counted": 0,
        })
    );
}

#[test]
fn a_run_without_denials_has_no_violations_and_accounts_that_fail_are_told() {
    let counters = SlotCounters {
        records: 3,
        ..SlotCounters::default()
    };
    let trace = trace("quiet", &counters, []);
    assert_eq!(trace["violation_summary"]["total"], 0);
    assert_eq!(trace["policy_violations"], serde_json::json!([]));
    assert_eq!(trace["accounting"]["balanced"], false);
    assert_eq!(trace["accounting"]["unexplained"], 3);
}

#[test]
fn what_does_not_fit_is_counted_and_a_denial_among_it_is_kept() {
    let many = RECORDS_MAX + 5;
    let counters = SlotCounters {
        records: many + 1,
        denied: 1,
        ..SlotCounters::default()
    };
    let body = testing::path_body(Access::READ);
    let allowed = (1..=many).map(|n| testing::path(testing::prefix(n), Kind::Open, body, "/a"));
    let trace = trace(
        "many",
        &counters,
        allowed.chain([denied(many + 1, "/etc/shadow")]),
    );
    assert_eq!(trace["events"].as_array().unwrap().len(), 10_000);
    // Five allowed, one denied, and the end.
    assert_eq!(trace["events_left_out"], 7);
    assert_eq!(trace["policy_violations"][0]["path"], "/etc/shadow");
    assert_eq!(trace["policy_violations_left_out"], 0);
    assert_eq!(trace["accounting"]["balanced"], true);
}

#[test]
fn memory_is_bounded_when_every_path_is_long_and_different() {
    let body = testing::path_body(Access::READ);
    let long = |n: u64| format!("/{n:04}/{}", "\x01".repeat(4000));
    let mut kept = Kept::default();
    let knowledge = Knowledge {
        sandbox: "s1".to_owned(),
        clock: Clock::with_offset(0),
        rules: &[],
        names: None,
        judge: None,
    };
    for number in 1..2000 {
        let prefix = testing::denied(number, Reason::NoRule);
        let bytes = testing::path(prefix, Kind::Open, body, long(number));
        let event = crate::audit::decode::decode(&bytes).unwrap();
        let (processes, sequences) = Default::default();
        let said = knowledge.say(&event);
        let record = knowledge.describe(&event, &said, &processes, &sequences);
        kept.add(&record).unwrap();
    }
    for section in [&kept.events, &kept.denials] {
        assert!(section.json.len() < BYTES_MAX + 64 * 1024);
        assert_eq!(section.kept + section.left_out, 1999);
    }
    let summary = serde_json::to_value(kept.violations.summary()).unwrap();
    assert_eq!(summary["total"], 1999);
    assert_eq!(summary["targets_not_counted"], 1999 - 1024);
}
