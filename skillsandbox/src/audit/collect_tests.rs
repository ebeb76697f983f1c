use std::net::IpAddr;

use serde_json::Value;
use skillsandbox_common::{
    header::{Kind, Reason},
    rule::{Access, Decision},
};

use super::*;
use crate::audit::{
    describe::{Judge, Names, RuleText},
    json_lines::JsonLines,
    record::Deadline,
    testing::{self, Shared},
};

fn knowledge(rules: &[RuleText]) -> Knowledge<'_> {
    Knowledge {
        sandbox: "s1".to_owned(),
        clock: Clock::with_offset(0),
        rules,
        names: None,
        judge: None,
    }
}

fn collector(knowledge: Knowledge<'_>) -> (Collector<'_>, Shared) {
    let out = Shared::default();
    let mut collector = Collector::new(knowledge);
    collector.add("log", Box::new(JsonLines::new(out.clone())));
    (collector, out)
}

fn open(sequence: u64, path: &str) -> Vec<u8> {
    let prefix = testing::prefix(sequence);
    testing::path(prefix, Kind::Open, testing::path_body(Access::READ), path)
}

fn exec(sequence: u64, path: &str) -> Vec<u8> {
    let prefix = testing::prefix(sequence);
    testing::path(prefix, Kind::Exec, testing::path_body(Access::EXEC), path)
}

fn sequences(records: &[Value]) -> Vec<Option<u64>> {
    records.iter().map(|r| r["sequence"].as_u64()).collect()
}

#[test]
fn a_batch_is_written_in_the_order_of_its_sequence_numbers() {
    let (mut collector, out) = collector(knowledge(&[]));
    for sequence in [2, 4, 1, 3] {
        collector.push(&open(sequence, "/a")).unwrap();
    }
    assert!(out.records().is_empty());
    collector.end_batch().unwrap();
    assert_eq!(sequences(&out.records()), [1, 2, 3, 4].map(Some).to_vec());
}

#[test]
fn what_came_after_all_that_is_settled_waits_for_the_next_batch() {
    let (mut collector, out) = collector(knowledge(&[]));
    let mut batch = |before: &[u64], after: &[u64]| {
        let push = |collector: &mut Collector<'_>, numbers: &[u64]| {
            for number in numbers {
                collector.push(&open(*number, "/a")).unwrap();
            }
        };
        push(&mut collector, before);
        collector.settle(u64::MAX);
        push(&mut collector, after);
        collector.end_batch().unwrap();
        sequences(&out.records())
    };
    assert_eq!(batch(&[2, 5], &[7, 4, 1]), [1, 2, 4, 5].map(Some));
    // 3 was made before 5 and is late; 7 was known before it was looked for what came before it.
    assert_eq!(batch(&[3], &[9, 6]), [1, 2, 4, 5, 3, 6, 7].map(Some));
    let note = Note::Deadline(Deadline { seconds: 60 });
    collector.note(&note).unwrap();
    assert_eq!(out.records().len(), 8, "a note brings nothing out");
    let (summary, _) = collector.finish(&SlotCounters::default(), Ending::default());
    assert_eq!(summary.counts.allowed, 8);
    assert_eq!(sequences(&out.records())[8], Some(9));
}

#[test]
fn a_denial_waits_for_what_was_made_before_it_and_is_on_a_ring_still() {
    let (mut collector, out) = collector(knowledge(&[]));
    let body = testing::path_body(Access::READ);
    let prefix = testing::denied(9, Reason::NoRule);
    let denial = testing::path(prefix, Kind::Open, body, "/etc/shadow");
    for event in [open(1, "/a"), open(2, "/a"), denial] {
        collector.push(&event).unwrap();
    }
    collector.settle(2);
    collector.end_batch().unwrap();
    assert_eq!(sequences(&out.records()), [1, 2].map(Some));
    collector.push(&open(3, "/a")).unwrap();
    collector.settle(u64::MAX);
    collector.end_batch().unwrap();
    assert_eq!(sequences(&out.records()), [1, 2, 3, 9].map(Some));
}

#[test]
fn long_events_do_not_wait_for_the_end_of_their_batch() {
    let (mut collector, out) = collector(knowledge(&[]));
    collector.settle(0);
    let path = "a".repeat(4000);
    for number in 1..=4000 {
        collector.push(&open(number, &path)).unwrap();
    }
    assert!(collector.batch.bytes.len() <= BATCH_BYTES_MAX);
    assert!(out.records().len() > 2000);
}

#[test]
fn a_record_names_its_rule_its_host_and_its_program() {
    struct OneName;
    impl Names for OneName {
        fn name_of(&self, address: IpAddr) -> Option<String> {
            (address.to_string() == "203.0.113.9").then(|| "api.example.com".to_owned())
        }
    }
    let rules = [RuleText {
        text: "connect api.example.com:443/tcp".to_owned(),
        line: Some(7),
    }];
    let (mut collector, out) = collector(Knowledge {
        names: Some(&OneName),
        ..knowledge(&rules)
    });
    collector.push(&exec(1, "/usr/bin/python3")).unwrap();
    let prefix = testing::prefix(2);
    let connect = testing::network(prefix, Kind::Connect, "203.0.113.9", 443);
    collector.push(&connect).unwrap();
    let mut prefix = testing::prefix(3);
    prefix.actor.rule = 2;
    let sendmsg = testing::network(prefix, Kind::Sendmsg, "2001:db8::1", 53);
    collector.push(&sendmsg).unwrap();
    collector.end_batch().unwrap();
    let records = out.records();
    assert_eq!(records[0]["executable"], Value::Null);
    assert_eq!(records[1]["executable"], "/usr/bin/python3");
    assert_eq!(records[1]["executable_source"], "resolved");
    assert_eq!(records[1]["name"], "api.example.com");
    assert_eq!(records[1]["address"], "203.0.113.9");
    assert_eq!(records[1]["family"], "inet");
    assert_eq!(records[1]["rule"]["line"], 7);
    assert_eq!(
        records[1]["rule"]["text"],
        "connect api.example.com:443/tcp"
    );
    assert_eq!(records[2]["name"], Value::Null);
    assert_eq!(
        records[2]["rule"],
        serde_json::json!({"number": 2, "text": null, "line": null})
    );
}

#[test]
fn an_execution_that_was_denied_or_failed_is_nobodys_program() {
    let (mut collector, out) = collector(knowledge(&[]));
    collector.push(&exec(1, "/bin/sh")).unwrap();
    let denied = testing::denied(2, Reason::NoRule);
    let body = testing::path_body(Access::EXEC);
    let bytes = testing::path(denied, Kind::Exec, body, "/bin/curl");
    collector.push(&bytes).unwrap();
    let mut failed = body;
    failed.source = PathSource::Passed as u16;
    failed.result = -libc::ENOEXEC;
    let bytes = testing::path(testing::prefix(3), Kind::Exec, failed, "/tmp/x");
    collector.push(&bytes).unwrap();
    collector.push(&open(4, "/a")).unwrap();
    collector.end_batch().unwrap();
    assert_eq!(out.records()[3]["executable"], "/bin/sh");
}

#[test]
fn what_is_not_decoded_is_counted_and_said() {
    let (mut collector, out) = collector(knowledge(&[]));
    collector.push(b"rubbish").unwrap();
    collector.push(&open(1, "/a")).unwrap();
    let counters = SlotCounters {
        records: 2,
        ..SlotCounters::default()
    };
    let (summary, errors) = collector.finish(&counters, Ending::from_wait_status(0));
    assert!(errors.is_empty());
    assert_eq!(summary.counts.undecodable, 1);
    assert!(summary.accounting.balanced, "{summary:?}");
    let records = out.records();
    assert_eq!(records[1]["kind"], "lost");
    assert_eq!(records[1]["undecodable"], 1);
    assert_eq!(records[2]["kind"], "end");
    assert_eq!(records[2]["counts"]["emitted"], 2);
}

#[test]
fn each_loss_is_told_once() {
    let (mut collector, out) = collector(knowledge(&[]));
    let mut counters = SlotCounters {
        records: 9,
        dropped_allowed: 5,
        ..SlotCounters::default()
    };
    collector.counters(&counters).unwrap();
    collector.counters(&counters).unwrap();
    counters.dropped_allowed = 8;
    counters.dropped_denied = 1;
    collector.counters(&counters).unwrap();
    let lost: Vec<_> = out.records().iter().map(|r| r["dropped"].clone()).collect();
    assert_eq!(
        lost,
        vec![
            serde_json::json!({"allowed": 5, "denied": 0, "processes": 0}),
            serde_json::json!({"allowed": 3, "denied": 1, "processes": 0}),
        ]
    );
}

#[test]
fn a_run_that_does_not_add_up_says_so() {
    let (mut collector, _) = collector(knowledge(&[]));
    collector.push(&open(1, "/a")).unwrap();
    collector.push(&open(3, "/b")).unwrap();
    let counters = SlotCounters {
        records: 4,
        dropped_allowed: 1,
        ..SlotCounters::default()
    };
    let (summary, _) = collector.finish(&counters, Ending::default());
    assert!(!summary.accounting.balanced);
    assert_eq!(summary.accounting.unexplained, 1);
    assert_eq!(summary.accounting.missing, vec![(2, 2), (4, 4)]);
}

#[test]
fn without_a_judge_a_call_that_the_kernel_refused_is_a_denial() {
    let (mut collector, out) = collector(knowledge(&[]));
    for (sequence, result) in [(1, -libc::EACCES), (2, -libc::ENOENT), (3, 5)] {
        collector.push(&passed(sequence, "a", result)).unwrap();
    }
    collector.end_batch().unwrap();
    let records = out.records();
    assert_eq!(records[0]["verdict"], "deny");
    assert_eq!(records[0]["reason"], "refused");
    assert_eq!(records[0]["error"], "EACCES");
    assert_eq!(records[0]["directory"], -100);
    assert_eq!(records[1]["verdict"], "allow");
    assert_eq!(records[1]["reason"], "observed");
    assert_eq!(records[1]["error"], "ENOENT");
    assert_eq!(records[2]["result"], 5);
}

fn passed(sequence: u64, path: &str, result: i32) -> Vec<u8> {
    let mut prefix = testing::prefix(sequence);
    prefix.header.reason = Reason::Observed as u8;
    prefix.actor.rule = 0;
    let mut body = testing::path_body(Access::READ);
    body.source = PathSource::Passed as u16;
    body.directory = -100;
    body.result = result;
    testing::path(prefix, Kind::Open, body, path)
}

#[test]
fn a_judge_decides_on_what_was_seen_after_the_fact_and_on_nothing_else() {
    struct Hidden;
    impl Judge for Hidden {
        fn judge(&self, path: &[u8], access: u16, result: i32) -> Decision {
            assert_eq!(
                (path, access, result),
                (&b"/etc/shadow"[..], Access::READ, -libc::ENOENT)
            );
            Decision::deny(Reason::Refused, 1)
        }
    }
    let rules = [RuleText {
        text: "deny /etc/shadow".to_owned(),
        line: None,
    }];
    let (mut collector, out) = collector(Knowledge {
        judge: Some(&Hidden),
        ..knowledge(&rules)
    });
    collector
        .push(&passed(1, "/etc/shadow", -libc::ENOENT))
        .unwrap();
    collector.push(&open(2, "/a")).unwrap();
    collector.end_batch().unwrap();
    let records = out.records();
    assert_eq!(records[0]["verdict"], "deny");
    assert_eq!(records[0]["rule"]["text"], "deny /etc/shadow");
    assert_eq!(records[1]["verdict"], "allow");
}

#[test]
fn a_sink_that_fails_is_reported_once_and_the_others_go_on() {
    struct Full;
    impl Sink for Full {
        fn record(&mut self, _: &Record<'_>) -> io::Result<()> {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }

        fn finish(&mut self, _: &Summary) -> io::Result<()> {
            panic!("a sink that failed was called again")
        }
    }
    let (mut collector, out) = collector(knowledge(&[]));
    collector.add("full", Box::new(Full));
    collector.push(&open(1, "/a")).unwrap();
    let error = collector.end_batch().unwrap_err();
    assert_eq!(error.sink, "full");
    collector.push(&open(2, "/a")).unwrap();
    collector.end_batch().unwrap();
    let (summary, errors) = collector.finish(&SlotCounters::default(), Ending::default());
    assert!(errors.is_empty());
    assert_eq!(summary.failed_sinks.len(), 1);
    assert_eq!(sequences(&out.records()), vec![Some(1), Some(2), None]);
}

#[test]
fn a_note_comes_after_what_was_pushed_before_it() {
    let (mut collector, out) = collector(knowledge(&[]));
    collector.push(&open(1, "/a")).unwrap();
    collector
        .note(&Note::Deadline(Deadline { seconds: 60 }))
        .unwrap();
    let records = out.records();
    assert_eq!(records[0]["kind"], "open");
    assert_eq!(records[1]["kind"], "deadline");
}

#[test]
fn unknown_verdicts_are_neither_allowed_nor_denied() {
    let (mut collector, out) = collector(knowledge(&[]));
    let mut prefix = testing::prefix(1);
    prefix.header.verdict = 7;
    let bytes = testing::path(prefix, Kind::Exec, testing::path_body(4), "/bin/x");
    collector.push(&bytes).unwrap();
    collector.push(&open(2, "/a")).unwrap();
    let counters = SlotCounters {
        records: 2,
        ..SlotCounters::default()
    };
    let (summary, _) = collector.finish(&counters, Ending::default());
    assert_eq!(summary.counts.by_kind.exec.unknown, 1);
    assert!(summary.accounting.balanced);
    assert_eq!(out.records()[0]["verdict"], "unknown_7");
    assert_eq!(out.records()[1]["executable"], Value::Null);
}
