use skillsandbox_common::{
    header::Kind,
    rule::{Access, Decision},
    slot::SlotCounters,
};

use super::*;
use crate::audit::{
    clock::Clock,
    counts::{Accounting, Counts, Tally},
    decode::decode,
    describe::{Judge, Knowledge, RuleText},
    process::Processes,
    record::{Layer, Lost, Start},
    sequence::Sequences,
    testing,
};
use crate::policy::{Advice, DeniedFile, RuleSet};

fn knowledge(rules: &[RuleText]) -> Knowledge<'_> {
    Knowledge {
        sandbox: "s1".to_owned(),
        clock: Clock::with_offset(0),
        rules,
        names: None,
        judge: None,
    }
}

fn shown(bytes: &[u8], colour: Colour) -> String {
    let rules = [RuleText {
        text: "read /usr".to_owned(),
        line: None,
    }];
    let knowledge = knowledge(&rules);
    let event = decode(bytes).unwrap();
    let (processes, sequences) = (Processes::default(), Sequences::default());
    let said = knowledge.say(&event);
    let record = knowledge.describe(&event, &said, &processes, &sequences);
    show(&record, colour)
}

fn show(record: &Record<'_>, colour: Colour) -> String {
    let mut out = Vec::new();
    let mut watch = Watch::new(&mut out, colour);
    watch.record(record).unwrap();
    watch.end_batch().unwrap();
    drop(watch);
    String::from_utf8(out).unwrap()
}

fn denied_open(path: &[u8]) -> Vec<u8> {
    testing::path(
        testing::denied(1, Reason::NoRule),
        Kind::Open,
        testing::path_body(Access::READ | Access::WRITE),
        path,
    )
}

#[test]
fn a_line_says_what_who_and_why() {
    let open = testing::path(
        testing::prefix(1),
        Kind::Open,
        testing::path_body(Access::READ),
        "/usr/lib/x.so",
    );
    assert_eq!(
        shown(&open, Colour::None),
        "00:00:05.000 allow open    /usr/lib/x.so read  python3[4242]  rule 1: read /usr\n"
    );
    assert_eq!(
        shown(&denied_open(b"/etc/shadow"), Colour::None),
        "00:00:05.000 DENY  open    /etc/shadow read+write  python3[4242]  no_rule\n"
    );
    let connect = testing::network(
        testing::denied(1, Reason::NotGranted),
        Kind::Connect,
        "2001:db8::1",
        443,
    );
    assert_eq!(
        shown(&connect, Colour::None),
        "00:00:05.000 DENY  connect [2001:db8::1]:443 tcp  python3[4242]  not_granted\n"
    );
    assert_eq!(
        shown(&testing::exit(testing::prefix(1), 9), Colour::None),
        "00:00:05.000       exit    by SIGKILL  python3[4242]\n"
    );
}

#[test]
fn a_denial_shows_the_line_that_would_permit_it_as_it_is_to_be_copied() {
    struct Rules;
    impl Judge for Rules {
        fn judge(&self, _: &[u8], _: u16, _: i32) -> Decision {
            Decision::deny(Reason::Refused, 0)
        }

        fn advise_file(&self, denied: &DeniedFile<'_>) -> Option<Advice> {
            Some(RuleSet::default().advise_file(denied))
        }
    }
    let knowledge = Knowledge {
        judge: Some(&Rules),
        ..knowledge(&[])
    };
    let line = |path: &[u8]| {
        let bytes = denied_open(path);
        let event = decode(&bytes).unwrap();
        let (processes, sequences) = (Processes::default(), Sequences::default());
        show(
            &knowledge.describe(&event, &knowledge.say(&event), &processes, &sequences),
            Colour::None,
        )
    };
    let shown = line(b"/a \"b\"");
    assert!(
        shown.ends_with(
            "no_rule  + permissions: { filesystem: { read: [\"/a \\\"b\\\"\"], write: [\"/a \\\"b\\\"\"] } }\n"
        ),
        "{shown:?}"
    );
    // No line can name these.
    for path in [&b"/a\n\x1b[2J"[..], b"/a\xff"] {
        assert!(line(path).ends_with("no_rule\n"), "{path:?}");
    }
}

#[test]
fn only_denials_are_bold_red() {
    let denial = shown(&denied_open(b"/etc/shadow"), Colour::Ansi);
    assert!(denial.contains("\x1b[1;31mDENY\x1b[0m  open"), "{denial:?}");
    let fork = shown(&testing::fork(testing::prefix(1), 7), Colour::Ansi);
    assert!(!fork.contains('\x1b'), "{fork:?}");
}

#[test]
fn what_a_skill_names_can_neither_move_the_cursor_nor_forge_a_line_or_a_column() {
    let path = "/tmp/a\x1b[2K\r\n00:00:00.000 allow\u{202e}".as_bytes();
    let mut event = denied_open(&[path, b"\xff"].concat());
    event[48..64].copy_from_slice(b"x] rule 1\x07\x9b\0\0\0\0\0");
    let line = shown(&event, Colour::None);
    assert_eq!(
        line,
        "00:00:05.000 DENY  open    \
         \"/tmp/a\\u{1b}[2K\\u{d}\\u{a}00:00:00.000 allow\\u{202e}\\xff\" read+write  \
         \"x] rule 1\\u{7}\\x9b\"[4242]  no_rule\n"
    );
}

#[test]
fn notes_are_shown_with_what_is_missing() {
    let start = Note::Start(Start {
        skill_name: "weather\x1b".to_owned(),
        skill_version: "0.1.0".to_owned(),
        program: "/usr/bin/python3".to_owned(),
        tier: "fallback".to_owned(),
        layers: vec![Layer {
            name: "file_open".to_owned(),
            achieved: false,
            detail: None,
        }],
    });
    let knowledge = knowledge(&[]);
    let line = show(&knowledge.note(&start), Colour::None);
    assert!(
        line.ends_with(
            "start weather\\u{1b} 0.1.0, tier fallback: /usr/bin/python3; without file_open\n"
        ),
        "{line:?}"
    );
    let lost = Note::Lost(Lost {
        dropped: crate::audit::counts::Dropped {
            allowed: 3,
            ..Default::default()
        },
        undecodable: 0,
        from_boot_ns: 0,
        skipped: 0,
    });
    let line = show(&knowledge.note(&lost), Colour::None);
    assert!(line.contains("LOST  3 allowed"), "{line:?}");
}

#[test]
fn the_last_line_counts_and_tells_of_accounts_that_do_not_balance() {
    let counters = SlotCounters {
        records: 7,
        dropped_allowed: 2,
        ..SlotCounters::default()
    };
    let counts = Counts::new(Tally::default(), 0, 0, &counters);
    let summary = Summary {
        completed: Clock::with_offset(0).time(0),
        ending: Ending::default(),
        counts,
        accounting: Accounting::new(&counts, &counters, &Sequences::default()),
        failed_sinks: Vec::new(),
    };
    let mut out = Vec::new();
    let mut watch = Watch::new(&mut out, Colour::None);
    watch.finish(&summary).unwrap();
    drop(watch);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "7 decisions, 0 denied, 2 dropped; the accounts do not balance: 5 records are \
         unexplained\n"
    );
}
