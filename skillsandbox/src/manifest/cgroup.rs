//! Which cgroups a policy is for.

use std::{
    fmt,
    path::{Component, Path},
    str::FromStr,
};

use serde::{Serialize, Serializer};

use super::{error::Refusal, text::is_deceptive};

/// Longest pattern, as long as a path can be.
const BYTES_MAX: usize = 4095;
/// What other tools would expand, and nobody does here.
const EXPANDED_ELSEWHERE: &[char] = &['?', '[', ']', '{', '}', '$', '\\'];

/// A cgroup, or several: its path from the root of the hierarchy on, where `*` stands for any part of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPattern(String);

impl CgroupPattern {
    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its names, from the root on.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }

    /// Whether it can be of several cgroups.
    #[must_use]
    pub fn is_of_many(&self) -> bool {
        self.0.contains('*')
    }

    /// Whether it is of this cgroup.
    #[must_use]
    pub fn matches(&self, place: &Path) -> bool {
        let mut names = self.names();
        let mut parts = place.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_str()),
            _ => None,
        });
        loop {
            match (names.next(), parts.next()) {
                (None, None) => return true,
                (Some(pattern), Some(Some(name))) if matches_name(pattern, name) => {}
                _ => return false,
            }
        }
    }
}

/// Whether a pattern of one name is of this one.
#[must_use]
pub fn matches_name(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        // The first place that fits leaves the most for those that follow.
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

impl FromStr for CgroupPattern {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let refused = |message: &str, remedy: &str| Err(Refusal::new(message, remedy));
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        let Some(names) = trimmed.strip_prefix('/') else {
            return refused(
                "a cgroup is named from the root of all cgroups on",
                "write `/system.slice/agent.service`",
            );
        };
        if text.len() > BYTES_MAX {
            return refused("it is longer than a path can be", "shorten it");
        }
        if text.contains("**") || text.contains(EXPANDED_ELSEWHERE) {
            return refused(
                "only `*` stands for something else, and for part of one name",
                "write each name, with `*` where it may be anything",
            );
        }
        if text
            .chars()
            .any(|character| character.is_control() || is_deceptive(character))
        {
            return refused("it holds a character that does not show", "remove it");
        }
        if names.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return refused(
                "a name in it is empty, `.` or `..`",
                "write each name of the cgroup's path",
            );
        }
        Ok(Self(trimmed.to_owned()))
    }
}

impl fmt::Display for CgroupPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Serialize for CgroupPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_is_part_of_one_name() {
        let pattern: CgroupPattern = "/system.slice/agent-*.service".parse().unwrap();
        for place in [
            "/system.slice/agent-1.service",
            "/system.slice/agent-.service",
        ] {
            assert!(pattern.matches(Path::new(place)), "{place}");
        }
        for place in [
            "/system.slice/agent-1.service/below",
            "/system.slice/agent-1/x.service",
            "/system.slice/agent.service",
            "/other.slice/agent-1.service",
            "/system.slice",
            "/",
        ] {
            assert!(!pattern.matches(Path::new(place)), "{place}");
        }
    }

    #[test]
    fn names_match_as_shells_have_it() {
        for (pattern, name, is_of_it) in [
            ("a*b*c", "abc", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("*ab*ab", "ab", false),
            ("*ab*ab", "abab", true),
            ("plain", "plain", true),
            ("plain", "plainer", false),
        ] {
            assert_eq!(matches_name(pattern, name), is_of_it, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_pattern_of_cgroups_is_refused() {
        for text in [
            "", "/", "relative", "/a/../b", "/a//b", "/a/**", "/a/[b]", "/a/b?", "/a\n",
        ] {
            assert!(text.parse::<CgroupPattern>().is_err(), "{text:?}");
        }
        let trimmed: CgroupPattern = "/a/b/".parse().unwrap();
        assert_eq!(trimmed.as_str(), "/a/b");
    }

    proptest! {
        #[test]
        fn a_name_with_parts_taken_out_is_matched_by_what_is_left(
            parts in prop::collection::vec("[ab]{0,3}", 1..5),
            between in prop::collection::vec("[abc]{0,3}", 5),
        ) {
            let pattern = parts.join("*");
            let mut name = String::new();
            for (part, filler) in parts.iter().zip(&between) {
                name.push_str(part);
                name.push_str(filler);
            }
            // Nothing stands after the last part.
            let filler = between.get(parts.len() - 1).map_or(0, String::len);
            name.truncate(name.len() - filler);
            prop_assert!(matches_name(&pattern, &name), "{} {}", pattern, name);
        }
    }
}
