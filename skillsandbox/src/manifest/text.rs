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
    fn long_values_are_cut_between_characters() {
        assert_eq!(quoted(&"é".repeat(81)), format!("`{}…`", "é".repeat(80)));
        assert_eq!(quoted(&"é".repeat(80)), format!("`{}`", "é".repeat(80)));
    }
}
