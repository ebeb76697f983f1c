//! A log that another recorder goes on with.

use std::{fs::OpenOptions, io::Write};

use proptest::prelude::*;
use skillsandbox_common::{
    header::{Kind, Reason},
    slot::SlotCounters,
};

use super::super::{About, Log, Replay, ResumeError, Store, Stored, Writer, verify};
use crate::audit::{
    clock::Clock,
    collect::Collector,
    counts::Summary,
    describe::Knowledge,
    record::Ending,
    testing::{self, Scratch},
};

fn knowledge(about: &About) -> Knowledge<'static> {
    Knowledge {
        sandbox: about.sandbox.clone(),
        clock: about.clock(),
        rules: &[],
        names: None,
        judge: None,
    }
}

/// Every third access is denied.
fn event(number: u64) -> Vec<u8> {
    let prefix = if number.is_multiple_of(3) {
        testing::denied(number, Reason::NoRule)
    } else {
        testing::prefix(number)
    };
    testing::path(prefix, Kind::Open, testing::path_body(1), "/etc/shadow")
}

fn push(collector: &mut Collector<'_>, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        collector.push(&event(number)).unwrap();
    }
    collector.end_batch().unwrap();
}

/// Has a recorder write the first `kept` of `all` events and be killed while it writes more, and another one find `again`
/// of them on the ring once more.
fn killed_and_gone_on(kept: u64, again: u64, all: u64, torn: &[u8]) -> (Summary, Vec<u64>) {
    let scratch = Scratch::new("resumed");
    let about = testing::about("run");
    let clock = Clock::with_offset(about.booted_unix_ns);
    let folder = scratch.path("audit");
    let log = Log::begin(Writer::open(&folder).unwrap(), &about, clock.time(0)).unwrap();
    let mut first = Collector::new(knowledge(&about));
    first.add("store", Box::new(log));
    push(&mut first, 1..=kept);
    drop(first);
    let path = folder.join("runs/run.log");
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(torn).unwrap();
    drop(file);

    let (log, found, resumed) = Log::resume(Writer::open(&folder).unwrap(), "run").unwrap();
    assert_eq!(found, about);
    let mut second = Collector::resume(knowledge(&about), resumed);
    second.add("store", Box::new(log));
    push(&mut second, kept - again + 1..=all);
    let counters = SlotCounters {
        records: all,
        denied: all / 3,
        ..SlotCounters::default()
    };
    let (summary, errors) = second.finish(&counters, Ending::default());
    assert!(errors.is_empty());

    let mut replay = Replay::open(std::fs::File::open(&path).unwrap(), "run").unwrap();
    let mut numbers = Vec::new();
    let read = replay.each(|stored| {
        if let Stored::Event(record) = stored {
            numbers.extend(record.sequence);
        }
        Ok(())
    });
    read.unwrap();
    (summary, numbers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn nothing_is_lost_or_doubled_and_the_account_is_that_of_both(
        kept in 1..40_u64, again in 0..40_u64, more in 0..20_u64,
        torn in prop::collection::vec(any::<u8>(), 0..19),
    ) {
        let all = kept + more;
        let (summary, numbers) = killed_and_gone_on(kept, again.min(kept), all, &torn);
        prop_assert!(summary.accounting.balanced, "{:?}", summary.accounting);
        prop_assert_eq!(summary.counts.emitted, all);
        prop_assert_eq!(numbers, (1..=all).collect::<Vec<_>>());
    }
}

#[test]
fn who_has_ended_or_still_writes_is_not_gone_on_with() {
    let scratch = Scratch::new("resumed-ended");
    let about = testing::about("run");
    let clock = Clock::with_offset(about.booted_unix_ns);
    let folder = scratch.path("audit");
    let log = Log::begin(Writer::open(&folder).unwrap(), &about, clock.time(0)).unwrap();
    let again = || Log::resume(Writer::open(&folder).unwrap(), "run");
    assert!(again().is_err(), "it is written");
    let mut collector = Collector::new(knowledge(&about));
    collector.add("store", Box::new(log));
    let (_, errors) = collector.finish(&SlotCounters::default(), Ending::default());
    assert!(errors.is_empty());
    assert!(matches!(again(), Err(ResumeError::Nothing)), "it has ended");
    // Made, and nothing said of it in the ledger.
    let made = folder.join("runs/never.log");
    std::fs::write(&made, "").unwrap();
    let never = Log::resume(Writer::open(&folder).unwrap(), "never");
    assert!(matches!(never, Err(ResumeError::Nothing)));
    assert!(!made.exists());
}

#[test]
fn a_log_that_nothing_was_written_to_is_taken_away() {
    for torn in [&b""[..], b"SSL1\x01"] {
        let scratch = Scratch::new("resumed-empty");
        let folder = scratch.path("audit");
        let writer = Writer::open(&folder).unwrap();
        let clock = Clock::with_offset(0);
        drop(writer.begin("run", clock.time(0).to_string()).unwrap());
        std::fs::write(folder.join("runs/run.log"), torn).unwrap();
        let resumed = Log::resume(writer, "run");
        assert!(matches!(resumed, Err(ResumeError::Nothing)));
        let store = Store::open(&folder).unwrap();
        let report = verify(&store, None).unwrap();
        assert!(report.troubles.is_empty(), "{:?}", report.troubles);
        assert_eq!(report.removed, 1);
    }
}
