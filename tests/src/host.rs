//! What a host has of sandboxes, to compare before and after.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Whether this host runs the kernel tier. Not asked of the program that is tested.
#[must_use]
pub fn has_bpf_lsm() -> bool {
    // The suite leaves `kernel_tier` to virtual machines, whose kernels are started with it.
    fs::read_to_string("/sys/kernel/security/lsm")
        .is_ok_and(|list| list.trim_end().split(',').any(|name| name == "bpf"))
        && Path::new("/run/vm").is_dir()
}

/// Everything of the host that a run could leave behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Traces {
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
    pins: BTreeSet<PathBuf>,
    run: BTreeSet<PathBuf>,
    temporary: BTreeSet<PathBuf>,
    iptables: Vec<String>,
}

impl Traces {
    /// Looks at the host for everything with `name` in its path; others may be at work beside us.
    #[must_use]
    pub fn look(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc/self/mounts");
        let tree = |path: &Path| -> BTreeSet<PathBuf> {
            let found = tree(path).into_iter();
            found
                .filter(|path| path.to_string_lossy().contains(name))
                .collect()
        };
        Self {
            cgroups: cgroup_roots(&mounts)
                .flat_map(|root| tree(&root.join("skillsandbox")))
                .collect(),
            mounts: mounts.lines().map(str::to_owned).collect(),
            pins: tree(Path::new("/sys/fs/bpf/skillsandbox")),
            run: tree(Path::new("/run/skillsandbox")),
            temporary: fs::read_dir("/tmp")
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.to_string_lossy().contains(name))
                .collect(),
            iptables: ["iptables-save", "ip6tables-save"]
                .map(|tool| rules(tool, name))
                .to_vec(),
        }
    }

    /// Cgroups of sandboxes.
    #[must_use]
    pub fn cgroups(self) -> BTreeSet<PathBuf> {
        self.cgroups
    }

    /// Whether a sandbox has left something.
    #[must_use]
    pub fn has_sandboxes(&self) -> bool {
        !(self.cgroups.is_empty() && self.pins.is_empty() && self.run.is_empty())
    }
}

fn cgroup_roots(mounts: &str) -> impl Iterator<Item = PathBuf> {
    mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (_, path, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then(|| path.into())
    })
}

fn tree(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(tree(&path));
        }
        // Files of cgroups come and go with controllers, not with runs.
        if !path.starts_with("/sys/fs/cgroup") || path.is_dir() {
            found.insert(path);
        }
    }
    found
}

/// Rules without counters and times, and without other sandboxes'; empty where the tool is missing.
fn rules(tool: &str, name: &str) -> String {
    let Ok(output) = Command::new(tool).output() else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let kept: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with(['#', ':', '*']) && *line != "COMMIT")
        .filter(|line| !line.contains("SKILLSANDBOX-") || line.contains(name))
        .collect();
    kept.join("\n")
}

/// Processes with this text in their command lines.
#[must_use]
pub fn processes(text: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if words.contains(text) && id != std::process::id() {
            found.push(id);
        }
    }
    found
}
