//! What a reviewer of a manifest would want to be told.

use std::path::{Component, Path};

use crate::manifest::{AbsolutePath, Cidr, Destination, Manifest, Spanned};

/// Networks that are not the public internet.
const INSIDE: [(&str, &str); 10] = [
    ("0.0.0.0/8", "this host itself"),
    ("127.0.0.0/8", "this host itself"),
    ("::/127", "this host itself"),
    ("169.254.0.0/16", "cloud metadata services"),
    ("fe80::/10", "the local link"),
    ("10.0.0.0/8", "private networks"),
    ("172.16.0.0/12", "private networks"),
    ("192.168.0.0/16", "private networks"),
    ("100.64.0.0/10", "private networks"),
    ("fc00::/7", "private networks"),
];

/// Folders that hold other programs' and people's files.
const SHARED_FOLDERS: [&str; 10] = [
    "/boot", "/dev", "/etc", "/home", "/proc", "/root", "/run", "/sys", "/tmp", "/var",
];

/// Names under which credentials are kept.
const CREDENTIAL_NAMES: [&str; 10] = [
    ".aws", ".azure", ".config", ".docker", ".env", ".git", ".gnupg", ".kube", ".netrc", ".ssh",
];

/// Everything worth a second look, one sentence each.
pub(super) fn of(manifest: &Manifest) -> Vec<String> {
    let mut notes = inside_networks(manifest);
    notes.extend(revealing_paths(manifest));
    notes.extend(writable_programs(manifest));
    if let Some(cgroup) = &manifest.cgroup {
        notes.push(format!(
            "line {} is for what runs in {} already: it is not started, and env_vars, syscalls and resources are not held there",
            cgroup.line, cgroup.value
        ));
    }
    for asked in manifest.not_enforced_yet(manifest.is_for()) {
        notes.push(format!(
            "line {}: {} is not enforced yet ({}), so this manifest is refused",
            asked.line, asked.field, asked.why
        ));
    }
    notes
}

fn inside_networks(manifest: &Manifest) -> Vec<String> {
    let mut notes = Vec::new();
    for entry in &manifest.permissions.network.egress {
        let Destination::Cidr(network) = entry.value.destination else {
            continue;
        };
        let mut reached: Vec<_> = INSIDE
            .iter()
            .filter(|(inside, _)| {
                inside
                    .parse()
                    .is_ok_and(|inside: Cidr| network.overlaps(inside))
            })
            .map(|(_, name)| *name)
            .collect();
        reached.dedup();
        if !reached.is_empty() {
            notes.push(format!(
                "line {} reaches {}",
                entry.line,
                reached.join(", ")
            ));
        }
    }
    notes
}

fn revealing_paths(manifest: &Manifest) -> Vec<String> {
    let filesystem = &manifest.permissions.filesystem;
    let granted = filesystem.read.iter().chain(&filesystem.write);
    granted
        .filter_map(|Spanned { value, line }| {
            let path = value.as_path();
            if SHARED_FOLDERS
                .iter()
                .any(|folder| path == Path::new(folder))
            {
                return Some(format!("line {line} grants {value}, which others use too"));
            }
            let keeps_credentials = path.components().any(|component| {
                CREDENTIAL_NAMES
                    .iter()
                    .any(|name| component == Component::Normal(name.as_ref()))
            });
            keeps_credentials
                .then(|| format!("line {line} grants {value}, where credentials are kept"))
        })
        .collect()
}

fn writable_programs(manifest: &Manifest) -> Vec<String> {
    let written = &manifest.permissions.filesystem.write;
    let mut notes = Vec::new();
    for program in &manifest.permissions.exec.allow {
        if let Some(folder) = written
            .iter()
            .find(|folder| meet(&folder.value, &program.value))
        {
            notes.push(format!(
                "lines {} and {} let it write a program and start it",
                folder.line, program.line
            ));
        }
    }
    notes
}

/// Whether one path is the other, or lies below it.
fn meet(one: &AbsolutePath, other: &AbsolutePath) -> bool {
    one.as_path().starts_with(other) || other.as_path().starts_with(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(permissions: &str) -> Vec<String> {
        let text = format!(
            "skill: {{ name: a, version: '1' }}\nentrypoint: {{ command: a }}\npermissions:\n{permissions}"
        );
        of(&Manifest::parse("FILE", text.as_bytes()).unwrap())
    }

    #[test]
    fn every_network_of_the_table_is_one() {
        for (network, _) in INSIDE {
            assert!(network.parse::<Cidr>().is_ok(), "{network}");
        }
    }

    #[test]
    fn a_network_inside_a_private_one_is_noted_and_a_public_one_is_not() {
        let egress =
            "  network:\n    egress:\n      - cidr: 10.5.0.0/16\n      - cidr: 192.0.2.0/24\n";
        assert_eq!(notes(egress), ["line 6 reaches private networks"]);
    }

    #[test]
    fn every_address_reaches_everything_inside() {
        let egress = "  network:\n    egress:\n      - cidr: 0.0.0.0/0\n";
        assert_eq!(
            notes(egress),
            ["line 6 reaches this host itself, cloud metadata services, private networks"]
        );
    }

    #[test]
    fn whole_shared_folders_and_credentials_are_noted() {
        let read = "  filesystem:\n    read: [/home, /home/me/.ssh/id, /home/me/project, /tmp/a]\n";
        assert_eq!(
            notes(read),
            [
                "line 5 grants /home, which others use too",
                "line 5 grants /home/me/.ssh/id, where credentials are kept",
            ]
        );
    }

    #[test]
    fn what_a_cgroup_does_not_get_is_noted() {
        assert_eq!(
            notes("  network: {}\ncgroup: /a.slice\n"),
            [
                "line 5 is for what runs in /a.slice already: it is not started, and env_vars, syscalls and resources \
                 are not held there"
            ]
        );
    }

    #[test]
    fn a_program_in_a_writable_folder_is_noted() {
        let both =
            "  filesystem:\n    write: [/data/out]\n  exec:\n    allow: [/data, /usr/bin/curl]\n";
        assert_eq!(
            notes(both),
            ["lines 5 and 7 let it write a program and start it"]
        );
    }
}
