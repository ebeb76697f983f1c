//! JSON that can be shown as it is: what a terminal would obey, or show as nothing or in another
//! place, is an escape in it. It reads as the same strings.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::text::misleads;

/// Writes a value on one line.
pub(crate) fn write(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Shown))?;
    Ok(())
}

struct Shown;

impl Formatter for Shown {
    /// A part of a string in which nothing has to be escaped for JSON's sake.
    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        const DELETE: u8 = 0x7f;
        // Nearly every fragment; JSON escapes the other control characters of ASCII itself.
        if fragment.bytes().all(|byte| byte < DELETE) {
            return out.write_all(fragment.as_bytes());
        }
        let mut shown = 0;
        for (at, character) in fragment.char_indices() {
            if !misleads(character) {
                continue;
            }
            let before = fragment.get(shown..at).unwrap_or_default();
            out.write_all(before.as_bytes())?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            shown = at + character.len_utf8();
        }
        out.write_all(fragment.get(shown..).unwrap_or_default().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        write(&mut out, &text).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_a_terminal_would_obey_is_an_escape() {
        assert_eq!(written("a\u{7f}b"), r#""a\u007fb""#);
        assert_eq!(written("\u{9b}31mred"), r#""\u009b31mred""#);
        assert_eq!(written("\u{202e}txt.exe"), r#""\u202etxt.exe""#);
        assert_eq!(written("\u{e0041}"), r#""\udb40\udc41""#);
        assert_eq!(written("größer 東京"), "\"größer 東京\"");
    }

    proptest! {
        #[test]
        fn any_text_reads_as_itself_and_misleads_nobody(text in any::<String>()) {
            let json = written(&text);
            prop_assert!(!json.chars().any(misleads), "{}", json);
            let read: String = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read, text);
        }
    }
}
