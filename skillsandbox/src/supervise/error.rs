//! Why a run did not start, or did not end as it should.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    audit::{safe_file::SafeFileError, store::StoreError},
    dns::UpstreamError,
    isolate::IsolateError,
    kernel::KernelError,
    manifest::{ManifestError, NotEnforced, text::visible},
    policy::{CompileError, NetworkError},
};

/// An error of a run, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest asks for what this version cannot hold.
    #[error("{}", not_enforced(.file, .fields))]
    NotEnforced {
        /// The manifest.
        file: String,
        /// What it asks for.
        fields: Vec<NotEnforced>,
    },
    /// A rule cannot be held on this host.
    #[error("{file}{}: {rule} cannot be enforced on this host: {why}", place(*.line))]
    NotHere {
        /// The manifest.
        file: String,
        /// Line of the rule; 0 when that is not known.
        line: u32,
        /// The rule.
        rule: String,
        /// Why not, and what would help.
        why: String,
    },
    /// A rule about something that is not the host's.
    #[error(
        "filesystem.deny {path} cannot be held: the sandbox has a file tree of its own there, without the host's file; take the rule out"
    )]
    NotOfTheHost {
        /// The path.
        path: String,
    },
    /// A unix socket that is granted and denied.
    #[error(
        "network.unix {path} cannot be had: `{rule}` denies it, and a deny wins; take one of the two out"
    )]
    Denied {
        /// The path.
        path: String,
        /// The rule.
        rule: String,
    },
    /// Names cannot be looked up.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// A network that is none.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The rules do not fit the tables.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The host offers less than was asked for.
    #[error("--require kernel: this host offers only the fallback tier: {reason}")]
    TierTooLow {
        /// Why.
        reason: String,
    },
    /// Isolation failed.
    #[error(transparent)]
    Isolate(#[from] IsolateError),
    /// The kernel side failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// An output file cannot be written safely.
    #[error(transparent)]
    Output(#[from] SafeFileError),
    /// The record cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Our own state cannot be kept.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    State {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Killed processes do not go away.
    #[error("processes in {cgroup} are killed and still there (in uninterruptible sleep?): they stay confined, and the next start removes what is left", cgroup = cgroup.display())]
    Unkillable {
        /// The cgroup.
        cgroup: PathBuf,
    },
    /// Something of this process failed.
    #[error("cannot {action}: {source}")]
    Process {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl RunError {
    pub(super) fn state(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::State {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn process(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Process { action, source }
    }
}

fn place(line: u32) -> String {
    if line == 0 {
        String::new()
    } else {
        format!(":{line}")
    }
}

fn not_enforced(file: &str, fields: &[NotEnforced]) -> String {
    let lines: Vec<String> = fields
        .iter()
        .map(|found| {
            format!(
                "{}:{}: {} is not enforced yet: {}; take it out to run this skill",
                visible(file),
                found.line,
                found.field,
                found.why
            )
        })
        .collect();
    lines.join("\n")
}
