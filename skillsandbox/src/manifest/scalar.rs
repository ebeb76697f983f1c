//! What an unquoted YAML value means: the core schema of YAML 1.2, as `serde_yaml` reads it.

/// A value without parts, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Written without quotes, so that its text decides what it is.
    pub(super) is_plain: bool,
}

/// What a scalar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing was written.
    Absent,
    /// `null` or `~`.
    Null,
    Boolean(bool),
    /// A whole number; the nearest one that fits when it is too large.
    Integer(i128),
    /// A number that is not whole.
    Float,
    Text,
}

impl Scalar {
    pub(super) fn kind(&self) -> Kind {
        if !self.is_plain {
            return Kind::Text;
        }
        match self.text.as_str() {
            "" => Kind::Absent,
            "~" | "null" | "Null" | "NULL" => Kind::Null,
            "true" | "True" | "TRUE" => Kind::Boolean(true),
            "false" | "False" | "FALSE" => Kind::Boolean(false),
            text => number(text),
        }
    }
}

fn number(text: &str) -> Kind {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(digits) = unsigned.strip_prefix("0x") {
        return based_integer(text, digits, 16);
    }
    if let Some(digits) = unsigned.strip_prefix("0o") {
        return based_integer(text, digits, 8);
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        // YAML 1.1 reads a leading zero as octal and 1.2 as decimal: text, so that it is refused
        // wherever a number is meant.
        if unsigned.len() > 1 && unsigned.starts_with('0') {
            return Kind::Text;
        }
        return integer(text, unsigned, 10);
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Kind::Float;
    }
    // Rust also parses "inf" and "nan", which YAML does not.
    let starts_as_number = unsigned
        .strip_prefix('.')
        .unwrap_or(unsigned)
        .starts_with(|first: char| first.is_ascii_digit());
    if starts_as_number && text.parse::<f64>().is_ok() {
        return Kind::Float;
    }
    Kind::Text
}

fn based_integer(text: &str, digits: &str, radix: u32) -> Kind {
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Kind::Text;
    }
    integer(text, digits, radix)
}

fn integer(text: &str, digits: &str, radix: u32) -> Kind {
    // Digits alone fail to parse only when they are too many.
    let magnitude = i128::from_str_radix(digits, radix).unwrap_or(i128::MAX);
    Kind::Integer(if text.starts_with('-') {
        -magnitude
    } else {
        magnitude
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Kind {
        Scalar {
            text: text.to_owned(),
            is_plain: true,
        }
        .kind()
    }

    #[test]
    fn plain_words_of_the_core_schema_have_their_meaning() {
        assert_eq!(plain(""), Kind::Absent);
        assert_eq!(plain("~"), Kind::Null);
        assert_eq!(plain("TRUE"), Kind::Boolean(true));
        assert_eq!(plain("False"), Kind::Boolean(false));
        assert_eq!(plain("443"), Kind::Integer(443));
        assert_eq!(plain("-1"), Kind::Integer(-1));
        assert_eq!(plain("0x1BB"), Kind::Integer(443));
        assert_eq!(plain("0o673"), Kind::Integer(443));
        assert_eq!(plain("0.1"), Kind::Float);
        assert_eq!(plain("1e3"), Kind::Float);
        assert_eq!(plain("-.inf"), Kind::Float);
        assert_eq!(plain(&"9".repeat(60)), Kind::Integer(i128::MAX));
    }

    #[test]
    fn what_only_looks_like_a_number_or_a_yes_is_text() {
        for text in [
            "0.1.0",
            "8000-8100",
            "yes",
            "NO",
            "inf",
            "nan",
            "0123",
            "0x",
            "0xg",
            "1:30",
        ] {
            assert_eq!(plain(text), Kind::Text, "{text}");
        }
    }

    #[test]
    fn quotes_make_anything_text() {
        let quoted = Scalar {
            text: "443".to_owned(),
            is_plain: false,
        };
        assert_eq!(quoted.kind(), Kind::Text);
    }
}
