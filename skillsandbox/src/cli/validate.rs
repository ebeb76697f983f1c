//! `skillsandbox validate`: whether `run`, or `attach`, would accept a manifest.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::manifest::{FILE_NAME, Manifest, NotEnforced, Problem, text};

/// Exit code of a refused manifest, in every subcommand that reads one.
pub(super) const MANIFEST_REFUSED: u8 = 120;

/// Check manifests, and say what is wrong with them and what to write instead.
///
/// Exit code 0 when `run` would accept every one of them, and `attach` those that name a `cgroup`, as far as that is not a matter of the host and of its operator's
/// ceiling, which `run --dry-run` looks at; else 120.
#[derive(clap::Args, Debug)]
pub(super) struct ValidateArgs {
    /// Manifests, or folders of skills that hold a `skillsandbox.yaml`.
    #[arg(default_value = ".", value_name = "FILE_OR_SKILL_DIR")]
    pub paths: Vec<PathBuf>,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// What was found about one manifest.
#[derive(Serialize)]
struct Report {
    file: String,
    /// Whether it would be accepted.
    accepted: bool,
    problems: Vec<Problem>,
    not_enforced_yet: Vec<NotEnforced>,
}

/// Runs the subcommand: `ok` lines on standard output, everything wrong on standard error.
pub(super) fn run(args: &ValidateArgs) -> anyhow::Result<ExitCode> {
    let reports: Vec<_> = args.paths.iter().map(|path| report(path)).collect();
    if args.json {
        let mut output = io::stdout().lock();
        serde_json::to_writer_pretty(&mut output, &reports)?;
        writeln!(output)?;
    } else {
        for report in &reports {
            print(report, &mut io::stdout().lock(), &mut io::stderr().lock())?;
        }
    }
    if reports.iter().all(|report| report.accepted) {
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::from(MANIFEST_REFUSED))
    }
}

/// The manifest that a path on the command line names.
pub(super) fn manifest_path(path: &Path) -> PathBuf {
    if path.is_dir() {
        path.join(FILE_NAME)
    } else {
        path.to_owned()
    }
}

fn report(path: &Path) -> Report {
    let path = manifest_path(path);
    let (problems, not_enforced_yet) = match Manifest::load(&path) {
        Ok(manifest) => (Vec::new(), manifest.not_enforced_yet(manifest.is_for())),
        Err(error) => (error.problems, Vec::new()),
    };
    Report {
        file: path.to_string_lossy().into_owned(),
        accepted: problems.is_empty() && not_enforced_yet.is_empty(),
        problems,
        not_enforced_yet,
    }
}

fn print(report: &Report, output: &mut impl Write, errors: &mut impl Write) -> io::Result<()> {
    let file = text::visible(&report.file);
    for problem in &report.problems {
        writeln!(errors, "{problem}")?;
    }
    for NotEnforced { field, line, why } in &report.not_enforced_yet {
        writeln!(
            errors,
            "{file}:{line}: {field} is not enforced yet ({why}), and what cannot be enforced is refused; \
             leave it out"
        )?;
    }
    if report.accepted {
        writeln!(output, "{file}: ok")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(path: &str) -> (bool, String, String) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../manifests")
            .join(path);
        let mut report = report(&path);
        report.file = "FILE".to_owned();
        for problem in &mut report.problems {
            problem.file = "FILE".to_owned();
        }
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        print(&report, &mut output, &mut errors).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (report.accepted, text(output), text(errors))
    }

    #[test]
    fn a_good_manifest_in_a_skill_folder_is_ok() {
        let expected = (true, "FILE: ok\n".to_owned(), String::new());
        assert_eq!(printed("original"), expected);
    }

    #[test]
    fn a_bad_manifest_is_refused_with_its_problems() {
        let (accepted, output, errors) = printed("bad/memory-zero.yaml");
        assert!(!accepted);
        assert_eq!(output, "");
        assert!(
            errors.starts_with("FILE:17:14: resources.memory_mb is `0`"),
            "{errors}"
        );
    }

    #[test]
    fn what_only_a_run_can_have_is_refused_of_a_cgroup() {
        let refused = |more: &str| {
            let text =
                "skill: { name: a, version: '1' }\npermissions:\nentrypoint: { command: a }\n";
            let text = format!("{text}{more}");
            let manifest = Manifest::parse("FILE", text.as_bytes()).unwrap();
            let refused = manifest.not_enforced_yet(manifest.is_for());
            let fields = refused
                .into_iter()
                .map(|refused| (refused.field, refused.line));
            fields.collect::<Vec<_>>()
        };
        let counted = "audit: { aggregate: true }\n";
        assert_eq!(refused(counted), []);
        let of_a_cgroup = refused(&format!("{counted}cgroup: /a.slice\n"));
        assert_eq!(of_a_cgroup, [("audit.aggregate".to_owned(), 4)]);
        let denied = "cgroup: /a.slice\naudit: { on_overflow: deny }\n";
        assert_eq!(refused(denied), []);
        let audited = refused(&format!("{denied}mode: audit\n"));
        assert_eq!(audited, [("audit.on_overflow".to_owned(), 5)]);
    }

    #[test]
    fn a_valid_manifest_that_asks_for_what_is_not_enforced_is_refused() {
        let text = "skill: { name: a, version: '1' }\npermissions:\nentrypoint: { command: a }\n\
                    mode: audit\n";
        let policy = format!("{text}cgroup: /a.slice\n");
        let policy = Manifest::parse("FILE", policy.as_bytes()).unwrap();
        assert_eq!(policy.not_enforced_yet(policy.is_for()), []);
        let manifest = Manifest::parse("FILE", text.as_bytes()).unwrap();
        let report = Report {
            file: "FILE".to_owned(),
            accepted: false,
            problems: Vec::new(),
            not_enforced_yet: manifest.not_enforced_yet(manifest.is_for()),
        };
        let mut errors = Vec::new();
        print(&report, &mut Vec::new(), &mut errors).unwrap();
        let errors = String::from_utf8(errors).unwrap();
        assert!(
            errors.starts_with("FILE:4: mode is not enforced yet"),
            "{errors}"
        );
    }
}
