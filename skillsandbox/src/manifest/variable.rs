//! Names of environment variables.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::error::Refusal;

/// Variables that make the dynamic loader put foreign code into every program that is started
/// (`ld.so(8)`). A skill that needs a library can load it itself.
const LOADER_INJECTION: [&str; 2] = ["LD_PRELOAD", "LD_AUDIT"];

/// Letters, digits and underscores, not starting with a digit (POSIX.1-2024, section 8.1, and
/// lower case). Never `LD_PRELOAD` or `LD_AUDIT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct VariableName(String);

impl VariableName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VariableName {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let (message, remedy) = if text.is_empty() {
            ("the name is empty", "write the variable's name")
        } else if text.contains('=') {
            (
                "a name holds no `=`",
                "name the variable here, and give its value in `set`",
            )
        } else if text.contains('*') {
            ("names are not patterns", "name each variable in full")
        } else if !text.bytes().all(is_allowed) || text.starts_with(|c: char| c.is_ascii_digit()) {
            (
                "a name holds letters, digits and underscores, and starts with no digit",
                "write the variable's name alone, without `$`",
            )
        } else if LOADER_INJECTION.contains(&text) {
            (
                "the variable puts foreign code into every program of the skill",
                "load the library from the skill itself",
            )
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(Refusal::new(message, remedy))
    }
}

impl fmt::Display for VariableName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_letters_digits_and_underscores_parse() {
        for text in ["PATH", "OPENWEATHER_API_KEY", "http_proxy", "_", "A1"] {
            assert_eq!(text.parse::<VariableName>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn other_names_and_loader_injection_are_refused() {
        for text in [
            "",
            "A=b",
            "1A",
            "A B",
            "$HOME",
            "AWS_*",
            "é",
            "LD_PRELOAD",
            "LD_AUDIT",
        ] {
            assert!(text.parse::<VariableName>().is_err(), "{text}");
        }
    }
}
