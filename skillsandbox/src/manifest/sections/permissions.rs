//! The section `permissions`.

use std::collections::BTreeMap;

use skillsandbox_common::rule::{PORT_RANGES_MAX, UNIX_SOCKETS_MAX};

use super::within;
use crate::manifest::error::{Problems, Refusal};
use crate::manifest::limits::{ARGUMENT_BYTES_MAX, EGRESS_MAX, PATHS_MAX, VARIABLES_MAX};
use crate::manifest::path::{AbsolutePath, DenyPattern};
use crate::manifest::persistence::PersistentName;
use crate::manifest::port::PortRange;
use crate::manifest::reader::Field;
use crate::manifest::schema::{
    Destination, Egress, EnvironmentVariables, Exec, Filesystem, Network, Permissions, Protocol,
    Runtime, SystemCallProfile, SystemCalls,
};
use crate::manifest::spanned::Spanned;
use crate::manifest::text::quoted;
use crate::manifest::variable::VariableName;

const PROTOCOLS: [(&str, Protocol); 3] = [
    ("tcp", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("any", Protocol::Any),
];
pub(super) const RUNTIMES: [(&str, Runtime); 2] =
    [("system", Runtime::System), ("none", Runtime::None)];
pub(super) const PROFILES: [(&str, SystemCallProfile); 3] = [
    ("default", SystemCallProfile::Default),
    ("strict", SystemCallProfile::Strict),
    ("permissive", SystemCallProfile::Permissive),
];

pub(super) fn permissions(field: &Field, problems: &mut Problems) -> Option<Permissions> {
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
    let unix = map.or("unix", Vec::new(), problems, |field, problems| {
        field.list(UNIX_SOCKETS_MAX, problems, path)
    });
    Some(Network {
        egress: destinations?,
        listen: listen?,
        unix: unix?,
    })
}

pub(super) fn egress(field: &Field, problems: &mut Problems) -> Option<Spanned<Egress>> {
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
    let map = field.map(&["read", "write", "persist", "deny", "runtime"], problems)?;
    let read = map.or("read", Vec::new(), problems, paths);
    let write = map.or("write", Vec::new(), problems, paths);
    let persist = map.or("persist", Vec::new(), problems, |field, problems| {
        field.list(PATHS_MAX, problems, |field, problems| {
            let name: PersistentName = field.parsed(problems)?;
            Some(field.spanned(name))
        })
    });
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
        persist: persist?,
        deny: deny?,
        runtime: runtime?,
    })
}

pub(super) fn paths(field: &Field, problems: &mut Problems) -> Option<Vec<Spanned<AbsolutePath>>> {
    field.list(PATHS_MAX, problems, path)
}

pub(super) fn path(field: &Field, problems: &mut Problems) -> Option<Spanned<AbsolutePath>> {
    let path: AbsolutePath = field.parsed(problems)?;
    if path.is_root() {
        return field.refuse(
            problems,
            "is `/`, which grants the whole host",
            "name the folders that the skill needs",
        );
    }
    Some(field.spanned(path))
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
