//! Every manifest of `manifests/bad` is refused by the program in the words next to it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use skillsandbox_tests::sandbox::plain_skillsandbox;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

fn bad() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder().join("bad")).expect("manifests/bad");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 40, "only {} bad manifests", paths.len());
    paths
}

#[test]
fn validate_refuses_each_bad_manifest_in_the_expected_words() {
    for path in bad() {
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let expected = fs::read_to_string(path.with_extension("expected")).expect("the words");
        let output = plain_skillsandbox()
            .current_dir(folder().join("bad"))
            .args(["validate", &name])
            .output()
            .expect("skillsandbox starts");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(120), "{name}: {words}");
        assert!(
            words.starts_with(&expected),
            "{name}: {words}\nnot {expected}"
        );
        assert!(!words.contains("panicked"), "{name}: {words}");
        assert!(output.stdout.is_empty(), "{name}");
    }
}

#[test]
fn run_refuses_bad_manifests_as_validate_does() {
    for path in bad().iter().step_by(8) {
        let output = plain_skillsandbox()
            .args(["run", "--manifest"])
            .arg(path)
            .args(["--", "true"])
            .output()
            .expect("skillsandbox starts");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            output.status.code(),
            Some(120),
            "{}: {words}",
            path.display()
        );
        assert!(!words.contains("panicked"), "{}: {words}", path.display());
    }
}

#[test]
fn the_examples_are_accepted() {
    for name in ["weather", "malicious-weather", "original/skillsandbox.yaml"] {
        let output = plain_skillsandbox()
            .arg("validate")
            .arg(folder().join(name))
            .output();
        let output = output.expect("skillsandbox starts");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{name}: {words}");
    }
}
