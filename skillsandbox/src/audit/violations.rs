//! What was denied, counted: by kind, by reason, and the targets denied most often.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

use serde::Serialize;
use skillsandbox_common::header::Reason;

use super::{
    code::Code,
    record::{
        Event, FileAccess, NetworkAccess, Note, ProcessAccess, Record, SocketAccess, UnixAccess,
        What,
    },
    text::Escaped,
};

/// Most targets that are counted one by one.
const TARGETS_MAX: usize = 1024;

/// Most targets that are listed.
const TARGETS_LISTED: usize = 20;

/// Counts denials as they come. Bounded.
#[derive(Debug, Default)]
pub struct Violations {
    total: u64,
    by_kind: BTreeMap<&'static str, u64>,
    by_reason: BTreeMap<Code<Reason>, u64>,
    targets: HashMap<String, u64>,
    /// Denials of targets that came after the first [`TARGETS_MAX`].
    other_targets: u64,
    scratch: String,
}

/// The same, to be written.
#[derive(Debug, Serialize)]
pub struct ViolationSummary<'a> {
    total: u64,
    by_kind: &'a BTreeMap<&'static str, u64>,
    by_reason: &'a BTreeMap<Code<Reason>, u64>,
    top_targets: Vec<Target<'a>>,
    /// Denials of targets that are not among those counted.
    targets_not_counted: u64,
}

#[derive(Debug, Serialize)]
struct Target<'a> {
    target: &'a str,
    denied: u64,
}

impl Violations {
    /// Counts the record if it is a denial.
    pub fn add(&mut self, record: &Record<'_>) {
        self.scratch.clear();
        let event = match &record.what {
            What::Note(Note::Dns(dns)) if dns.is_denial() => {
                let name = dns.name.as_deref().unwrap_or("?");
                let _ = write!(self.scratch, "dns {}", Escaped(name.as_bytes()));
                return self.count("dns", dns.reason);
            }
            What::Event(event) if record.is_denial() => event,
            _ => return,
        };
        let (kind, decided) = match event {
            Event::Connect(network) => (
                "connect",
                network_target(&mut self.scratch, "connect", network),
            ),
            Event::Sendmsg(network) => (
                "sendmsg",
                network_target(&mut self.scratch, "sendmsg", network),
            ),
            Event::Bind(network) => ("bind", network_target(&mut self.scratch, "bind", network)),
            Event::Socket(socket) => ("socket", socket_target(&mut self.scratch, socket)),
            Event::Unix(unix) => ("unix", unix_target(&mut self.scratch, unix)),
            Event::Ptrace(ptrace) => ("ptrace", process_target(&mut self.scratch, ptrace)),
            other => match other.file() {
                Some((kind, file)) => (kind, file_target(&mut self.scratch, kind, file)),
                None => return,
            },
        };
        self.count(kind, decided);
    }

    /// Counts one of this kind, whose target is in `scratch`.
    fn count(&mut self, kind: &'static str, reason: Code<Reason>) {
        self.total += 1;
        *self.by_kind.entry(kind).or_default() += 1;
        *self.by_reason.entry(reason).or_default() += 1;
        if let Some(count) = self.targets.get_mut(&self.scratch) {
            *count += 1;
        } else if self.targets.len() < TARGETS_MAX {
            self.targets.insert(self.scratch.clone(), 1);
        } else {
            self.other_targets += 1;
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn summary(&self) -> ViolationSummary<'_> {
        let mut top_targets: Vec<_> = self
            .targets
            .iter()
            .map(|(target, denied)| Target {
                target,
                denied: *denied,
            })
            .collect();
        top_targets
            .sort_by(|one, other| (other.denied, one.target).cmp(&(one.denied, other.target)));
        top_targets.truncate(TARGETS_LISTED);
        ViolationSummary {
            total: self.total,
            by_kind: &self.by_kind,
            by_reason: &self.by_reason,
            top_targets,
            targets_not_counted: self.other_targets,
        }
    }
}

// Writing to a String does not fail.
fn file_target(out: &mut String, kind: &str, file: &FileAccess<'_>) -> Code<Reason> {
    let path = file.path.map_or(&b"(no path)"[..], |path| path.0);
    let _ = write!(out, "{kind} {}", Escaped(path));
    file.decided.reason
}

fn network_target(out: &mut String, kind: &str, network: &NetworkAccess<'_>) -> Code<Reason> {
    let address = std::net::SocketAddr::new(network.address, network.port);
    let _ = write!(out, "{kind} {address}/{}", network.protocol);
    network.decided.reason
}

fn socket_target(out: &mut String, socket: &SocketAccess<'_>) -> Code<Reason> {
    let (family, kind, protocol) = (&socket.family, &socket.socket_type, socket.protocol);
    let _ = write!(out, "socket {family} {kind}/{protocol}");
    socket.decided.reason
}

fn unix_target(out: &mut String, unix: &UnixAccess<'_>) -> Code<Reason> {
    let at = if unix.is_abstract { "@" } else { "" };
    let name = unix.path.map_or(&b"(no name)"[..], |name| name.0);
    let _ = write!(out, "unix {at}{}", Escaped(name));
    unix.decided.reason
}

fn process_target(out: &mut String, ptrace: &ProcessAccess<'_>) -> Code<Reason> {
    let _ = write!(out, "ptrace {}", ptrace.target);
    ptrace.decided.reason
}
