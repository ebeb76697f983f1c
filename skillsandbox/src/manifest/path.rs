//! Paths, and patterns of paths to deny.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use skillsandbox_common::rule::RULE_PATH_MAX;

use super::error::Refusal;
use super::text::is_deceptive;

/// Start of a pattern that names a file or folder at any depth.
const ANY_DEPTH: &str = "**/";

/// Characters that shells and other tools expand. Rules are literal: a pattern taken literally
/// would deny nothing, and its author would never know.
const EXPANDED_ELSEWHERE: &[char] = &['*', '?', '[', ']', '{', '}', '$'];

/// An absolute path of at most [`RULE_PATH_MAX`] bytes: no `.`, `..` or empty component, no
/// pattern, no trailing slash (one is taken off).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AbsolutePath(String);

impl AbsolutePath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path for system calls.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// Whether it is `/`, and a rule for it would be a rule for the whole host.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// Where a skill's own folder is mounted, and the default working folder.
    pub(super) fn skill_folder() -> Self {
        Self("/skill".to_owned())
    }
}

impl AsRef<Path> for AbsolutePath {
    fn as_ref(&self) -> &Path {
        self.as_path()
    }
}

impl fmt::Display for AbsolutePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for AbsolutePath {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let Some(relative) = text.strip_prefix('/') else {
            return Err(Refusal::new(
                "the path is not absolute",
                "write it from the root on: `/folder/file`",
            ));
        };
        check_length(text)?;
        if relative.is_empty() {
            return Ok(Self("/".to_owned()));
        }
        let relative = relative.strip_suffix('/').unwrap_or(relative);
        for component in relative.split('/') {
            match component {
                "" => return Err(Refusal::new("the path holds `//`", "write one `/`")),
                "." => return Err(Refusal::new("the path holds `.`", "leave `/.` out")),
                ".." => {
                    return Err(Refusal::new(
                        "the path holds `..`",
                        "write the path that it leads to",
                    ));
                }
                _ => check_literal(component)?,
            }
        }
        Ok(Self(format!("/{relative}")))
    }
}

/// What `filesystem.deny` names. Wins over every grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DenyPattern {
    /// A file, or a folder and everything below it.
    Path(AbsolutePath),
    /// `**/name`: every file or folder of this name, at any depth.
    AnyDepth(String),
}

impl FromStr for DenyPattern {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let Some(name) = text.strip_prefix(ANY_DEPTH) else {
            return text.parse().map(Self::Path);
        };
        check_length(text)?;
        check_literal(name)?;
        if matches!(name, "" | "." | "..") || name.contains('/') {
            return Err(Refusal::new(
                "`**/` takes one name",
                "write `**/name`, or an absolute path",
            ));
        }
        Ok(Self::AnyDepth(name.to_owned()))
    }
}

impl fmt::Display for DenyPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.fmt(formatter),
            Self::AnyDepth(name) => write!(formatter, "{ANY_DEPTH}{name}"),
        }
    }
}

impl Serialize for DenyPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn check_length(text: &str) -> Result<(), Refusal> {
    if text.len() > RULE_PATH_MAX {
        return Err(Refusal::new(
            format!(
                "the path has {} bytes, and a rule holds {RULE_PATH_MAX}",
                text.len()
            ),
            "name a folder above it",
        ));
    }
    Ok(())
}

fn check_literal(component: &str) -> Result<(), Refusal> {
    if component.chars().any(is_deceptive) {
        return Err(Refusal::new(
            "the path holds an invisible character",
            "remove it",
        ));
    }
    match component.chars().find(|c| EXPANDED_ELSEWHERE.contains(c)) {
        Some(character) => Err(Refusal::new(
            format!("paths are literal, and `{character}` would not be expanded"),
            "name the folder (all below it is included), or deny `**/name`",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailing_slash_is_taken_off() {
        let path: AbsolutePath = "/tmp/weather-cache/".parse().unwrap();
        assert_eq!(path.as_str(), "/tmp/weather-cache");
    }

    #[test]
    fn names_that_start_with_dots_are_ordinary() {
        for text in ["/home/user/.ssh", "/a/..b", "/a/...", "/a b/天気"] {
            assert_eq!(text.parse::<AbsolutePath>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn the_longest_path_is_that_of_a_rule() {
        let longest = format!("/{}", "a".repeat(RULE_PATH_MAX - 1));
        assert!(longest.parse::<AbsolutePath>().is_ok());
        assert!(format!("{longest}a").parse::<AbsolutePath>().is_err());
    }

    #[test]
    fn paths_with_two_readings_are_refused() {
        for text in [
            "",
            "tmp",
            "~/x",
            "./x",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/a/.",
            "/a/./b",
            "/..",
            "/a/../b",
            "/a/*",
            "/home/$USER",
            "/a/{b,c}",
            "/a/[bc]",
            "/a?",
            "**/x",
            "/a\nb",
            "/a\0b",
        ] {
            assert!(text.parse::<AbsolutePath>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_deny_pattern_is_a_path_or_a_name_at_any_depth() {
        let path: DenyPattern = "/etc/shadow".parse().unwrap();
        assert_eq!(path.to_string(), "/etc/shadow");
        let name: DenyPattern = "**/.env".parse().unwrap();
        assert_eq!(name, DenyPattern::AnyDepth(".env".to_owned()));
        for text in ["**", "**/", "**/..", "**/a/b", "**/*.pem", "*/a", "a"] {
            assert!(text.parse::<DenyPattern>().is_err(), "{text}");
        }
    }
}
