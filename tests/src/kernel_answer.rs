//! What the kernel side says of an access.

use std::{fmt, net::Ipv6Addr};

use anyhow::{Context, Result, ensure};
use skillsandbox::audit::decode::{self, Body};
use skillsandbox_common::{
    event::{PathBody, PathSource},
    header::{Kind, Reason, Verdict},
    rule::Decision,
};

/// What the kernel made of an access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) errno: i32,
    pub(crate) event: Event,
}

/// What the event of an access says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    pub(crate) decision: Option<Decision>,
    pub(crate) object: Object,
}

/// What an access was to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Object {
    Path {
        path: Vec<u8>,
        access: u16,
    },
    Address {
        address: [u8; 16],
        port: u16,
        protocol: u16,
    },
    Socket {
        family: u16,
        protocol: u16,
    },
    Nothing,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { path, access } => {
                write!(f, "{} (access {access:#b})", path.escape_ascii())
            }
            Self::Socket { family, protocol } => write!(f, "socket {family} {protocol}"),
            Self::Address {
                address,
                port,
                protocol,
            } => write!(f, "{} {port} {protocol}", Ipv6Addr::from(*address)),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

/// Puts an event, of which the first has the number `first`, where its sequence number belongs.
pub(crate) fn place(
    bytes: &[u8],
    process: u32,
    first: u64,
    events: &mut [Option<Event>],
) -> Result<()> {
    let event = decode::decode(bytes)?;
    let prefix = event.prefix;
    ensure!(
        prefix.actor.pid == process && prefix.actor.tgid == process,
        "an event of {}, not {process}: {event:?}",
        prefix.actor.pid
    );
    let index = prefix.actor.sequence.checked_sub(first);
    let index = index.and_then(|index| usize::try_from(index).ok());
    let place = index.and_then(|index| events.get_mut(index));
    let place = place.with_context(|| format!("one event too many: {event:?}"))?;
    ensure!(
        place.is_none(),
        "sequence number {} twice",
        prefix.actor.sequence
    );
    let verdict = match prefix.header.verdict {
        0 => Some(Verdict::Allow),
        1 => Some(Verdict::Deny),
        _ => None,
    };
    let reason = Reason::from_code(prefix.header.reason);
    let decision = verdict.zip(reason).map(|(verdict, reason)| Decision {
        verdict,
        reason,
        rule: u16::try_from(prefix.actor.rule).unwrap_or(u16::MAX),
    });
    let resolved = |body: &PathBody| body.source == PathSource::Resolved as u16;
    let object = match &event.body {
        Body::Open(open) if resolved(&open.body) => Object::Path {
            path: open.path.to_vec(),
            access: open.body.access,
        },
        Body::Socket(body) => Object::Socket {
            family: body.family,
            protocol: body.protocol,
        },
        Body::Connect(body) | Body::Sendmsg(body) => Object::Address {
            address: body.address,
            port: body.port,
            protocol: body.protocol,
        },
        _ => Object::Nothing,
    };
    *place = Some(Event {
        kind: Kind::from_code(prefix.header.kind).context("a kind")?,
        decision,
        object,
    });
    Ok(())
}
