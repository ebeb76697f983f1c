//! iptables and ip6tables: what leaves a sandbox is looked at once more, by a part of the kernel that
//! shares nothing with eBPF.
//!
//! A chain per sandbox, and more where it has many rules, is asked for the packets of the sockets of
//! its cgroup alone (`xt_cgroup`), and changed in one step each time (`iptables-restore --noflush`).
//! No rule of anybody else's is touched.

mod chains;
mod rules;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use skillsandbox_common::rule::NetworkRule;

pub use self::rules::Family;
use self::{chains::Chains, rules::Content, tree::Tree};
use crate::policy::Network;

/// Where the programs are: never looked for in a path that somebody else chose.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// How long somebody else may hold the tables, in seconds.
const WAIT: [&str; 2] = ["-w", "5"];

/// Why a family's rules are not in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FirewallError {
    /// The program is not there.
    #[error("{0} is not installed")]
    Missing(String),
    /// It could not be run.
    #[error("{program} could not be run: {reason}")]
    NotRun {
        /// Which.
        program: String,
        /// Why.
        reason: String,
    },
    /// It refused what it was given.
    #[error("{program} refused: {reason}")]
    Refused {
        /// Which.
        program: String,
        /// Its words.
        reason: String,
    },
}

/// The chains of one sandbox in one family's table; [`remove`] takes them away.
#[derive(Debug)]
pub struct Firewall {
    family: Family,
    chains: Chains,
    name_server: u16,
    listen: NetworkRule,
    rules: BTreeMap<Network, NetworkRule>,
    tree: Tree,
    /// Whether the chains may say something else than the rules: a change failed, or none was made.
    is_behind: bool,
}

impl Firewall {
    /// Makes the chain of the sandbox of this id, whose cgroup is there. Until [`close`](Self::close)
    /// it refuses nothing but datagrams to the port `probed`, so that it can be seen to be asked.
    pub fn install(family: Family, id: &str, probed: u16) -> Result<Self, FirewallError> {
        let chains = Chains::new(id);
        restore(family, &chains.make(probed))?;
        Ok(Self {
            family,
            chains,
            name_server: 0,
            listen: NetworkRule::default(),
            rules: BTreeMap::new(),
            tree: Tree::default(),
            is_behind: true,
        })
    }

    /// From now on only these rules let anything through, what answers a call of the ports of `listen`,
    /// and `name_server`, a port of loopback, or 0.
    pub fn close(
        &mut self,
        name_server: u16,
        listen: NetworkRule,
        rules: impl IntoIterator<Item = (Network, NetworkRule)>,
    ) -> Result<(), FirewallError> {
        self.name_server = name_server;
        self.listen = listen;
        let of_family = |network: &Network| network.is_ipv4() == (self.family == Family::V4);
        self.rules = rules
            .into_iter()
            .filter(|(network, _)| of_family(network))
            .collect();
        self.is_behind = true;
        self.write(&BTreeSet::new())
    }

    /// Whether the tables have it as it was closed: others may have changed them since.
    pub fn is_closed(&self) -> Result<bool, FirewallError> {
        Ok(self.chains.are_closed(&listing(self.family)?))
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// Has these rules decide on their networks from now on, or none of their own.
    pub fn set(&mut self, changes: &[(Network, Option<NetworkRule>)]) -> Result<(), FirewallError> {
        let mut other = BTreeSet::new();
        for (network, rule) in changes {
            if network.is_ipv4() != (self.family == Family::V4) {
                continue;
            }
            let before = match rule {
                Some(rule) => self.rules.insert(*network, *rule),
                None => self.rules.remove(network),
            };
            if *rule != before {
                other.insert(*network);
            }
        }
        if other.is_empty() && !self.is_behind {
            return Ok(());
        }
        self.write(&other)
    }

    /// Has the chains say what the rules do, of which these have changed.
    fn write(&mut self, changed: &BTreeSet<Network>) -> Result<(), FirewallError> {
        let tree = tree::plant(self.family.every(), self.rules.keys().copied().collect());
        let content = Content {
            family: self.family,
            name_server: self.name_server,
            listen: &self.listen,
            rules: &self.rules,
        };
        let before = (!self.is_behind).then_some(&self.tree);
        let text = self.chains.change(&content, before, &tree, changed);
        self.is_behind = true;
        restore(self.family, &text)?;
        self.chains.forget_all_but(&tree);
        self.tree = tree;
        self.is_behind = false;
        Ok(())
    }
}

/// Removes the chains of a sandbox, where they are.
pub fn remove(family: Family, id: &str) -> Result<(), FirewallError> {
    if find(family.program()).is_err() {
        // Nothing of ours can be changed without it.
        return Ok(());
    }
    match Chains::new(id).remove(&listing(family)?) {
        Some(text) => restore(family, &text),
        None => Ok(()),
    }
}

fn listing(family: Family) -> Result<String, FirewallError> {
    run(&find(family.program())?, &[&WAIT[..], &["-S"]].concat(), "")
}

fn restore(family: Family, text: &str) -> Result<(), FirewallError> {
    let program = find(&format!("{}-restore", family.program()))?;
    run(&program, &[&WAIT[..], &["--noflush"]].concat(), text).map(drop)
}

fn find(name: &str) -> Result<PathBuf, FirewallError> {
    let mut places = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
    places
        .find(|path| path.is_file())
        .ok_or_else(|| FirewallError::Missing(name.to_owned()))
}

fn run(program: &Path, arguments: &[&str], input: &str) -> Result<String, FirewallError> {
    let name = || program.display().to_string();
    let not_run = |error: io::Error| FirewallError::NotRun {
        program: name(),
        reason: error.to_string(),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", FOLDERS.join(":"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Whoever refuses before the end says why.
        let _refused = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(not_run)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(FirewallError::Refused {
        program: name(),
        reason: words.lines().collect::<Vec<_>>().join("; "),
    })
}
