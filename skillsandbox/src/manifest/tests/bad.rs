//! Every manifest in `manifests/bad` has one fault, and is refused in exactly the words next to it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::manifest::Manifest;

fn bad_manifests() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/bad");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    paths.sort();
    paths
}

#[test]
fn each_bad_manifest_is_refused_in_the_expected_words() {
    let paths = bad_manifests();
    assert!(
        paths.len() >= 100,
        "only {} manifests were found",
        paths.len()
    );
    let mut differences = String::new();
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected = fs::read_to_string(path.with_extension("expected")).unwrap();
        let found = match Manifest::parse(name, &fs::read(&path).unwrap()) {
            Ok(_) => "accepted\n".to_owned(),
            Err(error) => format!("{error}\n"),
        };
        if found != expected {
            let _ = write!(differences, "expected {expected}found    {found}");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn every_problem_names_its_file_and_a_remedy() {
    for path in bad_manifests() {
        let error = Manifest::load(&path).unwrap_err();
        assert!(!error.problems.is_empty());
        for problem in error.problems {
            assert_eq!(problem.file, path.to_str().unwrap());
            assert!(problem.position.is_some(), "{problem}");
            assert!(
                !problem.message.is_empty() && !problem.remedy.is_empty(),
                "{problem}"
            );
        }
    }
}

#[test]
fn all_problems_are_found_in_one_pass() {
    let text = "skill: { name: '', version: 1 }\n\
                permissions: { filesystem: { read: [a, /b, /../c] } }\n\
                entrypoint: { command: '' }\n\
                resources: { memory_mb: 0, max_runtime_seconds: 0 }\n\
                unknown: 1\n";
    let error = Manifest::parse("several.yaml", text.as_bytes()).unwrap_err();
    let lines: Vec<_> = error
        .problems
        .iter()
        .filter_map(|problem| problem.position)
        .map(|at| at.line)
        .collect();
    assert_eq!(lines, [5, 1, 1, 2, 2, 4, 4, 3]);
    assert_eq!(error.to_string().lines().count(), 8);
}
