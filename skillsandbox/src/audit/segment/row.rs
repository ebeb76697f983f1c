//! A record as a row, and back: what comes back is written out as the same bytes.

use std::borrow::Cow;

use serde_json::Value;

use super::columns::Row;
use crate::audit::{
    bits::{AccessBits, OpenFlags},
    clock::Time,
    code::{Code, Number, errno_name, signal_name},
    field,
    record::{
        Actor, Decided, Ending, Event, Exit, FileAccess, Fork, NetworkAccess, ProcessAccess,
        RECORD_VERSION, Record, Rule, SocketAccess, UnixAccess, What,
    },
    store::About,
    text::{Escaped, HexUnlessUtf8, Text},
};

/// Bytes as JSON has them.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(Escaped(bytes).to_string()),
    }
}

fn said<'a>(value: impl std::fmt::Display) -> Cow<'a, str> {
    Cow::Owned(value.to_string())
}

impl<'a> Row<'a> {
    /// What all rows of a run have.
    pub(super) fn of_run(about: &'a About) -> Self {
        let text = |text: &'a str| Some(Cow::Borrowed(text));
        Self {
            run: text(&about.run),
            sandbox: text(&about.sandbox),
            skill_name: text(&about.skill_name),
            skill_version: text(&about.skill_version),
            host: text(&about.host),
            tier: text(&about.tier),
            booted: i64::try_from(about.booted_unix_ns).ok(),
            ..Self::default()
        }
    }

    /// The row of an event. `None` if it has no place in one: a time before 1970 or after 2262.
    pub(super) fn of_event(about: &'a About, record: &'a Record<'a>) -> Option<Self> {
        let What::Event(event) = &record.what else {
            return None;
        };
        let mut row = Self::of_run(about);
        row.booted?;
        row.time = i64::try_from(record.time.unix_ns()).ok();
        row.time?;
        row.sequence = Some(record.sequence?);
        if let Some(decided) = record.decision() {
            row.decided(decided);
        }
        row.event(event);
        Some(row)
    }

    /// The row of a record of userspace's own, which is this line of JSON.
    pub(super) fn of_note(about: &'a About, line: &'a [u8]) -> Option<Self> {
        let line = str::from_utf8(line).ok()?;
        let note: Value = serde_json::from_str(line).ok()?;
        let of =
            |pointer: &str| field::text(&note, pointer).map(|text| Cow::Owned(text.to_owned()));
        let number = |pointer: &str| field::number(&note, pointer);
        let booted = about.booted_unix_ns;
        let since_boot = number("/boot_ns")?;
        Some(Self {
            time: i64::try_from(booted + i128::from(since_boot)).ok(),
            kind: of("/kind"),
            verdict: of("/verdict"),
            reason: of("/reason"),
            rule: number("/rule/number").and_then(|rule| rule.try_into().ok()),
            rule_text: of("/rule/text"),
            name: of("/name"),
            address: of("/address"),
            path: of("/path"),
            comm: of("/comm"),
            pid: number("/pid").and_then(|pid| pid.try_into().ok()),
            tgid: number("/tgid").and_then(|tgid| tgid.try_into().ok()),
            note: Some(Cow::Borrowed(line)),
            ..Self::of_run(about)
        })
    }

    fn decided(&mut self, decided: &'a Decided<'a>) {
        self.verdict = Some(decided.verdict.text());
        self.reason = Some(decided.reason.text());
        if let Some(rule) = &decided.rule {
            self.rule = Some(rule.number);
            self.rule_text = rule.text.map(Cow::Borrowed);
            self.rule_line = rule.line;
        }
        self.permit = decided.permit.map(Cow::Borrowed);
        self.remedy = decided.remedy.map(Cow::Borrowed);
    }

    fn actor(&mut self, actor: &Actor<'a>) {
        self.pid = Some(actor.pid);
        self.tgid = Some(actor.tgid);
        self.ppid = Some(actor.ppid);
        self.uid = Some(actor.uid);
        self.gid = Some(actor.gid);
        self.comm = Some(text(actor.comm.0));
        self.executable = actor.executable.map(|path| text(path.0));
        self.executable_source = actor.executable_source.map(Code::text);
    }

    fn path(&mut self, path: Option<Text<'a>>, bytes: HexUnlessUtf8<'a>) {
        self.path = path.map(|path| text(path.0));
        self.path_bytes = str::from_utf8(bytes.0)
            .is_err()
            .then_some(Cow::Borrowed(bytes.0));
    }

    fn event(&mut self, event: &Event<'a>) {
        if let Some((kind, file)) = event.file() {
            self.kind = Some(Cow::Borrowed(kind));
            return self.file(file);
        }
        let kind = match event {
            Event::Connect(network) => self.network("connect", network),
            Event::Sendmsg(network) => self.network("sendmsg", network),
            Event::Bind(network) => self.network("bind", network),
            Event::Socket(socket) => {
                self.actor(&socket.actor);
                self.family = Some(said(socket.family));
                self.protocol = Some(said(socket.protocol));
                self.socket_type = Some(said(socket.socket_type));
                "socket"
            }
            Event::Unix(unix) => {
                self.actor(&unix.actor);
                self.path(unix.path, unix.path_bytes);
                self.is_abstract = Some(unix.is_abstract);
                self.socket_type = Some(said(unix.socket_type));
                "unix"
            }
            Event::Ptrace(process) => {
                self.actor(&process.actor);
                self.target = Some(process.target);
                self.mode = Some(process.mode);
                "ptrace"
            }
            Event::Fork(fork) => {
                self.actor(&fork.actor);
                self.child = Some(fork.child);
                "fork"
            }
            Event::Exit(exit) => {
                self.actor(&exit.actor);
                self.exit_code = exit.ending.exit_code;
                self.signal = exit.ending.signal;
                self.signal_name = exit.ending.signal_name.map(Cow::Borrowed);
                "exit"
            }
            _file => return,
        };
        self.kind = Some(Cow::Borrowed(kind));
    }

    fn file(&mut self, file: &FileAccess<'a>) {
        self.actor(&file.actor);
        self.path(file.path, file.path_bytes);
        self.access = Some(said(file.access));
        self.path_source = Some(file.path_source.text());
        self.directory = file.directory;
        self.open_flags = file.open_flags.map(|flags| flags.0);
        self.result = file.result;
        self.error = file.error.map(Cow::Borrowed);
    }

    fn network(&mut self, kind: &'static str, network: &NetworkAccess<'a>) -> &'static str {
        self.actor(&network.actor);
        self.address = Some(said(network.address));
        self.port = Some(network.port);
        self.family = Some(said(network.family));
        self.protocol = Some(said(network.protocol));
        self.socket_type = Some(said(network.socket_type));
        self.name = network.name.map(Cow::Borrowed);
        kind
    }

    /// The event that this is the row of; `None` where a value that it needs is missing, or is none.
    pub(super) fn record(&self) -> Option<Record<'_>> {
        let unix_ns = u64::try_from(self.time?).ok()?;
        let since_boot = i128::from(self.time?) - i128::from(self.booted?);
        Some(Record {
            v: RECORD_VERSION,
            time: Time::at(unix_ns),
            boot_ns: since_boot.try_into().ok()?,
            sandbox: self.sandbox.as_deref()?,
            sequence: Some(self.sequence?),
            what: What::Event(self.to_event()?),
        })
    }

    fn to_event(&self) -> Option<Event<'_>> {
        Some(match self.kind.as_deref()? {
            "open" => Event::Open(self.to_file()?),
            "exec" => Event::Exec(self.to_file()?),
            "map" => Event::Map(self.to_file()?),
            "unlink" => Event::Unlink(self.to_file()?),
            "rename" => Event::Rename(self.to_file()?),
            "rename_to" => Event::RenameTo(self.to_file()?),
            "link" => Event::Link(self.to_file()?),
            "link_to" => Event::LinkTo(self.to_file()?),
            "truncate" => Event::Truncate(self.to_file()?),
            "create" => Event::Create(self.to_file()?),
            "attributes" => Event::Attributes(self.to_file()?),
            "connect" => Event::Connect(self.to_network()?),
            "sendmsg" => Event::Sendmsg(self.to_network()?),
            "bind" => Event::Bind(self.to_network()?),
            "socket" => Event::Socket(SocketAccess {
                decided: self.to_decided()?,
                actor: self.to_actor()?,
                family: Number::parse(self.family.as_deref()?, Number::family)?,
                protocol: self.protocol.as_deref()?.parse().ok()?,
                socket_type: Number::parse(self.socket_type.as_deref()?, Number::socket_type)?,
            }),
            "unix" => Event::Unix(UnixAccess {
                decided: self.to_decided()?,
                actor: self.to_actor()?,
                path: self.path.is_some().then(|| Text(self.to_path())),
                path_bytes: HexUnlessUtf8(self.to_path()),
                is_abstract: self.is_abstract?,
                socket_type: Number::parse(self.socket_type.as_deref()?, Number::socket_type)?,
            }),
            "ptrace" => Event::Ptrace(ProcessAccess {
                decided: self.to_decided()?,
                actor: self.to_actor()?,
                target: self.target?,
                mode: self.mode?,
            }),
            "fork" => Event::Fork(Fork {
                actor: self.to_actor()?,
                child: self.child?,
            }),
            "exit" => Event::Exit(Exit {
                actor: self.to_actor()?,
                ending: Ending {
                    exit_code: self.exit_code,
                    signal: self.signal,
                    signal_name: self.signal.and_then(signal_name),
                },
            }),
            _ => return None,
        })
    }

    fn to_decided(&self) -> Option<Decided<'_>> {
        Some(Decided {
            verdict: Code::parse(self.verdict.as_deref()?, |code| {
                Code::verdict(u8::try_from(code).unwrap_or(u8::MAX))
            })?,
            reason: Code::parse(self.reason.as_deref()?, |code| {
                Code::reason(u8::try_from(code).unwrap_or(u8::MAX))
            })?,
            rule: self.rule.map(|number| Rule {
                number,
                text: self.rule_text.as_deref(),
                line: self.rule_line,
            }),
            permit: self.permit.as_deref(),
            remedy: self.remedy.as_deref(),
        })
    }

    fn to_actor(&self) -> Option<Actor<'_>> {
        let source = |text: &str| Code::parse(text, Code::path_source);
        Some(Actor {
            pid: self.pid?,
            tgid: self.tgid?,
            ppid: self.ppid?,
            uid: self.uid?,
            gid: self.gid?,
            comm: Text(self.comm.as_deref()?.as_bytes()),
            executable: self.executable.as_deref().map(|path| Text(path.as_bytes())),
            executable_source: self.executable_source.as_deref().and_then(source),
        })
    }

    /// The path's bytes, none where it has none.
    fn to_path(&self) -> &[u8] {
        let text = self.path.as_deref().unwrap_or_default();
        self.path_bytes.as_deref().unwrap_or(text.as_bytes())
    }

    fn to_file(&self) -> Option<FileAccess<'_>> {
        Some(FileAccess {
            decided: self.to_decided()?,
            actor: self.to_actor()?,
            access: AccessBits::parse(self.access.as_deref()?)?,
            path: self.path.is_some().then(|| Text(self.to_path())),
            path_bytes: HexUnlessUtf8(self.to_path()),
            path_source: Code::parse(self.path_source.as_deref()?, Code::path_source)?,
            directory: self.directory,
            open_flags: self.open_flags.map(OpenFlags),
            result: self.result,
            error: self.result.and_then(i32::checked_neg).and_then(errno_name),
        })
    }

    fn to_network(&self) -> Option<NetworkAccess<'_>> {
        Some(NetworkAccess {
            decided: self.to_decided()?,
            actor: self.to_actor()?,
            address: self.address.as_deref()?.parse().ok()?,
            port: self.port?,
            family: Number::parse(self.family.as_deref()?, Number::family)?,
            protocol: Number::parse(self.protocol.as_deref()?, Number::protocol)?,
            socket_type: Number::parse(self.socket_type.as_deref()?, Number::socket_type)?,
            name: self.name.as_deref(),
        })
    }
}
