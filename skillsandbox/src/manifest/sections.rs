//! The manifest's sections, from tree to types. Every known key is named here once.

mod ceiling;
mod permissions;

use std::ops::RangeInclusive;

use skillsandbox_common::rule::RULE_PATH_MAX;

use super::ceiling::Most;
use super::error::Problems;
use super::limits::{
    ARGUMENT_BYTES_MAX, ARGUMENTS_MAX, AUTHOR_BYTES_MAX, CPU_SHARES, DESCRIPTION_BYTES_MAX,
    MAX_OPEN_FILES, MAX_OUTPUT_BYTES, MAX_PROCESSES, MAX_RUNTIME_SECONDS, MEMORY_MB,
    NAME_BYTES_MAX, RING_KIB,
};
use super::path::AbsolutePath;
use super::reader::{Field, Map};
use super::schema::{Audit, Entrypoint, Manifest, Mode, OnOverflow, Resources, Skill};
use super::spanned::Spanned;
use super::text::quoted;
use permissions::permissions;

pub(super) use ceiling::ceiling;

pub(super) const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("audit", Mode::Audit)];
const ON_OVERFLOW: [(&str, OnOverflow); 2] =
    [("count", OnOverflow::Count), ("deny", OnOverflow::Deny)];

/// Reads the whole manifest. `None` when `problems` says why it is refused.
pub(super) fn manifest(root: &Field, problems: &mut Problems) -> Option<Manifest> {
    let keys = &[
        "cgroup",
        "mode",
        "skill",
        "permissions",
        "resources",
        "audit",
        "entrypoint",
    ];
    let map = root.map(keys, problems)?;
    let mode = map.or("mode", Spanned::default(), problems, |field, problems| {
        Some(field.spanned(field.choice(&MODES, problems)?))
    });
    let cgroup = map.or("cgroup", None, problems, |field, problems| {
        Some(Some(field.spanned(field.parsed(problems)?)))
    });
    let skill = map.required("skill", problems, skill);
    let permissions = map.required("permissions", problems, permissions);
    let resources = map.or("resources", Resources::default(), problems, resources);
    let audit = map.or("audit", Audit::default(), problems, audit);
    let entrypoint = map.required("entrypoint", problems, entrypoint);
    Some(Manifest {
        cgroup: cgroup?,
        mode: mode?,
        skill: skill?,
        permissions: permissions?,
        resources: resources?,
        audit: audit?,
        entrypoint: entrypoint?,
    })
}

fn skill(field: &Field, problems: &mut Problems) -> Option<Skill> {
    let map = field.map(&["name", "version", "description", "author"], problems)?;
    let name = map.required("name", problems, skill_name);
    let version = map.required("version", problems, |field, problems| {
        let text = field.line_of_text(problems)?;
        within(text, NAME_BYTES_MAX, field, problems)
    });
    let description = map.or("description", String::new(), problems, |field, problems| {
        let text = field.text(problems)?;
        within(text, DESCRIPTION_BYTES_MAX, field, problems)
    });
    let author = map.or("author", String::new(), problems, |field, problems| {
        let text = field.line_of_text(problems)?;
        within(text, AUTHOR_BYTES_MAX, field, problems)
    });
    Some(Skill {
        name: name?,
        version: version?,
        description: description?,
        author: author?,
    })
}

/// A name that would mean something as a path is refused, so that none ever does.
fn skill_name(field: &Field, problems: &mut Problems) -> Option<String> {
    let text = field.line_of_text(problems)?;
    if text.trim().is_empty() {
        return field.refuse(problems, "is empty", "name the skill");
    }
    if text.contains('/') || matches!(text, "." | "..") {
        return field.refuse(
            problems,
            format!("is {}, which reads as a path", quoted(text)),
            "write a name without `/`",
        );
    }
    within(text, NAME_BYTES_MAX, field, problems)
}

fn within(text: &str, max: usize, field: &Field, problems: &mut Problems) -> Option<String> {
    if text.len() > max {
        return field.refuse(
            problems,
            format!("has {} bytes, more than {max}", text.len()),
            "shorten it",
        );
    }
    Some(text.to_owned())
}

/// What is there, with its line.
#[expect(clippy::option_option, reason = "refused, not there, or there")]
fn bound<T>(
    map: &Map<'_, '_>,
    key: &str,
    problems: &mut Problems,
    read: impl FnOnce(&Field, &mut Problems) -> Option<T>,
) -> Option<Option<Spanned<T>>> {
    map.or(key, None, problems, |field, problems| {
        Some(Some(field.spanned(read(field, problems)?)))
    })
}

fn resources(field: &Field, problems: &mut Problems) -> Option<Resources> {
    let stated = most(field, problems)?;
    let default = Resources::default();
    let or = |stated: Option<Spanned<u64>>, default| stated.map_or(default, |stated| stated.value);
    Some(Resources {
        memory_mb: or(stated.memory_mb, default.memory_mb),
        cpu_shares: or(stated.cpu_shares, default.cpu_shares),
        max_runtime_seconds: or(stated.max_runtime_seconds, default.max_runtime_seconds),
        max_output_bytes: or(stated.max_output_bytes, default.max_output_bytes),
        max_processes: or(stated.max_processes, default.max_processes),
        max_open_files: or(stated.max_open_files, default.max_open_files),
    })
}

/// The amounts that are stated.
fn most(field: &Field, problems: &mut Problems) -> Option<Most> {
    let keys = &[
        "memory_mb",
        "cpu_shares",
        "max_runtime_seconds",
        "max_output_bytes",
        "max_processes",
        "max_open_files",
    ];
    let map = field.map(keys, problems)?;
    let mut limit = |key, range: &RangeInclusive<u64>, unit| {
        bound(&map, key, problems, |field, problems| {
            field.integer(range, unit, problems)
        })
    };
    // Each is read, so that every problem is listed.
    let memory_mb = limit("memory_mb", &MEMORY_MB, "MiB");
    let cpu_shares = limit("cpu_shares", &CPU_SHARES, "shares");
    let max_runtime_seconds = limit("max_runtime_seconds", &MAX_RUNTIME_SECONDS, "seconds");
    let max_output_bytes = limit("max_output_bytes", &MAX_OUTPUT_BYTES, "bytes");
    let max_processes = limit("max_processes", &MAX_PROCESSES, "processes");
    let max_open_files = limit("max_open_files", &MAX_OPEN_FILES, "files");
    Some(Most {
        memory_mb: memory_mb?,
        cpu_shares: cpu_shares?,
        max_runtime_seconds: max_runtime_seconds?,
        max_output_bytes: max_output_bytes?,
        max_processes: max_processes?,
        max_open_files: max_open_files?,
    })
}

fn audit(field: &Field, problems: &mut Problems) -> Option<Audit> {
    let map = field.map(&["on_overflow", "aggregate", "ring_kib"], problems)?;
    let on_overflow = map.or(
        "on_overflow",
        Spanned::default(),
        problems,
        |field, problems| Some(field.spanned(field.choice(&ON_OVERFLOW, problems)?)),
    );
    let aggregate = map.or(
        "aggregate",
        Spanned::default(),
        problems,
        |field, problems| Some(field.spanned(field.boolean(problems)?)),
    );
    let ring_kib = map.or(
        "ring_kib",
        Audit::default().ring_kib,
        problems,
        |field, problems| {
            let kib = field.integer(&RING_KIB, "KiB", problems)?;
            if !kib.is_power_of_two() {
                let next = kib.next_power_of_two();
                return field.refuse(
                    problems,
                    format!("is {kib}, no power of two, and a ring has no other size"),
                    format!("write `{next}`"),
                );
            }
            kib.try_into().ok().map(Some)
        },
    );
    Some(Audit {
        on_overflow: on_overflow?,
        aggregate: aggregate?,
        ring_kib: ring_kib?,
    })
}

fn entrypoint(field: &Field, problems: &mut Problems) -> Option<Entrypoint> {
    let map = field.map(&["command", "args", "workdir"], problems)?;
    let command = map.required("command", problems, command);
    let args = map.or("args", Vec::new(), problems, |field, problems| {
        field.list(ARGUMENTS_MAX, problems, |field, problems| {
            let text = field.line_of_text(problems)?;
            within(text, ARGUMENT_BYTES_MAX, field, problems)
        })
    });
    let workdir = map.or(
        "workdir",
        AbsolutePath::skill_folder(),
        problems,
        Field::parsed,
    );
    Some(Entrypoint {
        command: command?,
        args: args?,
        workdir: workdir?,
    })
}

fn command(field: &Field, problems: &mut Problems) -> Option<Spanned<String>> {
    let text = field.line_of_text(problems)?;
    if text.trim().is_empty() {
        return field.refuse(problems, "is empty", "write a program such as `python3`");
    }
    let is_path = text.contains('/');
    if !is_path && text.contains(' ') {
        return field.refuse(
            problems,
            format!("is {}, a program and its arguments", quoted(text)),
            "write the program here and its arguments in `args`",
        );
    }
    if text.split('/').any(|component| component == "..") || text.ends_with('/') {
        return field.refuse(
            problems,
            format!("is {}, which leads away from where it starts", quoted(text)),
            "write the path of the program itself",
        );
    }
    within(text, RULE_PATH_MAX, field, problems).map(|text| field.spanned(text))
}
