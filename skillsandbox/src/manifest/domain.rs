//! Domain names, and patterns of them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::error::Refusal;

/// Most bytes of a name and of each of its labels (RFC 1035, section 2.3.4, without the dots of
/// the wire format).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// What an egress entry's `domain` names, in lower case.
///
/// Labels are letters, digits and hyphens (RFC 1123, section 2.1), and underscores, which hosts
/// in use have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DomainPattern {
    /// This name alone.
    Exact(String),
    /// `*.example.com`: every name below `example.com`, which is what is held here, but not
    /// `example.com` itself.
    Below(String),
}

impl FromStr for DomainPattern {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        refuse_other_notations(text)?;
        let name = text.to_ascii_lowercase();
        let Some(parent) = name.strip_prefix("*.") else {
            check_name(&name)?;
            return Ok(Self::Exact(name));
        };
        check_name(parent)?;
        if !parent.contains('.') {
            return Err(Refusal::new(
                "the wildcard covers a whole top-level domain",
                "write each name in full",
            ));
        }
        Ok(Self::Below(parent.to_owned()))
    }
}

/// Names the right place for what people write in place of a name.
fn refuse_other_notations(text: &str) -> Result<(), Refusal> {
    let (message, remedy) = if text.is_empty() {
        (
            "the domain is empty",
            "write a name such as `api.example.com`",
        )
    } else if is_address(text) {
        (
            "this is an address, not a name",
            "write it as `cidr:`, such as `cidr: 192.0.2.1/32`",
        )
    } else if text.contains("://") {
        ("this is a URL", "write the host name alone")
    } else if text.contains('/') {
        (
            "a name holds no `/`",
            "write the host name alone, or a network as `cidr:`",
        )
    } else if text.contains(':') {
        ("a name holds no port", "write the port in `ports:`")
    } else if text.ends_with('.') {
        ("the name ends with a dot", "leave the dot out")
    } else if !text.is_ascii() {
        ("the name is not ASCII", "write its `xn--` form (punycode)")
    } else {
        return Ok(());
    };
    Err(Refusal::new(message, remedy))
}

/// An address as a resolver reads it: in full, in brackets, or in one of the short forms of
/// `inet_aton`, which all end in a number (`127.1`, `0x7f.1`, `2130706433`).
fn is_address(text: &str) -> bool {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let last = text.rsplit('.').next().unwrap_or(text);
    let is_number = |label: &str| match label.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()),
    };
    bare.parse::<IpAddr>().is_ok() || is_number(&last.to_ascii_lowercase())
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Refusal::new(
            format!(
                "the name has {} characters, more than {NAME_BYTES_MAX}",
                name.len()
            ),
            "write a shorter name",
        ));
    }
    name.split('.').try_for_each(check_label)
}

fn check_label(label: &str) -> Result<(), Refusal> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let (message, remedy) = if label.is_empty() {
        (
            "a label between two dots is empty",
            "write one dot between labels",
        )
    } else if label.contains('*') {
        (
            "a wildcard is only `*.` at the start",
            "write each name in full",
        )
    } else if label.len() > LABEL_BYTES_MAX {
        (
            "a label has more than 63 characters",
            "write a shorter label",
        )
    } else if !label.bytes().all(is_allowed) {
        (
            "a name holds letters, digits, hyphens, underscores and dots only",
            "remove the other characters",
        )
    } else if label.starts_with('-') || label.ends_with('-') {
        ("a label starts or ends with a hyphen", "remove the hyphen")
    } else {
        return Ok(());
    };
    Err(Refusal::new(message, remedy))
}

impl DomainPattern {
    /// Whether a name, in lower case and without the last dot, is meant.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => name == exact,
            Self::Below(parent) => name
                .strip_suffix(parent.as_str())
                .is_some_and(|below| below.len() > 1 && below.ends_with('.')),
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => formatter.write_str(name),
            Self::Below(parent) => write!(formatter, "*.{parent}"),
        }
    }
}

impl Serialize for DomainPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_held_in_lower_case() {
        let name: DomainPattern = "API.OpenWeatherMap.org".parse().unwrap();
        assert_eq!(
            name,
            DomainPattern::Exact("api.openweathermap.org".to_owned())
        );
    }

    #[test]
    fn single_labels_underscores_and_punycode_are_names() {
        for text in [
            "localhost",
            "my_bucket.example.com",
            "xn--zrich-kva.ch",
            "3com.com",
            "a-b.c",
        ] {
            assert!(text.parse::<DomainPattern>().is_ok(), "{text}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_the_first_labels_only() {
        let below: DomainPattern = "*.Example.com".parse().unwrap();
        assert_eq!(below, DomainPattern::Below("example.com".to_owned()));
        for text in [
            "*",
            "*.",
            "*.com",
            "a.*.com",
            "*a.example.com",
            "*.*.example.com",
            "a.*",
        ] {
            assert!(text.parse::<DomainPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_spelling_of_an_address_is_refused() {
        for text in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0X7F.1",
            "a.0x",
            "::1",
            "[::1]",
            "1.2.3.4.5",
            "fe80::1",
        ] {
            let refusal = text.parse::<DomainPattern>().unwrap_err();
            assert_eq!(refusal.message, "this is an address, not a name", "{text}");
        }
    }

    #[test]
    fn lengths_are_those_of_the_dns() {
        let label = "a".repeat(63);
        assert!(format!("{label}.org").parse::<DomainPattern>().is_ok());
        assert!(format!("{label}a.org").parse::<DomainPattern>().is_err());
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), 253);
        assert!(longest.parse::<DomainPattern>().is_ok());
        assert!(format!("{longest}a").parse::<DomainPattern>().is_err());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "a.",
            "-a.com",
            "a-.com",
            "a b",
            "a@b.c",
            "zürich.ch",
        ] {
            assert!(text.parse::<DomainPattern>().is_err(), "{text}");
        }
    }
}
