//! Ports.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::error::Refusal;

/// One port, or an unbroken range of them, each from 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// HTTPS, the default of an egress entry.
    pub const HTTPS: Self = Self {
        first: 443,
        last: 443,
    };

    /// First port, at least 1.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// Last port, itself included; never below the first.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }
}

impl FromStr for PortRange {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(Refusal::new(
                "the range is reversed",
                format!("write \"{last}-{first}\""),
            ));
        }
        Ok(Self { first, last })
    }
}

fn port(digits: &str) -> Result<u16, Refusal> {
    // Rust also parses "+1".
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(port) if port > 0 && is_number => Ok(port),
        _ => Err(Refusal::new(
            "ports go from 1 to 65535",
            "write a port such as 443, or a range such as \"8000-8100\"",
        )),
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(formatter, "{}", self.first)
        } else {
            write!(formatter, "{}-{}", self.first, self.last)
        }
    }
}

/// As the manifest writes it: a number, or a range as text.
impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            serializer.serialize_u16(self.first)
        } else {
            serializer.collect_str(self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_and_a_range_parse_up_to_the_limits() {
        let one: PortRange = "65535".parse().unwrap();
        assert_eq!((one.first(), one.last()), (65535, 65535));
        let all: PortRange = "1-65535".parse().unwrap();
        assert_eq!((all.first(), all.last()), (1, 65535));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "", "0", "65536", "-1", "+443", "443-", "-443", "9-8", "1-2-3", " 443", "4 - 5", "0-9",
            "٤٤٣", "443.0", "http",
        ] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }
}
