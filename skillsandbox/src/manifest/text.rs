//! Characters that may not stand in a manifest, and how a manifest's text is shown.

use std::fmt::Write as _;

/// Most characters of a value that a message repeats.
const SHOWN_CHARS_MAX: usize = 80;

/// Whether `character` can change how the text around it is shown: control characters, line and
/// paragraph separators, and the invisible ones that reorder text (Unicode TR 36, "Bidirectional
/// Text Spoofing"), so that what a reviewer sees is not what the sandbox reads.
#[must_use]
pub fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
        )
}

/// `text` with every deceptive character as an escape, so that it is safe in a terminal and stays
/// on one line.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_deceptive(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// `text` in backquotes, visible, and cut when it is long.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut shown = String::from("`");
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => shown.push_str(&visible(text)),
        Some((end, _)) => {
            let start = text.get(..end).unwrap_or_default();
            // Writing into a string cannot fail.
            let _ = write!(shown, "{}…", visible(start));
        }
    }
    shown.push('`');
    shown
}

/// `text` as a YAML string in double quotes, on one line and of characters that show: every other
/// one as an escape (YAML 1.2, 5.7), so that it can neither end the string nor act on a terminal.
#[must_use]
pub fn yaml_string(text: &str) -> String {
    let mut shown = String::from("\"");
    for character in text.chars() {
        let code = u32::from(character);
        // Writing into a string cannot fail.
        let _ = match character {
            '"' | '\\' => write!(shown, "\\{character}"),
            // Letters by their class that show as nothing.
            '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => write!(shown, "\\u{code:04x}"),
            ' ' => write!(shown, " "),
            _ if character.is_ascii_graphic() || character.is_alphanumeric() => {
                write!(shown, "{character}")
            }
            _ if code > 0xffff => write!(shown, "\\U{code:08x}"),
            _ => write!(shown, "\\u{code:04x}"),
        };
    }
    shown.push('"');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_and_newlines_are_shown_as_escapes() {
        assert_eq!(visible("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
    }

    #[test]
    fn reordering_characters_are_shown_as_escapes() {
        assert_eq!(visible("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn ordinary_letters_of_any_script_stay() {
        assert_eq!(visible("Zürich 天気"), "Zürich 天気");
    }

    #[test]
    fn a_yaml_string_escapes_all_that_does_not_show() {
        assert_eq!(
            yaml_string("/a \"b\\\n\u{1b}\u{ad}\u{e0001}天"),
            r#""/a \"b\\\u000a\u001b\u00ad\U000e0001天""#
        );
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(quoted(&"é".repeat(81)), format!("`{}…`", "é".repeat(80)));
        assert_eq!(quoted(&"é".repeat(80)), format!("`{}`", "é".repeat(80)));
    }
}
