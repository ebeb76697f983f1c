//! [`Event`](decode::Event) → [`Record`]: adds what only userspace knows.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use skillsandbox_common::{
    event::{NetworkBody, PathSource},
    header::{Actor as ActorBytes, Reason, Verdict},
    rule::Decision,
};

use super::{
    bits::{AccessBits, OpenFlags},
    clock::Clock,
    code::{Code, Number, errno_name},
    decode::{self, Body, PathEvent},
    process::{Executable, Processes},
    record::{
        Actor, Decided, Ending, Event, Exit, FileAccess, Fork, NetworkAccess, Note, ProcessAccess,
        RECORD_VERSION, Record, Rule, SocketAccess, UnixAccess, What,
    },
    said::Said,
    sequence::Sequences,
    text::{HexUnlessUtf8, Text},
};
use crate::policy::{Advice, DeniedAddress, DeniedFile, advise_bind, advise_other, advise_unix};

/// A rule of the policy as a person reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleText {
    /// How it reads.
    pub text: String,
    /// Its line in the manifest; `None` for a built-in rule.
    pub line: Option<u32>,
}

impl RuleText {
    /// Of a rule of the policy.
    #[must_use]
    pub fn of(rule: &crate::policy::Rule) -> Self {
        Self {
            text: rule.text.clone(),
            line: rule.line.and_then(|line| u32::try_from(line).ok()),
        }
    }
}

/// Knows which declared host name has an address. Asked for every connection and datagram.
pub trait Names: Sync {
    /// One of the declared names that have this address, if any.
    fn name_of(&self, address: IpAddr) -> Option<String>;
}

/// Knows the rules.
pub trait Judge: Sync {
    /// The decision on a call that was seen after the fact (`path_source` is `passed`), where no
    /// eBPF program could decide on it, by its arguments and its result: 0 or more, or `-errno`.
    fn judge(&self, path: &[u8], access: u16, result: i32) -> Decision;

    /// What would let an open or execution through.
    fn advise_file(&self, _: &DeniedFile<'_>) -> Option<Advice> {
        None
    }

    /// What would let a connection or datagram through.
    fn advise_address(&self, _: &DeniedAddress<'_>) -> Option<Advice> {
        None
    }
}

/// The judge when none is given: what the kernel refused was denied, nothing else is decided.
#[derive(Clone, Copy, Debug)]
pub struct ByResult;

impl Judge for ByResult {
    fn judge(&self, _: &[u8], _: u16, result: i32) -> Decision {
        let refused = result == -libc::EACCES || result == -libc::EPERM;
        let (verdict, reason) = if refused {
            (Verdict::Deny, Reason::Refused)
        } else {
            (Verdict::Allow, Reason::Observed)
        };
        Decision {
            verdict,
            reason,
            rule: 0,
        }
    }
}

/// What userspace knows of one sandbox.
pub struct Knowledge<'a> {
    /// The sandbox's id.
    pub sandbox: String,
    /// Time since boot to the time of day.
    pub clock: Clock,
    /// The policy's rules; rule number 1 comes first.
    pub rules: &'a [RuleText],
    /// Host names of addresses.
    pub names: Option<&'a dyn Names>,
    /// Who knows the rules; [`ByResult`] when `None`.
    pub judge: Option<&'a dyn Judge>,
}

impl<'a> Knowledge<'a> {
    /// What is to be said of an event now.
    #[must_use]
    pub fn say(&self, event: &decode::Event<'_>) -> Said<'static> {
        let said = Said::of(&event.prefix);
        let advised = |mut said: Said<'static>, advise: &dyn Fn(Reason) -> Advice| {
            if let Some(reason) = said.denial() {
                said.advise(advise(reason));
            }
            said
        };
        match &event.body {
            Body::Open(path)
            | Body::Exec(path)
            | Body::Map(path)
            | Body::Unlink(path)
            | Body::Rename(path)
            | Body::RenameTo(path)
            | Body::Link(path)
            | Body::LinkTo(path)
            | Body::Truncate(path)
            | Body::Create(path)
            | Body::Attributes(path) => self.say_of_file(said, path),
            Body::Connect(body) | Body::Sendmsg(body) => self.say_of_address(said, body),
            Body::Bind(body) => advised(said, &|reason| {
                advise_bind(reason, body.port, body.protocol)
            }),
            Body::Unix(unix) => advised(said, &|reason| {
                advise_unix(reason, unix.name, unix.body.is_abstract != 0)
            }),
            Body::Socket(_) | Body::Ptrace(_) => {
                advised(said, &|reason| advise_other(event.kind, reason))
            }
            Body::Fork(_) | Body::Exit(_) => Said::default(),
        }
    }

    fn say_of_file(&self, mut said: Said<'static>, event: &PathEvent<'_>) -> Said<'static> {
        let PathEvent { body, path } = event;
        let judge = self.judge();
        let passed = Code::path_source(body.source) == Code::Known(PathSource::Passed);
        if passed && said.reason == Code::Known(Reason::Observed) {
            let decision = judge.judge(path, body.access, body.result);
            said.verdict = Code::Known(decision.verdict);
            said.reason = Code::Known(decision.reason);
            said.rule = decision.rule.into();
        }
        if let Some(reason) = said.denial() {
            let denied = DeniedFile {
                reason,
                rule: said.rule,
                path,
                access: body.access,
            };
            if let Some(advice) = judge.advise_file(&denied) {
                said.advise(advice);
            }
        }
        said
    }

    fn say_of_address(&self, mut said: Said<'static>, body: &NetworkBody) -> Said<'static> {
        let address = Ipv6Addr::from(body.address).to_canonical();
        let name = self.names.and_then(|names| names.name_of(address));
        if let Some(reason) = said.denial() {
            let denied = DeniedAddress {
                reason,
                address,
                port: body.port,
                protocol: body.protocol,
                name: name.as_deref(),
            };
            if let Some(advice) = self.judge().advise_address(&denied) {
                said.advise(advice);
            }
        }
        said.host = name.map(Into::into);
        said
    }

    fn judge(&self) -> &dyn Judge {
        self.judge.unwrap_or(&ByResult)
    }

    /// The record of an event of which this was said.
    #[must_use]
    pub fn describe<'r>(
        &'r self,
        event: &'r decode::Event<'r>,
        said: &'r Said<'_>,
        processes: &'r Processes,
        sequences: &Sequences,
    ) -> Record<'r> {
        let prefix = &event.prefix;
        let (tgid, sequence) = (prefix.actor.tgid, prefix.actor.sequence);
        let executable = processes.executable(tgid, sequence, sequences);
        let actor = actor(&prefix.actor, executable);
        let decided = Decided {
            verdict: said.verdict,
            reason: said.reason,
            rule: self.rule(said.rule),
            permit: said.permit.as_deref(),
            remedy: said.remedy.as_deref(),
        };
        let host = said.host.as_deref();
        let what = match event.body {
            Body::Open(path) => Event::Open(file(decided, actor, path, true)),
            Body::Exec(path) => Event::Exec(file(decided, actor, path, false)),
            Body::Connect(body) => Event::Connect(network(decided, actor, &body, host)),
            Body::Sendmsg(body) => Event::Sendmsg(network(decided, actor, &body, host)),
            Body::Bind(body) => Event::Bind(network(decided, actor, &body, None)),
            Body::Socket(body) => Event::Socket(SocketAccess {
                decided,
                actor,
                family: Number::family(body.family),
                protocol: body.protocol,
                socket_type: Number::socket_type(body.socket_type),
            }),
            Body::Unix(unix) => Event::Unix(UnixAccess {
                decided,
                actor,
                path: (!unix.name.is_empty()).then_some(Text(unix.name)),
                path_bytes: HexUnlessUtf8(unix.name),
                is_abstract: unix.body.is_abstract != 0,
                socket_type: Number::socket_type(unix.body.socket_type),
            }),
            Body::Map(path) => Event::Map(file(decided, actor, path, false)),
            Body::Unlink(path) => Event::Unlink(file(decided, actor, path, false)),
            Body::Rename(path) => Event::Rename(file(decided, actor, path, false)),
            Body::RenameTo(path) => Event::RenameTo(file(decided, actor, path, false)),
            Body::Link(path) => Event::Link(file(decided, actor, path, false)),
            Body::LinkTo(path) => Event::LinkTo(file(decided, actor, path, false)),
            Body::Truncate(path) => Event::Truncate(file(decided, actor, path, false)),
            Body::Create(path) => Event::Create(file(decided, actor, path, false)),
            Body::Attributes(path) => Event::Attributes(file(decided, actor, path, false)),
            Body::Ptrace(body) => Event::Ptrace(ProcessAccess {
                decided,
                actor,
                target: body.child,
                mode: body.status.cast_unsigned(),
            }),
            Body::Fork(body) => Event::Fork(Fork {
                actor,
                child: body.child,
            }),
            Body::Exit(body) => Event::Exit(Exit {
                actor,
                ending: Ending::from_wait_status(body.status),
            }),
        };
        self.record(prefix.header.time_ns, Some(sequence), What::Event(what))
    }

    /// The record of a note, made now.
    #[must_use]
    pub fn note<'r>(&'r self, note: &'r Note) -> Record<'r> {
        self.record(Clock::boot_ns(), None, What::Note(note))
    }

    fn record<'r>(&'r self, boot_ns: u64, sequence: Option<u64>, what: What<'r>) -> Record<'r> {
        Record {
            v: RECORD_VERSION,
            time: self.clock.time(boot_ns),
            boot_ns,
            sandbox: &self.sandbox,
            sequence,
            what,
        }
    }

    /// The rule of this number; 0 is none.
    fn rule(&self, number: u32) -> Option<Rule<'a>> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        let rule = self.rules.get(index);
        Some(Rule {
            number,
            text: rule.map(|rule| rule.text.as_str()),
            line: rule.and_then(|rule| rule.line),
        })
    }
}

fn file<'r>(
    decided: Decided<'r>,
    actor: Actor<'r>,
    event: PathEvent<'r>,
    open: bool,
) -> FileAccess<'r> {
    let PathEvent { body, path } = event;
    let source = Code::path_source(body.source);
    let passed = source == Code::Known(PathSource::Passed);
    FileAccess {
        decided,
        actor,
        access: AccessBits(body.access),
        path: (!path.is_empty()).then_some(Text(path)),
        path_bytes: HexUnlessUtf8(path),
        path_source: source,
        directory: (passed && !path.starts_with(b"/")).then_some(body.directory),
        open_flags: open.then_some(OpenFlags(body.open_flags)),
        result: passed.then_some(body.result),
        error: body
            .result
            .checked_neg()
            .filter(|_| passed)
            .and_then(errno_name),
    }
}

fn network<'r>(
    decided: Decided<'r>,
    actor: Actor<'r>,
    body: &NetworkBody,
    name: Option<&'r str>,
) -> NetworkAccess<'r> {
    NetworkAccess {
        decided,
        actor,
        address: Ipv6Addr::from(body.address).to_canonical(),
        port: body.port,
        family: Number::family(body.family),
        protocol: Number::protocol(body.protocol),
        socket_type: Number::socket_type(body.socket_type),
        name,
    }
}

fn actor<'r>(bytes: &'r ActorBytes, executable: Option<&'r Executable>) -> Actor<'r> {
    Actor {
        pid: bytes.pid,
        tgid: bytes.tgid,
        ppid: bytes.ppid,
        uid: bytes.uid,
        gid: bytes.gid,
        comm: Text(
            bytes
                .comm
                .split(|byte| *byte == 0)
                .next()
                .unwrap_or_default(),
        ),
        executable: executable.map(|executable| Text(&executable.path)),
        executable_source: executable.map(|executable| executable.source),
    }
}
