//! What a frame holds: events as the kernel side made them, with what was said of each when it was
//! recorded, and records of userspace's own. Pure.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | which: [`ABOUT`], [`NOTE`] or [`EVENT`] |
//! | 4 | length of the rest |
//! | … | of the first two, a JSON object; of an event, as [`Said`] tells |

use std::borrow::Cow;

/// What is known of the whole run: the first entry.
const ABOUT: u8 = 1;
/// A record of userspace's own, as it was written out.
const NOTE: u8 = 2;
/// An event.
const EVENT: u8 = 3;

/// Bytes of a length.
const LENGTH: usize = 4;

/// Texts that may follow an event.
const HOST: u8 = 1;
const PERMIT: u8 = 2;
const REMEDY: u8 = 3;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    About(&'a [u8]),
    Note(&'a [u8]),
    Event { bytes: &'a [u8], said: Said<'a> },
}

/// What userspace said of an event: it can depend on the host as it was then.
///
/// | bytes | what |
/// | --- | --- |
/// | 4 | length of the event |
/// | … | the event |
/// | 1, 1, 4 | verdict, reason, rule |
/// | 1, 4, … | which text, its length, the text; any number of times |
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said<'a> {
    pub(super) verdict: u8,
    pub(super) reason: u8,
    pub(super) rule: u32,
    /// The declared name that the address had.
    pub(super) host: Option<Cow<'a, str>>,
    pub(super) permit: Option<Cow<'a, str>>,
    pub(super) remedy: Option<Cow<'a, str>>,
}

/// Bytes that are no entry. Their hash was right, so a program of another version wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it holds an entry that this version cannot read")]
pub struct EntryError;

impl Entry<'_> {
    /// Appends it.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::About(_) => ABOUT,
            Self::Note(_) => NOTE,
            Self::Event { .. } => EVENT,
        });
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH]);
        match self {
            Self::About(json) | Self::Note(json) => out.extend_from_slice(json),
            Self::Event { bytes, said } => {
                out.extend_from_slice(&length(bytes.len()));
                out.extend_from_slice(bytes);
                out.extend_from_slice(&[said.verdict, said.reason]);
                out.extend_from_slice(&said.rule.to_le_bytes());
                let texts = [
                    (HOST, &said.host),
                    (PERMIT, &said.permit),
                    (REMEDY, &said.remedy),
                ];
                for (tag, text) in texts {
                    if let Some(text) = text {
                        out.push(tag);
                        out.extend_from_slice(&length(text.len()));
                        out.extend_from_slice(text.as_bytes());
                    }
                }
            }
        }
        let rest = length(out.len() - start - LENGTH);
        if let Some(place) = out.get_mut(start..start + LENGTH) {
            place.copy_from_slice(&rest);
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
        verdict,
        reason,
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
            let said = Said { verdict, reason, rule, host, permit, remedy };
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
