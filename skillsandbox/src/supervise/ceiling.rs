//! Whether what a manifest asks for is within what this host's operator permits: a manifest is a request, never a grant.

use std::{os::unix::ffi::OsStrExt, path::Path};

use skillsandbox_common::rule::Access;

use super::{draft::Draft, error::RunError};
use crate::{
    isolate::paths,
    manifest::{
        AbsolutePath, CEILING_FILE, Ceiling, DomainPattern, Manifest, Mode, Runtime, Spanned,
        SystemCallProfile,
    },
    policy::{Grant, Rule, RuleSet, Subject},
};

/// Something that is more than is permitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Its line in the manifest; 0 for what the manifest does not say.
    line: u32,
    /// What is asked for.
    what: String,
    /// The line of the ceiling.
    ceiling_line: u32,
    /// What bounds it there.
    bound: &'static str,
}

impl Excess {
    /// What is said of it, with the two files.
    pub(super) fn told(&self, manifest: &str, ceiling: &str) -> String {
        let place = |file: &str, line: u32| match line {
            0 => file.to_owned(),
            line => format!("{file}:{line}"),
        };
        format!(
            "{}: {} is more than {} permits there: {}",
            place(manifest, self.line),
            self.what,
            place(ceiling, self.ceiling_line),
            self.bound
        )
    }
}

/// What the operator of this host permits, where that is said. `None` is everything.
pub(super) fn of_this_host() -> Result<Option<Ceiling>, RunError> {
    Ok(Ceiling::load(Path::new(CEILING_FILE))?)
}

/// Refuses what exceeds a ceiling. Paths are looked up where this is called.
pub(super) fn check(
    ceiling: Option<&Ceiling>,
    file: &str,
    manifest: &Manifest,
    mode: Mode,
    rules: &RuleSet,
) -> Result<(), RunError> {
    let Some(ceiling) = ceiling else {
        return Ok(());
    };
    let excesses = excesses(ceiling, manifest, mode, rules)?;
    if excesses.is_empty() {
        return Ok(());
    }
    Err(RunError::Exceeds {
        file: file.to_owned(),
        ceiling: ceiling.file.clone(),
        excesses,
    })
}

fn excesses(
    ceiling: &Ceiling,
    manifest: &Manifest,
    mode: Mode,
    rules: &RuleSet,
) -> Result<Vec<Excess>, RunError> {
    let mut found = Vec::new();
    let permitted = Permitted::of(ceiling)?;
    for rule in rules.rules().iter().filter(|rule| !rule.is_built_in()) {
        if let Some((ceiling_line, bound)) = permitted.forbids(&rule.subject) {
            found.push(Excess {
                line: line_of(rule),
                what: rule.text.clone(),
                ceiling_line,
                bound,
            });
        }
    }
    let mut add = |line: u32, what: String, ceiling_line: u32, bound| {
        found.push(Excess {
            line,
            what,
            ceiling_line,
            bound,
        });
    };
    if mode == Mode::Audit && ceiling.mode == Mode::Enforce {
        let bound = "a policy is enforced, unless the ceiling says `mode: audit`";
        add(manifest.mode.line, "mode: audit".to_owned(), 0, bound);
    }
    let permissions = &manifest.permissions;
    if let Some(bound) = &ceiling.variables {
        for name in &permissions.env_vars.allow {
            if !bound.value.iter().any(|may| may.value == name.value) {
                let what = format!("env_vars.allow {}", name.value.as_str());
                add(name.line, what, bound.line, "env_vars.allow");
            }
        }
    }
    if let Some(bound) = &ceiling.persist {
        for name in &permissions.filesystem.persist {
            if !bound.value.iter().any(|may| may.value == name.value) {
                let what = format!("filesystem.persist {}", name.value);
                add(name.line, what, bound.line, "filesystem.persist");
            }
        }
    }
    if let Some(bound) = ceiling.runtime
        && bound.value == Runtime::None
        && permissions.filesystem.runtime != Runtime::None
    {
        let what = "filesystem.runtime: system".to_owned();
        add(0, what, bound.line, "filesystem.runtime");
    }
    let profile = permissions.syscalls.profile;
    if let Some(bound) = ceiling.profile
        && permits(profile.value) > permits(bound.value)
    {
        let what = "syscalls.profile".to_owned();
        add(profile.line, what, bound.line, "syscalls.profile");
    }
    let (asked, most) = (&manifest.resources, &ceiling.resources);
    for (name, asked, most) in [
        ("memory_mb", asked.memory_mb, most.memory_mb),
        ("cpu_shares", asked.cpu_shares, most.cpu_shares),
        (
            "max_runtime_seconds",
            asked.max_runtime_seconds,
            most.max_runtime_seconds,
        ),
        (
            "max_output_bytes",
            asked.max_output_bytes,
            most.max_output_bytes,
        ),
        ("max_processes", asked.max_processes, most.max_processes),
        ("max_open_files", asked.max_open_files, most.max_open_files),
    ] {
        if let Some(most) = most.filter(|most| asked > most.value) {
            add(
                0,
                format!("resources.{name}: {asked}"),
                most.line,
                "resources",
            );
        }
    }
    Ok(found)
}

/// How much a profile lets through, in comparison.
fn permits(profile: SystemCallProfile) -> u8 {
    match profile {
        SystemCallProfile::Strict => 0,
        SystemCallProfile::Default => 1,
        SystemCallProfile::Permissive => 2,
    }
}

fn line_of(rule: &Rule) -> u32 {
    rule.line
        .and_then(|line| line.try_into().ok())
        .unwrap_or_default()
}

/// A ceiling's lists, as rules are.
struct Permitted<'c> {
    ceiling: &'c Ceiling,
    read: Paths,
    write: Paths,
    exec: Paths,
    unix: Paths,
    /// Rules on networks and names.
    egress: RuleSet,
}

/// The line of a list, and its paths without links.
type Paths = Option<(u32, Vec<Vec<u8>>)>;

impl<'c> Permitted<'c> {
    fn of(ceiling: &'c Ceiling) -> Result<Self, RunError> {
        let paths = |bound: &Option<Spanned<Vec<Spanned<AbsolutePath>>>>| {
            let resolved = bound.as_ref().map(|bound| {
                let paths = bound.value.iter().map(|path| {
                    let resolved = paths::resolve(path.value.as_path())?;
                    Ok(resolved.real.as_os_str().as_bytes().to_vec())
                });
                Ok::<_, RunError>((bound.line, paths.collect::<Result<_, RunError>>()?))
            });
            resolved.transpose()
        };
        let mut draft = Draft::default();
        for entry in ceiling.egress.iter().flat_map(|bound| &bound.value) {
            draft.destination(entry)?;
        }
        Ok(Self {
            ceiling,
            read: paths(&ceiling.read)?,
            write: paths(&ceiling.write)?,
            exec: paths(&ceiling.exec)?,
            unix: paths(&ceiling.unix)?,
            egress: draft.rules,
        })
    }

    /// The line that does not permit this, and what it bounds.
    fn forbids(&self, asked: &Subject) -> Option<(u32, &'static str)> {
        match asked {
            Subject::Path(path, Grant::Allow(access)) => self.forbids_path(path, *access),
            Subject::Unix { path, .. } => forbids(&self.unix, path, "network.unix"),
            Subject::Listen { first, last } => {
                let bound = self.ceiling.listen.as_ref()?;
                let mut ranges = bound.value.iter().map(|range| range.value);
                let is_covered = ranges.any(|may| may.first() <= *first && *last <= may.last());
                (!is_covered).then_some((bound.line, "network.listen"))
            }
            Subject::Address { .. } | Subject::Host { .. } => {
                let bound = self.ceiling.egress.as_ref()?;
                let mut permitted = self.egress.rules().iter();
                let is_covered = permitted.any(|may| covers(&may.subject, asked));
                (!is_covered).then_some((bound.line, "network.egress"))
            }
            // What is denied, and what every sandbox has.
            Subject::Path(_, Grant::Deny)
            | Subject::Exact(..)
            | Subject::Nameless(..)
            | Subject::Name(_)
            | Subject::Persistent { .. } => None,
        }
    }

    fn forbids_path(&self, path: &[u8], access: u16) -> Option<(u32, &'static str)> {
        if access & Access::EXEC != 0 {
            return forbids(&self.exec, path, "exec.allow");
        }
        // The loader of the entrypoint, which comes with that.
        if access & Access::MAP != 0 {
            return None;
        }
        let write = access & Access::WRITE != 0;
        let read = access & Access::READ != 0;
        write
            .then(|| forbids(&self.write, path, "filesystem.write"))
            .flatten()
            .or_else(|| {
                read.then(|| forbids(&self.read, path, "filesystem.read"))
                    .flatten()
            })
    }
}

fn forbids(permitted: &Paths, path: &[u8], bound: &'static str) -> Option<(u32, &'static str)> {
    let (line, folders) = permitted.as_ref()?;
    let is_below = |folder: &Vec<u8>| {
        let rest = path.strip_prefix(folder.as_slice());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    (!folders.iter().any(is_below)).then_some((*line, bound))
}

/// Whether everything that one rule on destinations lets through, another does.
fn covers(may: &Subject, asked: &Subject) -> bool {
    let within = |(first, last, protocols): (u16, u16, u16), by: (u16, u16, u16)| {
        by.0 <= first && last <= by.1 && protocols & !by.2 == 0
    };
    match (may, asked) {
        (
            Subject::Address {
                network: may,
                first,
                last,
                protocols,
            },
            Subject::Address {
                network: asked,
                first: from,
                last: to,
                protocols: by,
            },
        ) => may.covers(asked) && within((*from, *to, *by), (*first, *last, *protocols)),
        (
            Subject::Host {
                pattern: may,
                first,
                last,
                protocols,
            },
            Subject::Host {
                pattern: asked,
                first: from,
                last: to,
                protocols: by,
            },
        ) => covers_names(may, asked) && within((*from, *to, *by), (*first, *last, *protocols)),
        _ => false,
    }
}

fn covers_names(may: &DomainPattern, asked: &DomainPattern) -> bool {
    match asked {
        DomainPattern::Exact(name) => may.covers(name),
        // What is below a name that is covered itself, or is the wildcard's own.
        DomainPattern::Below(parent) => match may {
            DomainPattern::Exact(_) => false,
            DomainPattern::Below(above) => above == parent || may.covers(parent),
        },
    }
}

#[cfg(test)]
#[path = "ceiling_tests.rs"]
mod tests;
