//! [`Event`](decode::Event) → [`Record`]: adds what only userspace knows.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use skillsandbox_common::{
    event::{NetworkBody, PathSource},
    header::{Actor as ActorBytes, EventPrefix, Kind, Reason, Verdict},
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
    /// The record of an event.
    #[must_use]
    pub fn describe<'r>(
        &'r self,
        event: &'r decode::Event<'r>,
        processes: &'r Processes,
        sequences: &Sequences,
    ) -> Record<'r> {
        let prefix = &event.prefix;
        let (tgid, sequence) = (prefix.actor.tgid, prefix.actor.sequence);
        let actor = actor(
            &prefix.actor,
            processes.executable(tgid, sequence, sequences),
        );
        let what = match event.body {
            Body::Open(path) => Event::Open(self.file(prefix, actor, path, true)),
            Body::Exec(path) => Event::Exec(self.file(prefix, actor, path, false)),
            Body::Connect(body) => Event::Connect(self.reach(prefix, actor, &body)),
            Body::Sendmsg(body) => Event::Sendmsg(self.reach(prefix, actor, &body)),
            Body::Bind(body) => {
                let advise = |reason| advise_bind(reason, body.port, body.protocol);
                let decided = self.advised(prefix, advise);
                Event::Bind(network(decided, actor, &body, None))
            }
            Body::Socket(body) => Event::Socket(SocketAccess {
                decided: self.advised(prefix, |reason| advise_other(Kind::Socket, reason)),
                actor,
                family: Number::family(body.family),
                protocol: body.protocol,
                socket_type: Number::socket_type(body.socket_type),
            }),
            Body::Unix(unix) => Event::Unix(UnixAccess {
                decided: self.advised(prefix, |reason| {
                    advise_unix(reason, unix.name, unix.body.is_abstract != 0)
                }),
                actor,
                path: (!unix.name.is_empty()).then_some(Text(unix.name)),
                path_bytes: HexUnlessUtf8(unix.name),
                is_abstract: unix.body.is_abstract != 0,
                socket_type: Number::socket_type(unix.body.socket_type),
            }),
            Body::Map(path) => Event::Map(self.file(prefix, actor, path, false)),
            Body::Unlink(path) => Event::Unlink(self.file(prefix, actor, path, false)),
            Body::Rename(path) => Event::Rename(self.file(prefix, actor, path, false)),
            Body::RenameTo(path) => Event::RenameTo(self.file(prefix, actor, path, false)),
            Body::Link(path) => Event::Link(self.file(prefix, actor, path, false)),
            Body::LinkTo(path) => Event::LinkTo(self.file(prefix, actor, path, false)),
            Body::Truncate(path) => Event::Truncate(self.file(prefix, actor, path, false)),
            Body::Create(path) => Event::Create(self.file(prefix, actor, path, false)),
            Body::Attributes(path) => Event::Attributes(self.file(prefix, actor, path, false)),
            Body::Ptrace(body) => Event::Ptrace(ProcessAccess {
                decided: self.advised(prefix, |reason| advise_other(Kind::Ptrace, reason)),
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

    fn decided(&self, prefix: &EventPrefix) -> Decided<'a> {
        Decided {
            verdict: Code::verdict(prefix.header.verdict),
            reason: Code::reason(prefix.header.reason),
            rule: self.rule(prefix.actor.rule),
            permit: None,
            remedy: None,
        }
    }

    fn judge(&self) -> &dyn Judge {
        self.judge.unwrap_or(&ByResult)
    }

    /// The rule of this number; 0 is none.
    pub(super) fn rule(&self, number: u32) -> Option<Rule<'a>> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        let rule = self.rules.get(index);
        Some(Rule {
            number,
            text: rule.map(|rule| rule.text.as_str()),
            line: rule.and_then(|rule| rule.line),
        })
    }

    fn file<'r>(
        &self,
        prefix: &EventPrefix,
        actor: Actor<'r>,
        event: PathEvent<'r>,
        open: bool,
    ) -> FileAccess<'r>
    where
        'a: 'r,
    {
        let PathEvent { body, path } = event;
        let source = Code::path_source(body.source);
        let passed = source == Code::Known(PathSource::Passed);
        let mut decided = self.decided(prefix);
        if passed && decided.reason == Code::Known(Reason::Observed) {
            let decision = self.judge().judge(path, body.access, body.result);
            decided.verdict = Code::Known(decision.verdict);
            decided.reason = Code::Known(decision.reason);
            decided.rule = self.rule(decision.rule.into());
        }
        if let Some(reason) = decided.denial() {
            let denied = DeniedFile {
                reason,
                rule: decided.rule.as_ref().map_or(0, |rule| rule.number),
                path,
                access: body.access,
            };
            decided.advise(self.judge().advise_file(&denied));
        }
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

    fn reach<'r>(
        &self,
        prefix: &EventPrefix,
        actor: Actor<'r>,
        body: &NetworkBody,
    ) -> NetworkAccess<'r>
    where
        'a: 'r,
    {
        let address = Ipv6Addr::from(body.address).to_canonical();
        let name = self.names.and_then(|names| names.name_of(address));
        let mut decided = self.decided(prefix);
        if let Some(reason) = decided.denial() {
            decided.advise(self.judge().advise_address(&DeniedAddress {
                reason,
                address,
                port: body.port,
                protocol: body.protocol,
                name: name.as_deref(),
            }));
        }
        network(decided, actor, body, name)
    }

    fn advised(&self, prefix: &EventPrefix, advise: impl Fn(Reason) -> Advice) -> Decided<'a> {
        let mut decided = self.decided(prefix);
        if let Some(reason) = decided.denial() {
            decided.advise(Some(advise(reason)));
        }
        decided
    }
}

fn network<'r>(
    decided: Decided<'r>,
    actor: Actor<'r>,
    body: &NetworkBody,
    name: Option<String>,
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
