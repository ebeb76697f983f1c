//! Inputs to start from: what is read every day.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Target;
use crate::paths;

/// Writes the seeds of a target into its corpus.
pub(super) fn write(target: Target, corpus: &Path) -> Result<()> {
    match target {
        Target::Manifest => manifests(&paths::project().join("manifests"), corpus),
        Target::Event => events(corpus),
        Target::Question => questions(corpus),
    }
}

/// The examples, good and bad.
fn manifests(folder: &Path, corpus: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            manifests(&path, corpus)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let inside = path.strip_prefix(paths::project()).unwrap_or(&path);
            let name = inside.to_string_lossy().replace('/', "-");
            fs::copy(&path, corpus.join(name))?;
        }
    }
    Ok(())
}

/// Questions for records of some types, with and without what says how long an answer may be.
fn questions(corpus: &Path) -> Result<()> {
    const HEADER: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0";
    const EXTENDED: &[u8] = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";
    for kind in [1, 5, 10, 16, 28, 64, 65, 255_u8] {
        for extended in [false, true] {
            let mut question = [HEADER, &[u8::from(extended)]].concat();
            question.extend(b"\x03api\x07example\x03com\0\0");
            question.extend([kind, 0, 1]);
            if extended {
                question.extend(EXTENDED);
            }
            fs::write(corpus.join(format!("question-{kind}-{extended}")), question)?;
        }
    }
    Ok(())
}

/// More kinds of events than there are.
const KINDS: u8 = 24;

/// An event of every kind with each length of body that a kind has, of zeros and a name. The target
/// sets the version and the length right.
fn events(corpus: &Path) -> Result<()> {
    const KIND: usize = 1;
    const PREFIX: usize = 64;
    for kind in 1..=KINDS {
        for (body, name) in [
            (4, "/run/socket"),
            (8, ""),
            (16, "/usr/bin/python3"),
            (24, ""),
        ] {
            let mut event = vec![0; PREFIX + body];
            if let Some(place) = event.get_mut(KIND) {
                *place = kind;
            }
            event.extend(name.bytes());
            fs::write(corpus.join(format!("event-{kind}-{body}")), event)?;
        }
    }
    Ok(())
}
