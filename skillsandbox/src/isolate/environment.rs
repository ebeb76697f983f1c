//! The skill's environment: what the manifest names, and the folders of the sandbox.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Where the skill's home is, in the sandbox.
pub const HOME: &str = "/home/skill";

/// Where programs are looked for when the manifest does not pass `PATH`, and where the command of
/// an entry point always is.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Variables that point into the private folders.
const PRIVATE: [(&str, &str); 9] = [
    ("HOME", HOME),
    ("LOGNAME", "skill"),
    ("TMPDIR", "/tmp"),
    ("USER", "skill"),
    ("XDG_CACHE_HOME", "/home/skill/.cache"),
    ("XDG_CONFIG_HOME", "/home/skill/.config"),
    ("XDG_DATA_HOME", "/home/skill/.local/share"),
    ("XDG_RUNTIME_DIR", "/tmp"),
    ("XDG_STATE_HOME", "/home/skill/.local/state"),
];

/// The environment of a skill, and where each part of it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Names and values, sorted.
    pub variables: Vec<(OsString, OsString)>,
    /// Names whose value is the caller's.
    pub passed: Vec<String>,
    /// Names that the caller has and the skill does not get from it.
    pub withheld: Vec<String>,
    /// Names that the manifest asks for and the caller does not have.
    pub missing: Vec<String>,
}

impl Environment {
    /// Takes the variables named in `allow` from the `caller`'s environment. Those of the private
    /// folders win over the caller's, and those in `set` over both.
    #[must_use]
    pub fn build(
        allow: &[String],
        set: &BTreeMap<String, String>,
        caller: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let mut variables = BTreeMap::from([(OsString::from("PATH"), OsString::from(PATH))]);
        let mut environment = Self::default();
        for (name, value) in caller {
            let shown = name.to_string_lossy().into_owned();
            let wanted = allow.iter().any(|allowed| OsStr::new(allowed) == name);
            let replaced =
                PRIVATE.iter().any(|(private, _)| *private == shown) || set.contains_key(&shown);
            if wanted && !replaced {
                environment.passed.push(shown);
                variables.insert(name, value);
            } else {
                environment.withheld.push(shown);
            }
        }
        for (name, value) in PRIVATE {
            variables.insert(name.into(), value.into());
        }
        for (name, value) in set {
            variables.insert(name.into(), value.into());
        }
        environment.missing = allow
            .iter()
            .filter(|name| !variables.contains_key(OsStr::new(name)))
            .cloned()
            .collect();
        environment.passed.sort();
        environment.withheld.sort();
        environment.variables = variables.into_iter().collect();
        environment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    fn value<'a>(environment: &'a Environment, name: &str) -> Option<&'a OsStr> {
        let mut found = environment.variables.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.as_os_str());
        assert!(found.next().is_none());
        value
    }

    #[test]
    fn only_what_is_declared_passes() {
        let allow = ["LANG".to_owned(), "API_KEY".to_owned(), "HOME".to_owned()];
        let from = caller(&[("LANG", "C"), ("AWS_SECRET", "x"), ("HOME", "/root")]);
        let built = Environment::build(&allow, &BTreeMap::new(), from);
        assert_eq!(built.passed, ["LANG"]);
        assert_eq!(built.withheld, ["AWS_SECRET", "HOME"]);
        assert_eq!(built.missing, ["API_KEY"]);
        assert_eq!(value(&built, "HOME"), Some(OsStr::new(HOME)));
        assert_eq!(value(&built, "PATH"), Some(OsStr::new(PATH)));
        assert_eq!(value(&built, "AWS_SECRET"), None);
    }

    #[test]
    fn set_wins() {
        let set = BTreeMap::from([("HOME".to_owned(), "/tmp".to_owned())]);
        let built = Environment::build(&[], &set, caller(&[]));
        assert_eq!(value(&built, "HOME"), Some(OsStr::new("/tmp")));
    }
}
