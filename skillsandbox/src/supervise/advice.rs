//! What would let a denied access through, of this sandbox: some of its paths are its own, and no
//! permission changes them.

use std::path::{Component, Path};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use skillsandbox_common::{header::Reason, rule::Access};

use super::draft::ETC_FILES;
use crate::{
    isolate::{environment::HOME, launch::SKILL},
    policy::{Advice, DeniedFile, RuleSet},
};

/// What would let this access to a file through.
#[must_use]
pub fn advise_file(rules: &RuleSet, denied: &DeniedFile<'_>) -> Advice {
    let by_rules = matches!(
        denied.reason,
        Reason::NoRule | Reason::NotGranted | Reason::Refused
    );
    // What the manifest grants there is the host's, in place of the sandbox's own.
    match of_the_sandbox(denied.path, denied.access) {
        Some(words) if by_rules && !rules.grants_at(denied.path) => {
            Advice::Remedy(words.to_owned())
        }
        _ => rules.advise_file(denied),
    }
}

/// Why no permission grants this access to what the sandbox has for itself.
fn of_the_sandbox(path: &[u8], access: u16) -> Option<&'static str> {
    let path = Path::new(OsStr::from_bytes(path));
    if path.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    let executes = access & Access::EXEC != 0;
    if path.starts_with(SKILL) && access & Access::WRITE != 0 {
        return Some(
            "the skill's folder is never writable: write below /tmp, or to a folder of the host",
        );
    }
    if path.starts_with("/proc") {
        return Some("the sandbox has its own /proc: what is readable is there");
    }
    let private = [HOME, "/tmp", "/dev/shm", "/dev/pts"];
    if executes && private.iter().any(|folder| path.starts_with(folder)) {
        return Some(
            "nothing in the sandbox's own folders is executed: have the program in the skill's folder",
        );
    }
    if ETC_FILES
        .iter()
        .any(|name| path == Path::new("/etc").join(name))
    {
        return Some("the file is the sandbox's own, and only read");
    }
    ["/", "/etc", "/dev"].contains(&path.to_str()?).then_some(
        "the folder is too much to grant: grant the files and folders in it that are needed",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Grant, Subject};

    fn advice(path: &str, access: u16) -> Advice {
        let mut rules = RuleSet::default();
        let subject = |path: &str, grant| Subject::Path(path.into(), grant);
        rules.push(subject("/tmp", Grant::WRITE), "built-in /tmp", None);
        rules.push(subject("/tmp/tools", Grant::READ), "read", Some(3));
        let denied = DeniedFile {
            reason: Reason::NotGranted,
            rule: 0,
            path: path.as_bytes(),
            access,
        };
        advise_file(&rules, &denied)
    }

    #[test]
    fn no_permission_is_named_for_what_the_sandbox_has_for_itself() {
        for (path, access) in [
            ("/skill/main.py", Access::WRITE),
            ("/proc/1/mem", Access::READ),
            ("/tmp/program", Access::EXEC),
            ("/home/skill/program", Access::EXEC),
            ("/etc/passwd", Access::WRITE),
            ("/etc", Access::WRITE),
        ] {
            let advice = advice(path, access);
            assert!(matches!(advice, Advice::Remedy(_)), "{path}: {advice:?}");
        }
    }

    #[test]
    fn a_folder_of_the_host_below_one_of_the_sandboxes_own_can_be_granted() {
        let line = r#"permissions: { exec: { allow: ["/tmp/tools/program"] } }"#;
        assert_eq!(
            advice("/tmp/tools/program", Access::EXEC),
            Advice::Permit(line.to_owned())
        );
    }
}
