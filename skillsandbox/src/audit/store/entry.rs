//! What a frame holds: events as the kernel side made them, with what was said of each when it was
//! recorded, and records of userspace's own. Pure.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | which: [`ABOUT`], [`NOTE`] or [`EVENT`] |
//! | 4 | length of the rest |
//! | … | of the first two, a JSON object; of an event, what follows |
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | length of the event |
//! | … | the event |
//! | 1, 1, 4 | of what was said: verdict, reason, rule |
//! | 1, 4, … | which text, its length, the text; any number of times |

use std::borrow::Cow;

use crate::audit::{code::Code, said::Said};

/// What is known of the whole run: the first entry.
const ABOUT: u8 = 1;
/// A record of userspace's own, as it was written out.
const NOTE: u8 = 2;
/// An event.
const EVENT: u8 = 3;

/// Bytes of a length.
const LENGTH: usize = 4;

/// Bytes of what was said of every event: verdict, reason, rule.
const FIXED: usize = 6;

/// Texts that may follow an event.
const HOST: u8 = 1;
const PERMIT: u8 = 2;
const REMEDY: u8 = 3;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    About(&'a [u8]),
    Note(&'a [u8]),
    Event {
        bytes: &'a [u8],
        said: Cow<'a, Said<'a>>,
    },
}

/// Bytes of [`Said`].
fn said_length(said: &Said<'_>) -> usize {
    let texts = texts(said).map(|(_, text)| 1 + LENGTH + text.len());
    FIXED + texts.sum::<usize>()
}

fn write_said(said: &Said<'_>, out: &mut Vec<u8>) {
    let [a, b, c, d] = said.rule.to_le_bytes();
    let fixed: [u8; FIXED] = [said.verdict.number(), said.reason.number(), a, b, c, d];
    out.extend_from_slice(&fixed);
    for (tag, text) in texts(said) {
        out.push(tag);
        out.extend_from_slice(&length(text.len()));
        out.extend_from_slice(text.as_bytes());
    }
}

fn texts<'a>(said: &'a Said<'_>) -> impl Iterator<Item = (u8, &'a str)> {
    let texts = [
        (HOST, &said.host),
        (PERMIT, &said.permit),
        (REMEDY, &said.remedy),
    ];
    let texts = texts.into_iter();
    texts.filter_map(|(tag, text)| Some((tag, text.as_deref()?)))
}

/// Bytes that are no entry. Their hash was right, so a program of another version wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it holds an entry that this version cannot read")]
pub struct EntryError;

impl Entry<'_> {
    /// Appends it.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (tag, rest) = match self {
            Self::About(json) => (ABOUT, json.len()),
            Self::Note(json) => (NOTE, json.len()),
            Self::Event { bytes, said } => (EVENT, LENGTH + bytes.len() + said_length(said)),
        };
        out.reserve(1 + LENGTH + rest);
        out.push(tag);
        out.extend_from_slice(&length(rest));
        match self {
            Self::About(json) | Self::Note(json) => out.extend_from_slice(json),
            Self::Event { bytes, said } => {
                out.extend_from_slice(&length(bytes.len()));
                out.extend_from_slice(bytes);
                write_said(said, out);
            }
        }
    }
}

/// A length. A frame is far shorter than the longest.
fn length(bytes: usize) -> [u8; LENGTH] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}

/// The entries of a payload.
pub(super) fn entries(payload: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, EntryError>> {
    let mut rest = Reader(payload);
    std::iter::from_fn(move || {
        if rest.0.is_empty() {
            return None;
        }
        let entry = entry(&mut rest).ok_or(EntryError);
        if entry.is_err() {
            rest = Reader(&[]);
        }
        Some(entry)
    })
}

fn entry<'a>(from: &mut Reader<'a>) -> Option<Entry<'a>> {
    let [tag] = from.array()?;
    let body = from.text()?;
    match tag {
        ABOUT => Some(Entry::About(body)),
        NOTE => Some(Entry::Note(body)),
        EVENT => event(&mut Reader(body)),
        _ => None,
    }
}

fn event<'a>(from: &mut Reader<'a>) -> Option<Entry<'a>> {
    let bytes = from.text()?;
    let [verdict, reason] = from.array()?;
    let mut said = Said {
        verdict: Code::verdict(verdict),
        reason: Code::reason(reason),
        rule: u32::from_le_bytes(from.array()?),
        ..Said::default()
    };
    while !from.0.is_empty() {
        let [tag] = from.array()?;
        let text = String::from_utf8_lossy(from.text()?);
        let place = match tag {
            HOST => &mut said.host,
            PERMIT => &mut said.permit,
            REMEDY => &mut said.remedy,
            _ => return None,
        };
        *place = Some(text);
    }
    let said = Cow::Owned(said);
    Some(Entry::Event { bytes, said })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_le_bytes(self.array()?);
        self.take(length.try_into().ok()?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = Option<Cow<'static, str>>> {
        prop::option::of(".{0,20}".prop_map(Cow::Owned))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            notes in prop::collection::vec(".{0,30}", 0..3),
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            (verdict, reason, rule) in any::<(u8, u8, u32)>(),
            (host, permit, remedy) in (text(), text(), text()),
        ) {
            let (verdict, reason) = (Code::verdict(verdict), Code::reason(reason));
            let said = Cow::Owned(Said { verdict, reason, rule, host, permit, remedy });
            let mut written = vec![Entry::About(b"{}"), Entry::Event { bytes: &bytes, said }];
            written.extend(notes.iter().map(|note| Entry::Note(note.as_bytes())));
            let mut payload = Vec::new();
            for entry in &written {
                entry.write(&mut payload);
            }
            let read: Result<Vec<_>, _> = entries(&payload).collect();
            prop_assert_eq!(read.unwrap(), written);
        }

        #[test]
        fn any_bytes_are_read_without_harm(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let _whatever = entries(&payload).count();
        }
    }
}
