//! Bytes as two hexadecimal digits each.

use std::fmt::{self, Display, Formatter};

/// Shows them.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// As many bytes as are wanted, and nothing else.
pub(super) fn parse<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (digits, rest) = text.as_bytes().as_chunks::<2>();
    if digits.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(digits) {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            // Of one spelling alone, so that no two texts are the same bytes.
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_spelling() {
        assert_eq!(Hex(&[0, 0xab]).to_string(), "00ab");
        assert_eq!(parse("00ab"), Some([0, 0xab]));
        assert_eq!(parse::<2>("00AB"), None);
        assert_eq!(parse::<2>("00abc"), None);
        assert_eq!(parse::<2>("00"), None);
    }
}
