//! What can go wrong while a sandbox is built.

use std::io;
use std::path::{Path, PathBuf};

/// A step of building a sandbox that failed. The skill does not start.
#[derive(Debug, thiserror::Error)]
pub enum IsolateError {
    /// The kernel refused a step.
    #[error("cannot {step}: {source}")]
    Step {
        /// What was being done, and to what.
        step: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A path that the manifest or the caller named cannot be used.
    #[error("{}: {problem}; {remedy}", path.display())]
    Path {
        /// The path as it was named.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// Something other than a path cannot be used, or a layer turned out not to hold.
    #[error("{problem}; {remedy}")]
    Refused {
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
}

/// What the functions of this module return.
pub type Result<T> = std::result::Result<T, IsolateError>;

impl IsolateError {
    pub(super) fn path(path: &Path, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Path {
            path: path.to_owned(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    pub(super) fn refused(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Refused {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// Names the step whose system call failed.
pub(super) trait Step<T> {
    /// `step` completes the sentence "cannot …".
    fn step(self, step: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Step<T> for std::result::Result<T, E> {
    fn step(self, step: impl Into<String>) -> Result<T> {
        self.map_err(|source| IsolateError::Step {
            step: step.into(),
            source: source.into(),
        })
    }
}
