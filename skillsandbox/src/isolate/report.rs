//! What the launcher tells the supervisor: one JSON record per line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};

use serde::{Deserialize, Serialize};

use super::error::{IsolateError, Result, Step};

/// A layer that the launcher puts around the skill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// PID, IPC, host name, mount and cgroup namespaces.
    Namespaces,
    /// A file tree of its own.
    Mounts,
    /// Membership in the cgroup that the eBPF programs are attached to.
    Cgroup,
    /// Resource limits of the process (`setrlimit`).
    Limits,
    /// Landlock rules.
    Landlock,
    /// User, groups, capabilities, `no_new_privs`.
    Privileges,
    /// System call filters.
    Seccomp,
    /// The eBPF programs on the cgroup. Not the launcher's, but left out as the others are.
    Ebpf,
    /// The chains of iptables and ip6tables. Not the launcher's either.
    Iptables,
}

/// How far a layer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All that it is made for.
    Enforced,
    /// Some of it; the detail says what is missing.
    Partial,
    /// Nothing: the host lacks it.
    Absent,
    /// Nothing: it was left out; the detail says by whom.
    Off,
}

/// What a layer achieved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerReport {
    /// The layer.
    pub layer: Layer,
    /// How far it holds.
    pub status: Status,
    /// What holds, in words, as found and not as intended.
    pub detail: String,
}

impl LayerReport {
    pub(super) fn new(layer: Layer, status: Status, detail: impl Into<String>) -> Self {
        Self {
            layer,
            status,
            detail: detail.into(),
        }
    }

    pub(super) fn off(layer: Layer) -> Self {
        Self::new(layer, Status::Off, "switched off for a test")
    }
}

/// How the skill's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Ended {
    /// The exit code that a shell would show.
    #[must_use]
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// One line from the launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A layer is in force.
    Layer(LayerReport),
    /// Nothing but `execve` is left to do.
    Ready,
    /// `execve` succeeded: the skill is running.
    Started,
    /// A step failed, and the skill was not started.
    Failed(String),
    /// The skill ended.
    Ended(Ended),
}

/// Writes `record` in one piece, so that records of two processes never mix.
pub(super) fn write(mut to: impl Write, record: &Record) -> Result<()> {
    let mut line = serde_json::to_vec(record)
        .map_err(io::Error::from)
        .step("encode a record of the report")?;
    line.push(b'\n');
    to.write_all(&line).step("write to the report")
}

/// The launcher's records, read as they come. Reading blocks.
#[derive(Debug)]
pub struct Report(BufReader<File>);

impl Report {
    pub(super) fn new(pipe: File) -> Self {
        Self(BufReader::new(pipe))
    }

    /// Waits until the skill runs; returns what each layer achieved.
    pub fn until_started(&mut self) -> Result<Vec<LayerReport>> {
        let mut layers = Vec::new();
        loop {
            match self.record()? {
                Some(Record::Layer(layer)) => layers.push(layer),
                Some(Record::Ready) => {}
                Some(Record::Started) => return Ok(layers),
                Some(Record::Failed(reason)) => {
                    return Err(IsolateError::refused(reason, "the skill was not started"));
                }
                Some(Record::Ended(_)) | None => {
                    return Err(IsolateError::refused(
                        "the launcher ended before it started the skill",
                        "something killed it; look for the out-of-memory killer in the kernel log",
                    ));
                }
            }
        }
    }

    /// Waits until the skill ends; `None` when the sandbox was killed as a whole.
    pub fn until_ended(&mut self) -> Result<Option<Ended>> {
        loop {
            match self.record()? {
                Some(Record::Ended(ended)) => return Ok(Some(ended)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    fn record(&mut self) -> Result<Option<Record>> {
        let mut line = String::new();
        if self
            .0
            .read_line(&mut line)
            .step("read the launcher's report")?
            == 0
        {
            return Ok(None);
        }
        serde_json::from_str(&line)
            .map(Some)
            .map_err(io::Error::from)
            .step("read a record of the launcher's report")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Record::Failed("two\nlines".into())).unwrap();
        write(&mut bytes, &Record::Ended(Ended::Signal(9))).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert_eq!(text.lines().nth(1), Some(r#"{"ended":{"signal":9}}"#));
    }

    #[test]
    fn a_signal_is_shown_as_a_shell_does() {
        assert_eq!(Ended::Code(3).exit_code(), 3);
        assert_eq!(Ended::Signal(9).exit_code(), 137);
    }
}
