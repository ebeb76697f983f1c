//! The manifest's sections, from tree to types. Every known key is named here once.

use std::collections::BTreeMap;

use skillsandbox_common::rule::{PORT_RANGES_MAX, RULE_PATH_MAX};

use super::error::{Problems, Refusal};
use super::limits::{
    ARGUMENT_BYTES_MAX, ARGUMENTS_MAX, AUTHOR_BYTES_MAX, CPU_SHARES, DESCRIPTION_BYTES_MAX,
    EGRESS_MAX, MAX_OPEN_FILES, MAX_OUTPUT_BYTES, MAX_PROCESSES, MAX_RUNTIME_SECONDS, MEMORY_MB,
    NAME_BYTES_MAX, PATHS_MAX, VARIABLES_MAX,
};
use super::path::{AbsolutePath, DenyPattern};
use super::port::PortRange;
use super::reader::Field;
use super::schema::{
    Audit, Destination, Egress, Entrypoint, EnvironmentVariables, Exec, Filesystem, Manifest, Mode,
    Network, OnOverflow, Permissions, Protocol, Resources, Runtime, Skill, SystemCallProfile,
    SystemCalls,
};
use super::spanned::Spanned;
use super::text::quoted;
use super::variable::VariableName;

const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("audit", Mode::Audit)];
const PROTOCOLS: [(&str, Protocol); 3] = [
    ("tcp", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("any", Protocol::Any),
];
const RUNTIMES: [(&str, Runtime); 2] = [("system", Runtime::System), ("none", Runtime::None)];
const PROFILES: [(&str, SystemCallProfile); 3] = [
    ("default", SystemCallProfile::Default),
    ("strict", SystemCallProfile::Strict),
    ("permissive", SystemCallProfile::Permissive),
];
const ON_OVERFLOW: [(&str, OnOverflow); 2] =
    [("count", OnOverflow::Count), ("deny", OnOverflow::Deny)];

/// Reads the whole manifest. `None` when `problems` says why it is refused.
pub(super) fn manifest(root: &Field, problems: &mut Problems) -> Option<Manifest> {
    let keys = &[
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
    let skill = map.required("skill", problems, skill);
    let permissions = map.required("permissions", problems, permissions);
    let resources = map.or("resources", Resources::default(), problems, resources);
    let audit = map.or("audit", Audit::default(), problems, audit);
    let entrypoint = map.required("entrypoint", problems, entrypoint);
    Some(Manifest {
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

fn permissions(field: &Field, problems: &mut Problems) -> Option<Permissions> {
    let keys = &["network", "filesystem", "exec", "env_vars", "syscalls"];
    let map = field.map(keys, problems)?;
    let network = map.or("network", Network::default(), problems, network);
    let filesystem = map.or("filesystem", Filesystem::default(), problems, filesystem);
    let exec = map.or("exec", Exec::default(), problems, |field, problems| {
        let map = field.map(&["allow"], problems)?;
        let allow = map.or("allow", Vec::new(), problems, paths)?;
        Some(Exec { allow })
    });
    let variables = EnvironmentVariables::default();
    let env_vars = map.or("env_vars", variables, problems, environment_variables);
    let syscalls = map.or(
        "syscalls",
        SystemCalls::default(),
        problems,
        |field, problems| {
            let map = field.map(&["profile"], problems)?;
            let profile = map.or(
                "profile",
                Spanned::default(),
                problems,
                |field, problems| Some(field.spanned(field.choice(&PROFILES, problems)?)),
            )?;
            Some(SystemCalls { profile })
        },
    );
    Some(Permissions {
        network: network?,
        filesystem: filesystem?,
        exec: exec?,
        env_vars: env_vars?,
        syscalls: syscalls?,
    })
}

fn network(field: &Field, problems: &mut Problems) -> Option<Network> {
    let map = field.map(&["egress", "listen", "unix"], problems)?;
    let destinations = map.or("egress", Vec::new(), problems, |field, problems| {
        field.list(EGRESS_MAX, problems, egress)
    });
    let listen = map.or("listen", Vec::new(), problems, |field, problems| {
        field.list(PORT_RANGES_MAX, problems, |field, problems| {
            Some(field.spanned(field.parsed_or_integer(problems)?))
        })
    });
    let unix = map.or("unix", Vec::new(), problems, paths);
    Some(Network {
        egress: destinations?,
        listen: listen?,
        unix: unix?,
    })
}

fn egress(field: &Field, problems: &mut Problems) -> Option<Spanned<Egress>> {
    let map = field.map(&["domain", "cidr", "ports", "protocol"], problems)?;
    let destination = match (map.get("domain"), map.get("cidr")) {
        (Some(domain), None) => domain.parsed(problems).map(Destination::Domain),
        (None, Some(cidr)) => cidr.parsed(problems).map(Destination::Cidr),
        (Some(_), Some(_)) => field.refuse(
            problems,
            "has both `domain` and `cidr`",
            "write an entry for each",
        ),
        (None, None) if map.misspells("domain") || map.misspells("cidr") => None,
        (None, None) => field.refuse(
            problems,
            "has neither `domain` nor `cidr`",
            "add `domain: api.example.com`",
        ),
    };
    let ports = map.or("ports", vec![PortRange::HTTPS], problems, ports);
    let protocol = map.or(
        "protocol",
        Protocol::default(),
        problems,
        |field, problems| field.choice(&PROTOCOLS, problems),
    );
    Some(field.spanned(Egress {
        destination: destination?,
        ports: ports?,
        protocol: protocol?,
    }))
}

fn ports(field: &Field, problems: &mut Problems) -> Option<Vec<PortRange>> {
    let ports = field.list(PORT_RANGES_MAX, problems, Field::parsed_or_integer)?;
    if ports.is_empty() {
        return field.refuse(
            problems,
            "is empty, and would grant nothing",
            "write the ports: `[443]`",
        );
    }
    Some(ports)
}

fn filesystem(field: &Field, problems: &mut Problems) -> Option<Filesystem> {
    let map = field.map(&["read", "write", "deny", "runtime"], problems)?;
    let read = map.or("read", Vec::new(), problems, paths);
    let write = map.or("write", Vec::new(), problems, paths);
    let deny = map.or("deny", Vec::new(), problems, |field, problems| {
        field.list(PATHS_MAX, problems, |field, problems| {
            let pattern: DenyPattern = field.parsed(problems)?;
            match &pattern {
                DenyPattern::Path(path) if path.is_root() => {
                    field.refuse(problems, "is `/`, which denies every file", "name a folder")
                }
                _ => Some(field.spanned(pattern)),
            }
        })
    });
    let runtime = map.or(
        "runtime",
        Runtime::default(),
        problems,
        |field, problems| field.choice(&RUNTIMES, problems),
    );
    Some(Filesystem {
        read: read?,
        write: write?,
        deny: deny?,
        runtime: runtime?,
    })
}

fn paths(field: &Field, problems: &mut Problems) -> Option<Vec<Spanned<AbsolutePath>>> {
    field.list(PATHS_MAX, problems, |field, problems| {
        let path: AbsolutePath = field.parsed(problems)?;
        if path.is_root() {
            return field.refuse(
                problems,
                "is `/`, which grants the whole host",
                "name the folders that the skill needs",
            );
        }
        Some(field.spanned(path))
    })
}

fn environment_variables(field: &Field, problems: &mut Problems) -> Option<EnvironmentVariables> {
    let map = field.map(&["allow", "set"], problems)?;
    let set = map.or("set", BTreeMap::new(), problems, variables_to_set)?;
    let allow = map.or("allow", Vec::new(), problems, |field, problems| {
        field.list(VARIABLES_MAX, problems, |field, problems| {
            let name: VariableName = field.parsed(problems)?;
            if let Some(Spanned { line, .. }) = set.get(&name) {
                let message = format!(
                    "is {}, which `set` on line {line} also names",
                    quoted(name.as_str())
                );
                return field.refuse(problems, message, "keep it in one of the two");
            }
            Some(field.spanned(name))
        })
    });
    Some(EnvironmentVariables { allow: allow?, set })
}

fn variables_to_set(
    field: &Field,
    problems: &mut Problems,
) -> Option<BTreeMap<VariableName, Spanned<String>>> {
    let entries = field.free_map(problems)?;
    if entries.len() > VARIABLES_MAX {
        return field.refuse(
            problems,
            format!("has {} entries, more than {VARIABLES_MAX}", entries.len()),
            "give the skill a file instead",
        );
    }
    let mut variables = Some(BTreeMap::new());
    for (key, position, value) in entries {
        let name = match key.parse::<VariableName>() {
            Ok(name) => Some(name),
            Err(Refusal { message, remedy }) => {
                let message = format!("permissions.env_vars.set names {}: {message}", quoted(key));
                problems.add(Some(position), Refusal::new(message, remedy));
                None
            }
        };
        let max = ARGUMENT_BYTES_MAX.saturating_sub(key.len() + 1);
        let text = value.line_of_text(problems);
        let text = text.and_then(|text| within(text, max, &value, problems));
        match (name, text, &mut variables) {
            (Some(name), Some(text), Some(variables)) => {
                variables.insert(name, value.spanned(text));
            }
            _ => variables = None,
        }
    }
    variables
}

fn resources(field: &Field, problems: &mut Problems) -> Option<Resources> {
    let keys = &[
        "memory_mb",
        "cpu_shares",
        "max_runtime_seconds",
        "max_output_bytes",
        "max_processes",
        "max_open_files",
    ];
    let map = field.map(keys, problems)?;
    let default = Resources::default();
    let mut limit = |key, default, range, unit| {
        map.or(key, default, problems, |field, problems| {
            field.integer(range, unit, problems)
        })
    };
    let memory_mb = limit("memory_mb", default.memory_mb, &MEMORY_MB, "MiB");
    let cpu_shares = limit("cpu_shares", default.cpu_shares, &CPU_SHARES, "shares");
    let max_runtime_seconds = limit(
        "max_runtime_seconds",
        default.max_runtime_seconds,
        &MAX_RUNTIME_SECONDS,
        "seconds",
    );
    let max_output_bytes = limit(
        "max_output_bytes",
        default.max_output_bytes,
        &MAX_OUTPUT_BYTES,
        "bytes",
    );
    let max_processes = limit(
        "max_processes",
        default.max_processes,
        &MAX_PROCESSES,
        "processes",
    );
    let max_open_files = limit(
        "max_open_files",
        default.max_open_files,
        &MAX_OPEN_FILES,
        "files",
    );
    Some(Resources {
        memory_mb: memory_mb?,
        cpu_shares: cpu_shares?,
        max_runtime_seconds: max_runtime_seconds?,
        max_output_bytes: max_output_bytes?,
        max_processes: max_processes?,
        max_open_files: max_open_files?,
    })
}

fn audit(field: &Field, problems: &mut Problems) -> Option<Audit> {
    let map = field.map(&["on_overflow", "aggregate"], problems)?;
    let on_overflow = map.or(
        "on_overflow",
        OnOverflow::default(),
        problems,
        |field, problems| field.choice(&ON_OVERFLOW, problems),
    );
    let aggregate = map.or(
        "aggregate",
        Spanned::default(),
        problems,
        |field, problems| Some(field.spanned(field.boolean(problems)?)),
    );
    Some(Audit {
        on_overflow: on_overflow?,
        aggregate: aggregate?,
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
