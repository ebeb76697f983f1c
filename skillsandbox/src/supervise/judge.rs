//! What the rules say: of a call that a tracepoint saw after the fact, and of a denial.

use std::path::{Component, Path, PathBuf};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use skillsandbox_common::{
    header::{Reason, Verdict},
    rule::Decision,
};

use super::advice;
use crate::{
    audit::describe::Judge,
    isolate::{paths, privileges::Identity, reach::as_caller},
    policy::{self, Advice, DeniedAddress, DeniedFile, RuleSet},
};

/// Judges by the result, and where that is "no such file" by the rules: what they do not grant does
/// not exist in the sandbox. It was denied if the host has it.
#[derive(Clone, Debug)]
pub(super) struct ByRules {
    pub(super) rules: RuleSet,
    /// Who may read the record without being root: it does not tell them what exists where they cannot look.
    pub(super) caller: Option<Identity>,
}

impl Judge for ByRules {
    fn judge(&self, path: &[u8], access: u16, result: i32) -> Decision {
        let observed = Decision {
            reason: Reason::Observed,
            ..Decision::allow(0)
        };
        match -result {
            libc::EACCES | libc::EPERM | libc::EROFS => {
                let rule = match self.of(path, access) {
                    Some(decision) if decision.verdict == Verdict::Deny => decision.rule,
                    _ => 0,
                };
                Decision::deny(Reason::Refused, rule)
            }
            libc::ENOENT => match clean(path).map(|path| (self.on(&path, access), path)) {
                Some((decision, path))
                    if decision.verdict == Verdict::Deny && self.may_exist(&path) =>
                {
                    decision
                }
                _ => observed,
            },
            _ => observed,
        }
    }

    fn advise_file(&self, denied: &DeniedFile<'_>) -> Option<Advice> {
        Some(advice::advise_file(&self.rules, denied))
    }

    fn advise_address(&self, denied: &DeniedAddress<'_>) -> Option<Advice> {
        Some(policy::advise_address(denied))
    }
}

impl ByRules {
    fn of(&self, path: &[u8], access: u16) -> Option<Decision> {
        clean(path).map(|path| self.on(&path, access))
    }

    fn may_exist(&self, path: &Path) -> bool {
        as_caller(self.caller, || paths::may_exist(path)).unwrap_or(true)
    }

    fn on(&self, path: &Path, access: u16) -> Decision {
        self.rules.decide_file(path.as_os_str().as_bytes(), access)
    }
}

/// A path as it was passed, without `.` and `..`. Where a relative path starts is not known.
fn clean(path: &[u8]) -> Option<PathBuf> {
    let path = Path::new(OsStr::from_bytes(path));
    if !path.is_absolute() {
        return None;
    }
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    Some(clean)
}

#[cfg(test)]
mod tests {
    use skillsandbox_common::rule::Access;

    use super::*;
    use crate::policy::{Grant, Subject};

    fn judge() -> ByRules {
        let mut rules = RuleSet::default();
        rules.push(
            Subject::Path(b"/usr".to_vec(), Grant::READ),
            "built-in /usr",
            None,
        );
        ByRules {
            rules,
            caller: None,
        }
    }

    fn verdict(path: &str, result: i32) -> Verdict {
        judge().judge(path.as_bytes(), Access::READ, result).verdict
    }

    #[test]
    fn a_hidden_path_that_no_rule_grants_was_denied() {
        assert_eq!(verdict("/etc/passwd", -libc::ENOENT), Verdict::Deny);
        assert_eq!(
            verdict("/usr/../etc/./passwd", -libc::ENOENT),
            Verdict::Deny
        );
    }

    #[test]
    fn a_path_that_the_host_does_not_have_was_not_denied() {
        for path in ["/no-such-folder/key", "/etc/passwd/no-folder"] {
            assert_eq!(verdict(path, -libc::ENOENT), Verdict::Allow, "{path}");
        }
    }

    #[test]
    fn a_granted_path_that_is_missing_was_not_denied() {
        assert_eq!(verdict("/usr/lib/none", -libc::ENOENT), Verdict::Allow);
        assert_eq!(verdict("./usr/../lib//none", -libc::ENOENT), Verdict::Allow);
    }

    #[test]
    fn what_the_kernel_refused_was_denied_and_what_it_did_was_not() {
        assert_eq!(verdict("/usr/bin/curl", -libc::EACCES), Verdict::Deny);
        assert_eq!(verdict("/usr/bin/curl", 3), Verdict::Allow);
    }
}
