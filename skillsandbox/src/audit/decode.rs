//! Event bytes → [`Event`]. Pure: no allocation, no state; path bytes are borrowed.

use skillsandbox_common::{
    PATH_MAX,
    event::{NetworkBody, PathBody, ProcessBody, UNIX_NAME_MAX, UnixBody},
    header::{EVENT_VERSION, EventPrefix, Kind},
};
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// One event of the kernel side.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// What happened: the code of the prefix.
    pub kind: Kind,
    /// When, to whom, and what was decided. Codes are still numbers.
    pub prefix: EventPrefix,
    /// What the event is about.
    pub body: Body<'a>,
}

/// The part of an event that depends on its kind.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// A file was opened.
    Open(PathEvent<'a>),
    /// A program was executed.
    Exec(PathEvent<'a>),
    /// A socket was connected.
    Connect(NetworkBody),
    /// A datagram was sent.
    Sendmsg(NetworkBody),
    /// A process was made.
    Fork(ProcessBody),
    /// A process ended.
    Exit(ProcessBody),
    /// A socket was given an address of its own.
    Bind(NetworkBody),
    /// A socket was made.
    Socket(NetworkBody),
    /// A unix socket was connected.
    Unix(UnixEvent<'a>),
    /// A file was mapped as code.
    Map(PathEvent<'a>),
    /// A file lost a name.
    Unlink(PathEvent<'a>),
    /// A file lost its name to a new one.
    Rename(PathEvent<'a>),
    /// The new one.
    RenameTo(PathEvent<'a>),
    /// A file was to have a second name.
    Link(PathEvent<'a>),
    /// The second name.
    LinkTo(PathEvent<'a>),
    /// A file was cut.
    Truncate(PathEvent<'a>),
    /// Something was made.
    Create(PathEvent<'a>),
    /// A mode or owner was changed.
    Attributes(PathEvent<'a>),
    /// A process was looked into.
    Ptrace(ProcessBody),
}

/// Body of an event about a file, with the path that follows it.
#[derive(Clone, Copy, Debug)]
pub struct PathEvent<'a> {
    /// The fixed part.
    pub body: PathBody,
    /// The path's bytes: any bytes, and none where the kernel could not name the file.
    pub path: &'a [u8],
}

/// Body of `unix`, with the name that follows it.
#[derive(Clone, Copy, Debug)]
pub struct UnixEvent<'a> {
    /// The fixed part.
    pub body: UnixBody,
    /// The name's bytes: any bytes, and none for a socket without a name.
    pub name: &'a [u8],
}

/// Why bytes are not an event of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Not even a prefix.
    #[error("{length} bytes are too few for an event")]
    TooShort {
        /// Bytes given.
        length: usize,
    },
    /// Written by programs of another version.
    #[error(
        "event of version {found}, this program reads version {EVENT_VERSION}: load the eBPF programs of the same release"
    )]
    Version {
        /// Version in the event.
        found: u8,
    },
    /// A kind that this version does not know, so the body has no known shape.
    #[error("event of unknown kind {found}")]
    Kind {
        /// Kind in the event.
        found: u8,
    },
    /// The event says that it is longer or shorter than it is.
    #[error("event says {stated} bytes and has {actual}")]
    Length {
        /// Length in the header.
        stated: u32,
        /// Bytes given.
        actual: usize,
    },
    /// The body is not of its kind's size.
    #[error("body of {} has {actual} bytes, not {expected}", kind.as_str())]
    Body {
        /// Kind of the event.
        kind: Kind,
        /// Bytes that a body of this kind has, or has at least.
        expected: usize,
        /// Bytes after the prefix.
        actual: usize,
    },
    /// The path is longer than Linux resolves.
    #[error("path of {length} bytes, more than PATH_MAX")]
    PathTooLong {
        /// Bytes of the path.
        length: usize,
    },
    /// Sequence numbers start at 1.
    #[error("event without a sequence number")]
    NoSequence,
}

/// Decodes exactly one event: version, kind and length must be right to the byte.
pub fn decode(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let Ok((prefix, rest)) = EventPrefix::read_from_prefix(bytes) else {
        return Err(DecodeError::TooShort {
            length: bytes.len(),
        });
    };
    let header = prefix.header;
    if header.version != EVENT_VERSION {
        return Err(DecodeError::Version {
            found: header.version,
        });
    }
    if usize::try_from(header.length) != Ok(bytes.len()) {
        return Err(DecodeError::Length {
            stated: header.length,
            actual: bytes.len(),
        });
    }
    if prefix.actor.sequence == 0 {
        return Err(DecodeError::NoSequence);
    }
    let kind = Kind::from_code(header.kind).ok_or(DecodeError::Kind { found: header.kind })?;
    let body = match kind {
        Kind::Open => Body::Open(path_event(kind, rest)?),
        Kind::Exec => Body::Exec(path_event(kind, rest)?),
        Kind::Connect => Body::Connect(exact(kind, rest)?),
        Kind::Sendmsg => Body::Sendmsg(exact(kind, rest)?),
        Kind::Fork => Body::Fork(exact(kind, rest)?),
        Kind::Exit => Body::Exit(exact(kind, rest)?),
        Kind::Bind => Body::Bind(exact(kind, rest)?),
        Kind::Socket => Body::Socket(exact(kind, rest)?),
        Kind::Unix => Body::Unix(unix_event(kind, rest)?),
        Kind::Map => Body::Map(path_event(kind, rest)?),
        Kind::Unlink => Body::Unlink(path_event(kind, rest)?),
        Kind::Rename => Body::Rename(path_event(kind, rest)?),
        Kind::RenameTo => Body::RenameTo(path_event(kind, rest)?),
        Kind::Link => Body::Link(path_event(kind, rest)?),
        Kind::LinkTo => Body::LinkTo(path_event(kind, rest)?),
        Kind::Truncate => Body::Truncate(path_event(kind, rest)?),
        Kind::Ptrace => Body::Ptrace(exact(kind, rest)?),
        Kind::Create => Body::Create(path_event(kind, rest)?),
        Kind::Attributes => Body::Attributes(path_event(kind, rest)?),
    };
    Ok(Event { kind, prefix, body })
}

fn path_event(kind: Kind, rest: &[u8]) -> Result<PathEvent<'_>, DecodeError> {
    let Ok((body, path)) = PathBody::read_from_prefix(rest) else {
        return Err(DecodeError::Body {
            kind,
            expected: size_of::<PathBody>(),
            actual: rest.len(),
        });
    };
    if path.len() > PATH_MAX {
        return Err(DecodeError::PathTooLong { length: path.len() });
    }
    Ok(PathEvent { body, path })
}

fn unix_event(kind: Kind, rest: &[u8]) -> Result<UnixEvent<'_>, DecodeError> {
    let fixed = size_of::<UnixBody>();
    match UnixBody::read_from_prefix(rest) {
        Ok((body, name)) if name.len() <= UNIX_NAME_MAX => Ok(UnixEvent { body, name }),
        _ => Err(DecodeError::Body {
            kind,
            expected: fixed,
            actual: rest.len(),
        }),
    }
}

fn exact<T: FromBytes + KnownLayout + Immutable>(
    kind: Kind,
    rest: &[u8],
) -> Result<T, DecodeError> {
    let Ok(body) = T::read_from_bytes(rest) else {
        return Err(DecodeError::Body {
            kind,
            expected: size_of::<T>(),
            actual: rest.len(),
        });
    };
    Ok(body)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use zerocopy::IntoBytes;

    use super::*;
    use crate::audit::testing::{self, encode};

    fn body_bytes(body: &Body<'_>) -> Vec<u8> {
        match body {
            Body::Open(event)
            | Body::Exec(event)
            | Body::Map(event)
            | Body::Unlink(event)
            | Body::Rename(event)
            | Body::RenameTo(event)
            | Body::Link(event)
            | Body::LinkTo(event)
            | Body::Truncate(event)
            | Body::Create(event)
            | Body::Attributes(event) => [event.body.as_bytes(), event.path].concat(),
            Body::Connect(body) | Body::Sendmsg(body) | Body::Bind(body) | Body::Socket(body) => {
                body.as_bytes().to_vec()
            }
            Body::Unix(event) => [event.body.as_bytes(), event.name].concat(),
            Body::Fork(body) | Body::Exit(body) | Body::Ptrace(body) => body.as_bytes().to_vec(),
        }
    }

    /// A well-formed body of this kind, of random bytes.
    fn any_body() -> impl Strategy<Value = (Kind, Vec<u8>)> {
        prop_oneof![
            (
                prop_oneof![
                    Just(Kind::Open),
                    Just(Kind::Exec),
                    Just(Kind::Map),
                    Just(Kind::Unlink),
                    Just(Kind::Rename),
                    Just(Kind::RenameTo),
                    Just(Kind::Link),
                    Just(Kind::LinkTo),
                    Just(Kind::Truncate),
                    Just(Kind::Create),
                    Just(Kind::Attributes)
                ],
                vec(any::<u8>(), 16..=16 + PATH_MAX)
            ),
            (
                prop_oneof![
                    Just(Kind::Connect),
                    Just(Kind::Sendmsg),
                    Just(Kind::Bind),
                    Just(Kind::Socket)
                ],
                vec(any::<u8>(), 24)
            ),
            (Just(Kind::Unix), vec(any::<u8>(), 4..=4 + UNIX_NAME_MAX)),
            (
                prop_oneof![Just(Kind::Fork), Just(Kind::Exit), Just(Kind::Ptrace)],
                vec(any::<u8>(), 8)
            ),
        ]
    }

    proptest! {
        #[test]
        fn an_encoded_event_decodes_to_the_same(
            (kind, body) in any_body(),
            mut prefix in vec(any::<u8>(), 64),
            sequence in 1u64..,
        ) {
            prefix[16..24].copy_from_slice(&sequence.to_ne_bytes());
            let mut prefix = EventPrefix::read_from_bytes(&prefix).unwrap();
            prefix.header.kind = kind as u8;
            let bytes = encode(prefix, &body);
            let event = decode(&bytes).unwrap();
            let mut again = event.prefix.as_bytes().to_vec();
            again.extend(body_bytes(&event.body));
            prop_assert_eq!(again, bytes);
        }

        #[test]
        fn a_truncated_or_extended_event_is_refused(
            (kind, body) in any_body(),
            cut in any::<proptest::sample::Index>(),
            more in vec(any::<u8>(), 1..64),
        ) {
            let mut prefix = testing::prefix(1);
            prefix.header.kind = kind as u8;
            let bytes = encode(prefix, &body);
            prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
            let longer = [bytes.as_slice(), &more].concat();
            prop_assert!(decode(&longer).is_err());
        }

        #[test]
        fn a_fixed_body_of_another_size_is_refused_even_when_the_length_agrees(
            kind in prop_oneof![Just(Kind::Connect), Just(Kind::Sendmsg), Just(Kind::Fork), Just(Kind::Exit)],
            body in vec(any::<u8>(), 0..64),
        ) {
            let expected = if matches!(kind, Kind::Connect | Kind::Sendmsg) { 24 } else { 8 };
            let mut prefix = testing::prefix(1);
            prefix.header.kind = kind as u8;
            prop_assert_eq!(decode(&encode(prefix, &body)).is_ok(), body.len() == expected);
        }

        #[test]
        fn random_bytes_never_panic_and_pass_only_with_their_own_length(
            mut bytes in vec(any::<u8>(), 0..256),
            known_version in any::<bool>(),
            small_kind in any::<Option<u8>>(),
        ) {
            if known_version && let Some(first) = bytes.first_mut() {
                *first = EVENT_VERSION;
            }
            if let (Some(kind), Some(second)) = (small_kind, bytes.get_mut(1)) {
                *second = kind % 20;
            }
            if let Ok(event) = decode(&bytes) {
                prop_assert_eq!(event.prefix.header.length as usize, bytes.len());
            }
        }
    }

    #[test]
    fn a_path_longer_than_path_max_is_refused() {
        let mut prefix = testing::prefix(1);
        prefix.header.kind = Kind::Open as u8;
        let bytes = encode(prefix, &vec![0; 16 + PATH_MAX + 1]);
        assert_eq!(
            decode(&bytes).unwrap_err(),
            DecodeError::PathTooLong {
                length: PATH_MAX + 1
            }
        );
    }

    #[test]
    fn another_version_an_unknown_kind_and_sequence_zero_are_refused() {
        let mut prefix = testing::prefix(1);
        prefix.header.kind = Kind::Fork as u8;
        let mut bytes = encode(prefix, &[0; 8]);
        bytes[0] = 2;
        assert_eq!(
            decode(&bytes).unwrap_err(),
            DecodeError::Version { found: 2 }
        );
        prefix.header.kind = 99;
        assert_eq!(
            decode(&encode(prefix, &[0; 8])).unwrap_err(),
            DecodeError::Kind { found: 99 }
        );
        let mut prefix = testing::prefix(0);
        prefix.header.kind = Kind::Fork as u8;
        assert_eq!(
            decode(&encode(prefix, &[0; 8])).unwrap_err(),
            DecodeError::NoSequence
        );
    }
}
