//! Manifests made to exhaust, stall or deceive the reader.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::manifest::{
    EGRESS_MAX, MANIFEST_BYTES_MAX, Manifest, ManifestError, NODES_MAX, PATHS_MAX, PROBLEMS_MAX,
};

/// Far above what any of these takes, far below what a quadratic reader would.
const PATIENCE: Duration = Duration::from_secs(20);

fn refused(text: &str) -> ManifestError {
    let started = Instant::now();
    let outcome = Manifest::parse("hostile.yaml", text.as_bytes());
    assert!(started.elapsed() < PATIENCE, "took {:?}", started.elapsed());
    outcome.unwrap_err()
}

fn first_message(text: &str) -> String {
    refused(text).problems[0].message.clone()
}

/// `unit` as often as it fits into a manifest.
fn full_of(unit: &str) -> String {
    unit.repeat(MANIFEST_BYTES_MAX / unit.len())
}

#[test]
fn a_file_over_the_size_limit_is_refused_unread() {
    let text = format!("# {}", "a".repeat(MANIFEST_BYTES_MAX));
    assert_eq!(
        first_message(&text),
        "the manifest has more than 1048576 bytes"
    );
}

#[test]
fn an_endless_file_is_read_only_up_to_the_limit() {
    // Not a regular file, and endless if it were.
    let error = Manifest::load(Path::new("/dev/zero")).unwrap_err();
    assert_eq!(
        error.problems[0].message,
        "the manifest is not a regular file"
    );
}

#[test]
fn deep_nesting_is_refused_in_every_style() {
    let ours = "lists and maps are nested more than 32 deep";
    // The scanner looks ahead for the end of a key, and has a limit of its own.
    let scanners = "this cannot be read as YAML: recursion limit exceeded";
    for unit in ["[", "{", "{a: ", "[a: ", "- ", "? ", "- ? "] {
        let message = first_message(&full_of(unit));
        assert!(message == ours || message == scanners, "{unit}: {message}");
    }
    let mut steps = String::new();
    for depth in 0..1_000 {
        let _ = writeln!(steps, "{}a:", " ".repeat(depth));
    }
    assert_eq!(first_message(&steps), ours);
}

#[test]
fn many_values_are_refused_before_they_are_held() {
    let message = format!("the manifest holds more than {NODES_MAX} values");
    assert_eq!(
        first_message(&format!("skill: [{}]", "a, ".repeat(300_000))),
        message
    );
    assert_eq!(first_message(&full_of("- a\n")), message);
}

#[test]
fn other_extremes_of_a_megabyte_are_refused_in_time() {
    for unit in [
        "a",
        " ",
        "\n",
        "\t",
        "'",
        "\"",
        "#",
        "&a ",
        "*a ",
        "!a ",
        "%",
        "|",
        ">",
        "---\n",
        "...\n",
        ": ",
        ",",
        "]",
        "}",
        "a: ",
        "\\",
        "\"\\",
        "? a\n",
        "a:\n",
        "'a",
        "é",
        "- - ",
        "a\n\n",
        "[a: ",
        "%TAG ! a\n",
        "k: |\n",
    ] {
        refused(&full_of(unit));
        refused(&format!(
            "skill: [{}",
            full_of(unit).split_at(MANIFEST_BYTES_MAX - 16).0
        ));
    }
}

#[test]
fn an_alias_bomb_expands_to_nothing() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let below = format!("*a{}", level - 1);
        let _ = writeln!(
            text,
            "a{level}: &a{level} [{}]",
            [below.as_str(); 10].join(", ")
        );
    }
    let error = refused(&text);
    assert_eq!(error.problems[0].message, "anchors (`&name`) are not read");
    assert_eq!(error.problems.len(), PROBLEMS_MAX + 1);
}

#[test]
fn a_megabyte_of_problems_is_counted_not_listed() {
    let error = refused(&format!("{}1: 1\n", "a: 1\n".repeat(40_000)));
    assert_eq!(error.problems.len(), PROBLEMS_MAX + 1);
    let last = &error.problems[PROBLEMS_MAX];
    assert!(
        last.message.ends_with("more problems are not listed"),
        "{last}"
    );
}

#[test]
fn more_entries_than_allowed_are_refused_and_as_many_are_not() {
    let manifest = |egress: usize, paths: usize| {
        let mut text = "skill: { name: a, version: '1' }\nentrypoint: { command: a }\n\
                        permissions:\n  network:\n    egress:\n"
            .to_owned();
        for index in 0..egress {
            let _ = writeln!(text, "      - domain: host{index}.example.com");
        }
        text += "  filesystem:\n    read:\n";
        for index in 0..paths {
            let _ = writeln!(text, "      - /data/{index}");
        }
        text
    };
    let most = Manifest::parse("most.yaml", manifest(EGRESS_MAX, PATHS_MAX).as_bytes()).unwrap();
    assert_eq!(most.permissions.network.egress.len(), EGRESS_MAX);
    assert_eq!(most.permissions.filesystem.read.len(), PATHS_MAX);
    assert_eq!(
        first_message(&manifest(EGRESS_MAX + 1, PATHS_MAX)),
        "permissions.network.egress has 10001 entries, more than 10000"
    );
    assert_eq!(
        first_message(&manifest(EGRESS_MAX, PATHS_MAX + 1)),
        "permissions.filesystem.read has 4097 entries, more than 4096"
    );
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let folder = fresh_folder("fifo");
    let fifo = folder.join("skillsandbox.yaml");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let started = Instant::now();
    let from_fifo = Manifest::load(&fifo).unwrap_err();
    let from_folder = Manifest::load(&folder).unwrap_err();
    let from_nothing = Manifest::load(&folder.join("nothing")).unwrap_err();
    assert!(started.elapsed() < PATIENCE);
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(
        from_fifo.problems[0].message,
        "the manifest is not a regular file"
    );
    assert_eq!(
        from_folder.problems[0].message,
        "the manifest is not a regular file"
    );
    assert!(
        from_nothing.problems[0]
            .message
            .starts_with("cannot open the manifest")
    );
}

#[test]
fn a_file_name_with_control_characters_is_shown_as_escapes() {
    let path = std::ffi::OsStr::from_bytes(b"/nowhere/\x1b[2J\n\xff.yaml");
    let shown = Manifest::load(Path::new(path)).unwrap_err().to_string();
    assert!(
        shown.starts_with("/nowhere/\\u{1b}[2J\\n\u{fffd}.yaml: cannot open"),
        "{shown}"
    );
}

#[test]
fn a_problem_at_the_end_is_on_the_last_line_whether_or_not_that_ends() {
    for (text, line, column) in [
        ("a: b\nskill", 2, 6),
        ("a: b\r\nskill", 2, 6),
        ("a: b\rskill", 2, 6),
        ("a: b\nskill\n", 3, 1),
        ("---", 1, 4),
    ] {
        let error = refused(text);
        let position = error.problems[0].position.expect("a place");
        assert_eq!((position.line, position.column), (line, column), "{text:?}");
    }
}

#[test]
fn messages_hold_no_control_characters_of_the_manifest() {
    let shown = refused("\"a\\e[2J\\nb\": 1\nskill: \"\\x9b\"\nother: \"c\\nd\"\n").to_string();
    for line in shown.lines() {
        assert!(line.starts_with("hostile.yaml:"), "{line}");
        assert!(!line.chars().any(char::is_control), "{line}");
    }
}

/// A fresh folder of this test's own.
fn fresh_folder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("skillsandbox-{name}-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    folder
}
