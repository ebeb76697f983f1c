//! The sections of a ceiling: those of a manifest that ask for something, each of which may be missing.

use skillsandbox_common::rule::{PORT_RANGES_MAX, UNIX_SOCKETS_MAX};

use super::{
    MODES, bound, most,
    permissions::{PROFILES, RUNTIMES, egress, path, paths},
};
use crate::manifest::{
    Ceiling, Most,
    error::Problems,
    limits::{EGRESS_MAX, PATHS_MAX, VARIABLES_MAX},
    reader::Field,
    schema::Mode,
};

pub(in crate::manifest) fn ceiling(
    file: &str,
    root: &Field,
    problems: &mut Problems,
) -> Option<Ceiling> {
    let map = root.map(&["mode", "permissions", "resources"], problems)?;
    let mode = map.or("mode", Mode::Enforce, problems, |field, problems| {
        field.choice(&MODES, problems)
    });
    let resources = map.or("resources", Most::default(), problems, most);
    let unbounded = Ceiling {
        file: file.to_owned(),
        mode: mode?,
        egress: None,
        listen: None,
        unix: None,
        read: None,
        write: None,
        persist: None,
        runtime: None,
        exec: None,
        variables: None,
        profile: None,
        resources: resources?,
    };
    match map.get("permissions") {
        Some(field) => permissions(&field, problems, unbounded),
        None => Some(unbounded),
    }
}

fn permissions(field: &Field, problems: &mut Problems, mut ceiling: Ceiling) -> Option<Ceiling> {
    let keys = &["network", "filesystem", "exec", "env_vars", "syscalls"];
    let map = field.map(keys, problems)?;
    if let Some(field) = map.get("network") {
        let map = field.map(&["egress", "listen", "unix"], problems)?;
        let list =
            |field: &Field, problems: &mut Problems| field.list(EGRESS_MAX, problems, egress);
        ceiling.egress = bound(&map, "egress", problems, list)?;
        ceiling.listen = bound(&map, "listen", problems, |field, problems| {
            field.list(PORT_RANGES_MAX, problems, |field, problems| {
                Some(field.spanned(field.parsed_or_integer(problems)?))
            })
        })?;
        ceiling.unix = bound(&map, "unix", problems, |field, problems| {
            field.list(UNIX_SOCKETS_MAX, problems, path)
        })?;
    }
    if let Some(field) = map.get("filesystem") {
        let map = field.map(&["read", "write", "persist", "runtime"], problems)?;
        ceiling.read = bound(&map, "read", problems, paths)?;
        ceiling.write = bound(&map, "write", problems, paths)?;
        ceiling.persist = bound(&map, "persist", problems, |field, problems| {
            field.list(PATHS_MAX, problems, |field, problems| {
                Some(field.spanned(field.parsed(problems)?))
            })
        })?;
        ceiling.runtime = bound(&map, "runtime", problems, |field, problems| {
            field.choice(&RUNTIMES, problems)
        })?;
    }
    if let Some(field) = map.get("exec") {
        let map = field.map(&["allow"], problems)?;
        ceiling.exec = bound(&map, "allow", problems, paths)?;
    }
    if let Some(field) = map.get("env_vars") {
        let map = field.map(&["allow"], problems)?;
        ceiling.variables = bound(&map, "allow", problems, |field, problems| {
            field.list(VARIABLES_MAX, problems, |field, problems| {
                Some(field.spanned(field.parsed(problems)?))
            })
        })?;
    }
    if let Some(field) = map.get("syscalls") {
        let map = field.map(&["profile"], problems)?;
        ceiling.profile = bound(&map, "profile", problems, |field, problems| {
            field.choice(&PROFILES, problems)
        })?;
    }
    Some(ceiling)
}
