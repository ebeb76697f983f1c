//! Why a run did not start, or did not end as it should.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{ceiling::Excess, service::ServiceError};
use crate::{
    audit::{safe_file::SafeFileError, store::StoreError},
    dns::{GrantError, UpstreamError},
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
    /// The manifest asks for more than this host's operator permits.
    #[error("{}", exceeds(.file, .ceiling, .excesses))]
    Exceeds {
        /// The manifest.
        file: String,
        /// The ceiling.
        ceiling: String,
        /// What it asks for.
        excesses: Vec<Excess>,
    },
    /// The manifest is for cgroups that are there already.
    #[error(
        "{file}:{line}: cgroup is for `attach` and the daemon, and `run` makes a cgroup of its own; take it out to run this skill"
    )]
    ForOthers {
        /// The manifest.
        file: String,
        /// The line.
        line: u32,
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
    /// A name of an attached cgroup that cannot be one.
    #[error(
        "{name:?} cannot be the name of an attached cgroup: use at most 40 letters, digits, - and _"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// A cgroup cannot be attached, or what is attached cannot be had.
    #[error("{problem}; {remedy}")]
    Attachment {
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// The addresses of names cannot be handed from one policy to the next.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// Something of a cgroup that is attached is held by nothing.
    #[error(
        "in a cgroup that was there already nothing on this host decides on {what}; with --accept-fallback the rest is held all the same"
    )]
    NotHeld {
        /// What, and why.
        what: String,
    },
    /// There is neither root nor a daemon.
    #[error("{problem}; {remedy}")]
    NobodyToAsk {
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The daemon refused a run, or could not bring it to its end.
    #[error("{why}")]
    Refused {
        /// The exit code for that.
        code: u8,
        /// Why.
        why: String,
    },
    /// The daemon, or whoever asks it, is not understood.
    #[error(transparent)]
    Service(#[from] ServiceError),
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
    pub(super) fn attachment(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Attachment {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

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

fn exceeds(file: &str, ceiling: &str, excesses: &[Excess]) -> String {
    let lines = excesses.iter().map(|excess| excess.told(file, ceiling));
    lines.collect::<Vec<_>>().join("\n")
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
