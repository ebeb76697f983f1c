//! Bytes that a skill controls, made safe to show and lossless to keep.

use std::fmt::{self, Display, Formatter, Write};

use serde::{Serialize, Serializer};

/// Bytes shown on one line of a terminal: control characters, escape sequences, characters that
/// reorder or hide text, and bytes that are not UTF-8 are spelt out; a backslash is doubled, so
/// that nothing else can look like that.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl Display for Escaped<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\\' => out.write_str("\\\\")?,
                    _ if misleads(character) => {
                        write!(out, "\\u{{{:x}}}", u32::from(character))?;
                    }
                    _ => out.write_char(character)?,
                }
            }
            for byte in chunk.invalid() {
                write!(out, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// [`Escaped`], and in quotes when it is empty or holds a blank or a quote, so that one value
/// cannot pass for several.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a [u8]);

impl Display for Quoted<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let text = Escaped(self.0).to_string();
        let plain = |c: char| !c.is_whitespace() && c != '"';
        if !text.is_empty() && text.chars().all(plain) {
            return out.write_str(&text);
        }
        write!(out, "\"{}\"", text.replace('"', "\\\""))
    }
}

/// Whether a terminal would obey this character, or show it as nothing or in another place.
pub(crate) fn misleads(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Bytes as a JSON string: as they are when they are UTF-8, else [`Escaped`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a>(pub &'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_str(&Escaped(self.0)),
        }
    }
}

/// The same bytes in hexadecimal when [`Text`] had to escape them, else null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HexUnlessUtf8<'a>(pub &'a [u8]);

impl Serialize for HexUnlessUtf8<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if str::from_utf8(self.0).is_ok() {
            return serializer.serialize_none();
        }
        serializer.collect_str(&Hex(self.0))
    }
}

struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terminal_control_and_bidi_characters_are_spelt_out() {
        assert_eq!(
            Escaped("/a\x1b[2J\n\u{202e}gpj\u{9b}".as_bytes()).to_string(),
            "/a\\u{1b}[2J\\u{a}\\u{202e}gpj\\u{9b}"
        );
        assert_eq!(Escaped(b"/a\xff\\b").to_string(), "/a\\xff\\\\b");
        assert_eq!(Escaped("/é/日本".as_bytes()).to_string(), "/é/日本");
    }

    #[test]
    fn a_value_with_blanks_is_quoted() {
        assert_eq!(Quoted(b"/tmp/a b\"c").to_string(), "\"/tmp/a b\\\"c\"");
        assert_eq!(Quoted(b"").to_string(), "\"\"");
        assert_eq!(Quoted(b"/tmp/a").to_string(), "/tmp/a");
    }

    proptest! {
        #[test]
        fn no_bytes_reach_a_terminal_that_it_would_obey(bytes: Vec<u8>, text: String) {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                prop_assert!(!Quoted(bytes).to_string().contains(misleads));
            }
        }

        #[test]
        fn different_bytes_never_look_the_same(one: Vec<u8>, other: Vec<u8>) {
            if one != other {
                prop_assert_ne!(Escaped(&one).to_string(), Escaped(&other).to_string());
                prop_assert_ne!(Quoted(&one).to_string(), Quoted(&other).to_string());
            }
        }

        #[test]
        fn the_bytes_of_a_path_come_back_from_its_json(bytes: Vec<u8>) {
            let text: String =
                serde_json::from_str(&serde_json::to_string(&Text(&bytes)).unwrap()).unwrap();
            let hex: Option<String> =
                serde_json::from_str(&serde_json::to_string(&HexUnlessUtf8(&bytes)).unwrap()).unwrap();
            let back = match hex {
                None => text.into_bytes(),
                Some(hex) => (0..hex.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                    .collect(),
            };
            prop_assert_eq!(back, bytes);
        }
    }
}
