//! What `iptables-restore` reads to have the chains of one sandbox say something else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::PathBuf,
};

use super::{
    rules::{Content, LAST},
    tree::{Node, Tree},
};
use crate::{isolate::cgroup::place_of, policy::Network};

/// What the names of all sandboxes' chains begin with.
const PREFIX: &str = "SKILLSANDBOX-";

/// The chains of a sandbox and what leads to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chains {
    /// The first chain. All others have its name, a dash and a number of at most six hexadecimal
    /// digits: 28 bytes is the most (`XT_EXTENSION_MAXNAMELEN`,
    /// `include/uapi/linux/netfilter/x_tables.h`).
    name: String,
    /// The cgroup, from the root of the hierarchy on.
    cgroup: PathBuf,
    /// Numbers of the others that are there, or may be.
    numbers: BTreeMap<Network, usize>,
}

impl Chains {
    /// For the sandbox of this id, whose last part is a number of eight digits.
    pub(super) fn new(id: &str) -> Self {
        let number: String = id.chars().rev().take(8).collect();
        let number: String = number.chars().rev().collect();
        Self {
            name: format!("{PREFIX}{number}"),
            cgroup: place_of(id),
            numbers: BTreeMap::new(),
        }
    }

    fn jump(&self) -> String {
        format!(
            "OUTPUT -m cgroup --path \"{}\" -j {}",
            self.cgroup.display(),
            self.name
        )
    }

    /// The chain about a network.
    fn name_of(&self, place: &Network) -> String {
        match self.numbers.get(place) {
            Some(number) => format!("{}-{number:x}", self.name),
            None => self.name.clone(),
        }
    }

    /// Makes the first chain, and has the cgroup's packets asked about. It refuses one port of UDP.
    pub(super) fn make(&self, refused: u16) -> String {
        format!(
            "*filter\n:{name} - [0:0]\n-A {name} -p udp --dport {refused} -j REJECT\n-I {}\nCOMMIT\n",
            self.jump(),
            name = self.name,
        )
    }

    /// Has the chains say what `after` does instead of `before`, where that is known. The rules of
    /// `changed` are not what they were.
    pub(super) fn change(
        &mut self,
        content: &Content<'_>,
        before: Option<&Tree>,
        after: &Tree,
        changed: &BTreeSet<Network>,
    ) -> String {
        let root = content.family.every();
        self.number(after.keys().filter(|place| **place != root));
        // Chains must be there before they are led to.
        let (mut chains, mut lines, mut ends) = (String::new(), String::new(), String::new());
        for (place, node) in after {
            let name = self.name_of(place);
            match before.and_then(|before| before.get(place)) {
                Some(old) if only_adds(old, node, changed) => {
                    // The kernel takes ten times as long to take a line away as to add one.
                    for network in added(old, node) {
                        for accept in content.accepts_of(network) {
                            let _infallible = writeln!(lines, "-I {name} 1 {accept}");
                        }
                    }
                }
                _ => {
                    let _infallible = writeln!(chains, ":{name} - [0:0]");
                    let mut line = |rule: &str| {
                        let _infallible = writeln!(lines, "-A {name} {rule}");
                    };
                    if *place == root {
                        content
                            .first()
                            .iter()
                            .map(String::as_str)
                            .for_each(&mut line);
                    }
                    for network in &node.networks {
                        for accept in content.accepts_of(network) {
                            line(&accept.to_string());
                        }
                    }
                    for branch in &node.branches {
                        line(&format!("-d {branch} -j {}", self.name_of(branch)));
                    }
                    if *place == root {
                        LAST.into_iter().for_each(&mut line);
                    }
                }
            }
        }
        for place in self.numbers.keys() {
            if !after.contains_key(place) {
                let name = self.name_of(place);
                let _infallible = writeln!(chains, ":{name} - [0:0]");
                let _infallible = writeln!(ends, "-X {name}");
            }
        }
        format!("*filter\n{chains}{lines}{ends}COMMIT\n")
    }

    /// Gives those a number that have none: the smallest that is free.
    fn number<'n>(&mut self, places: impl Iterator<Item = &'n Network>) {
        let taken: BTreeSet<usize> = self.numbers.values().copied().collect();
        let mut free = (0..).filter(|number| !taken.contains(number));
        for place in places {
            if !self.numbers.contains_key(place)
                && let Some(number) = free.next()
            {
                self.numbers.insert(*place, number);
            }
        }
    }

    /// All other chains are gone.
    pub(super) fn forget_all_but(&mut self, tree: &Tree) {
        self.numbers.retain(|place, _| tree.contains_key(place));
    }

    /// Whether this line of a listing leads to them.
    fn are_led_to_by(&self, line: &str) -> bool {
        let to = line
            .strip_prefix("-A OUTPUT ")
            .and_then(|rule| rule.rsplit_once(" -j "));
        to.is_some_and(|(_, to)| to == self.name)
    }

    /// Whether a listing of the table has what leads to them, behind nothing but what leads to others of ours, and the first
    /// one refuses what nothing lets through.
    pub(super) fn are_closed(&self, listing: &str) -> bool {
        let lines = || listing.lines().map(str::trim_end);
        let to_ours = format!(" -j {PREFIX}");
        let mut asked = lines().filter(|line| line.starts_with("-A OUTPUT "));
        let first = asked.find(|line| self.are_led_to_by(line) || !line.contains(&to_ours));
        let last = LAST.map(|rule| format!("-A {} {rule}", self.name));
        first.is_some_and(|line| self.are_led_to_by(line))
            && last
                .iter()
                .all(|rule| lines().any(|line| line.starts_with(rule)))
    }

    /// Takes away what a listing of the table has of them: others may have taken a part of it. Nothing
    /// where it has nothing.
    pub(super) fn remove(&self, listing: &str) -> Option<String> {
        let mut text = String::new();
        let lines = || listing.lines().map(str::trim_end);
        if lines().any(|line| self.are_led_to_by(line)) {
            let _infallible = writeln!(text, "-D {}", self.jump());
        }
        let ours: Vec<&str> = lines()
            .filter_map(|line| line.strip_prefix("-N "))
            .filter(|name| {
                let rest = name.strip_prefix(&self.name);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            })
            .collect();
        // None is led to any more when they are deleted.
        for action in ["-F", "-X"] {
            for name in &ours {
                let _infallible = writeln!(text, "{action} {name}");
            }
        }
        (!text.is_empty()).then(|| format!("*filter\n{text}COMMIT\n"))
    }
}

/// Whether a chain says what it did, and at most something more.
fn only_adds(before: &Node, after: &Node, changed: &BTreeSet<Network>) -> bool {
    let kept = |network: &Network| after.networks.contains(network) && !changed.contains(network);
    before.branches == after.branches && before.networks.iter().all(kept)
}

fn added<'n>(before: &Node, after: &'n Node) -> impl Iterator<Item = &'n Network> {
    let after = after.networks.iter();
    after.filter(|network| !before.networks.contains(network))
}

#[cfg(test)]
mod tests;
