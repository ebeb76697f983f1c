//! Any bytes as a manifest: accepted and the same again when written out, or refused with problems
//! that can be shown, each in a place that the file has.

#![no_main]

use libfuzzer_sys::fuzz_target;
use skillsandbox::manifest::{DenyPattern, Manifest, ManifestError};

fuzz_target!(|bytes: &[u8]| {
    match Manifest::parse("skillsandbox.yaml", bytes) {
        Ok(manifest) => accepted(&manifest),
        Err(error) => refused(&error, bytes),
    }
});

fn accepted(manifest: &Manifest) {
    let yaml = serde_yaml::to_string(manifest).expect("a manifest is YAML");
    let json = serde_json::to_string(manifest).expect("a manifest is JSON");
    for written in [yaml, json] {
        let again = Manifest::parse("skillsandbox.yaml", written.as_bytes());
        assert_eq!(again.as_ref(), Ok(manifest), "{written}");
    }
    let permissions = &manifest.permissions;
    let files = &permissions.filesystem;
    let denied = files.deny.iter().filter_map(|deny| match &deny.value {
        DenyPattern::Path(path) => Some(path),
        DenyPattern::AnyDepth(_) => None,
    });
    let granted = files.read.iter().chain(&files.write).chain(&permissions.exec.allow);
    for path in granted.map(|path| &path.value).chain(denied) {
        let path = path.as_str();
        assert!(path.len() <= 255 && path.len() > 1, "{path}");
        let mut parts = path.strip_prefix('/').expect("absolute").split('/');
        assert!(parts.all(|part| !["", ".", ".."].contains(&part)), "{path}");
    }
}

fn refused(error: &ManifestError, bytes: &[u8]) {
    assert!(!error.problems.is_empty());
    for line in error.to_string().lines() {
        assert!(line.starts_with("skillsandbox.yaml:"), "{line}");
        assert!(!line.chars().any(char::is_control), "{line}");
    }
    // A carriage return alone ends a line of YAML, too.
    let lines = 1 + bytes.iter().filter(|byte| b"\n\r".contains(byte)).count();
    for problem in &error.problems {
        let Some(position) = problem.position else { continue };
        let line = usize::try_from(position.line).expect("a number");
        assert!((1..=lines).contains(&line), "{problem}");
        let column = usize::try_from(position.column).expect("a number");
        assert!((1..=bytes.len() + 1).contains(&column), "{problem}");
    }
}
