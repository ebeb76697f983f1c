//! Why a manifest is refused: every problem, each with its place and its remedy.

use std::fmt;

use serde::Serialize;

use super::limits::PROBLEMS_MAX;
use super::text::visible;

/// A place in a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One thing that is wrong with a manifest.
///
/// Shown as `file:line:column: message; remedy`, on one line whatever the manifest holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The manifest, as the caller named it.
    pub file: String,
    /// Where in it; `None` when the problem is the file itself.
    #[serde(flatten)]
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
    /// What to write or do instead.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&visible(&self.file))?;
        if let Some(Position { line, column }) = self.position {
            write!(formatter, ":{line}:{column}")?;
        }
        write!(
            formatter,
            ": {}; {}",
            visible(&self.message),
            visible(&self.remedy)
        )
    }
}

/// Why a manifest was refused: at least one problem, in the order of the file's reading.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// Every problem found in one pass, up to [`PROBLEMS_MAX`] and one line that counts the rest.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            problem.fmt(formatter)?;
        }
        Ok(())
    }
}

/// Why one value is refused. Its place is added by whoever knows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct Refusal {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
}

impl Refusal {
    pub(super) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

/// The problems of one manifest, gathered while it is read.
pub(super) struct Problems {
    file: String,
    found: Vec<Problem>,
    unlisted: usize,
}

impl Problems {
    pub(super) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            found: Vec::new(),
            unlisted: 0,
        }
    }

    pub(super) fn add(&mut self, position: Option<Position>, refusal: Refusal) {
        if self.found.len() < PROBLEMS_MAX {
            self.found.push(Problem {
                file: self.file.clone(),
                position,
                message: refusal.message,
                remedy: refusal.remedy,
            });
        } else {
            self.unlisted += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn into_error(mut self) -> ManifestError {
        if self.unlisted > 0 {
            self.found.push(Problem {
                file: self.file,
                position: None,
                message: format!("{} more problems are not listed", self.unlisted),
                remedy: "mend the ones above and check again".to_owned(),
            });
        }
        ManifestError {
            problems: self.found,
        }
    }
}
