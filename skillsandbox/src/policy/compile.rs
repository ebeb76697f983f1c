//! A rule set as the tables that the kernel looks accesses up in.
//!
//! The kernel finds one entry, that of the longest prefix. So every entry carries what wider
//! rules say as well: entries are made in order, so that each comes after those that cover it, from a
//! copy of the narrowest of these.

use std::{collections::BTreeMap, net::Ipv6Addr};

use skillsandbox_common::rule::{
    ANYWHERE, Access, FileRule, NetworkRule, PATH_KEY_LEN, PORT_RANGES_MAX, PortRange, Protocols,
    RULE_PATH_MAX, UNIX_SOCKETS_MAX, UnixRule,
};

use super::{Grant, Network, RuleSet, Subject};

/// Entry of the path table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Bytes that a path must start with, its terminating NUL included where that is meant.
    pub prefix: Vec<u8>,
    /// What is granted there.
    pub rule: FileRule,
}

/// Entry of the address table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkEntry {
    /// The addresses.
    pub network: Network,
    /// The ports granted there.
    pub rule: NetworkRule,
}

/// The tables of one sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// By path prefix, or by names in any folder.
    pub files: Vec<FileEntry>,
    /// Whether some of these deny a name in any folder.
    pub denies_names: bool,
    /// By address prefix.
    pub networks: Vec<NetworkEntry>,
    /// Ports that others may call.
    pub listen: NetworkRule,
    /// Unix sockets of the host.
    pub unix: [UnixRule; UNIX_SOCKETS_MAX],
}

/// Why a rule set does not fit the tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// More rules than rule numbers.
    #[error(
        "{count} rules are more than the {most} that one sandbox can have: grant folders instead of single files, networks instead of single addresses"
    )]
    TooManyRules {
        /// Rules given.
        count: usize,
        /// Most there can be.
        most: usize,
    },
    /// A path or name that no key can hold.
    #[error("rule `{text}` is longer than {RULE_PATH_MAX} bytes: name a folder above it")]
    TooLong {
        /// The rule.
        text: String,
    },
    /// More unix sockets than a table holds.
    #[error("{count} unix sockets are more than the {UNIX_SOCKETS_MAX} that one sandbox can have")]
    TooManyUnixSockets {
        /// Sockets given.
        count: usize,
    },
    /// More port ranges for one address than an entry holds.
    #[error(
        "{network} has more than {PORT_RANGES_MAX} different port ranges: join them into wider ones"
    )]
    TooManyPorts {
        /// The address prefix.
        network: Network,
    },
}

impl RuleSet {
    /// The tables that answer as [`decide_file`](Self::decide_file) and
    /// [`decide_address`](Self::decide_address) do.
    pub fn compile(&self) -> Result<Tables, CompileError> {
        let most = usize::from(u16::MAX) - 1;
        if self.rules().len() > most {
            return Err(CompileError::TooManyRules {
                count: self.rules().len(),
                most,
            });
        }
        Ok(Tables {
            files: self.compile_files()?,
            denies_names: self
                .rules()
                .iter()
                .any(|rule| matches!(rule.subject, Subject::Name(_))),
            networks: self.compile_networks()?,
            listen: self.compile_listen()?,
            unix: self.compile_unix()?,
        })
    }

    fn compile_listen(&self) -> Result<NetworkRule, CompileError> {
        let ranges = self.numbered().filter_map(|(number, rule)| {
            let Subject::Listen { first, last } = rule.subject else {
                return None;
            };
            Some(PortRange {
                first,
                last,
                protocols: Protocols::TCP,
                rule: number,
            })
        });
        // Called at whatever address it has.
        merged(Network::host(Ipv6Addr::UNSPECIFIED.into()), ranges)
    }

    fn compile_unix(&self) -> Result<[UnixRule; UNIX_SOCKETS_MAX], CompileError> {
        let sockets: Vec<UnixRule> = self
            .numbered()
            .filter_map(|(number, rule)| match rule.subject {
                Subject::Unix { device, inode, .. } => Some(UnixRule {
                    inode,
                    device,
                    rule: number,
                    reserved: 0,
                }),
                _ => None,
            })
            .collect();
        let mut table = [UnixRule::default(); UNIX_SOCKETS_MAX];
        if sockets.len() > table.len() {
            let count = sockets.len();
            return Err(CompileError::TooManyUnixSockets { count });
        }
        for (place, socket) in table.iter_mut().zip(sockets) {
            *place = socket;
        }
        Ok(table)
    }

    fn compile_files(&self) -> Result<Vec<FileEntry>, CompileError> {
        // Ordered by bytes, a prefix comes before what it is a prefix of.
        let mut stated: BTreeMap<Vec<u8>, FileRule> = BTreeMap::new();
        for (number, rule) in self.numbered() {
            let (path, grant) = match &rule.subject {
                Subject::Path(path, grant)
                | Subject::Exact(path, grant)
                | Subject::Nameless(path, grant) => (path.clone(), *grant),
                Subject::Name(name) => (anywhere(name), Grant::Deny),
                Subject::Persistent { name, .. } => (anywhere(name), Grant::Allow(Access::PERSIST)),
                Subject::Address { .. }
                | Subject::Host { .. }
                | Subject::Listen { .. }
                | Subject::Unix { .. } => continue,
            };
            if path.len() > RULE_PATH_MAX {
                return Err(CompileError::TooLong {
                    text: rule.text.clone(),
                });
            }
            let with = |end: u8| path.iter().copied().chain([end]).collect::<Vec<u8>>();
            let prefixes = match &rule.subject {
                Subject::Exact(..) | Subject::Persistent { below: false, .. } => vec![with(0)],
                Subject::Nameless(..) => vec![path.clone()],
                _ => vec![with(0), with(b'/')],
            };
            for prefix in prefixes {
                grant_in(stated.entry(prefix).or_default(), grant, number);
            }
            if grant == Grant::Deny && !path.starts_with(&[ANYWHERE]) {
                for folder in folders_above(&path) {
                    let entry = stated.entry([folder, &[0]].concat()).or_default();
                    entry.holds = first_set(entry.holds, number);
                }
            }
        }
        let mut entries: Vec<FileEntry> = Vec::with_capacity(stated.len());
        let mut around = Vec::new();
        for (prefix, own) in stated {
            let wider = narrowest(&entries, &mut around, |entry| {
                prefix.starts_with(&entry.prefix)
            });
            let wider = wider.map(|entry| entry.rule);
            let only_holds = FileRule { holds: 0, ..own } == FileRule::default();
            if only_holds && wider.is_none() {
                // No rule is about the folder itself: its name cannot be taken anyway.
                continue;
            }
            let wider = wider.unwrap_or_default();
            let rule = FileRule {
                read: first_set(own.read, wider.read),
                write: first_set(own.write, wider.write),
                exec: first_set(own.exec, wider.exec),
                map: first_set(own.map, wider.map),
                deny: first_set(own.deny, wider.deny),
                holds: own.holds,
                // Who grants a folder of the host inside of one that the sandbox has for itself
                // does not grant what goes away with the sandbox.
                persist: if own.write == 0 {
                    first_set(own.persist, wider.persist)
                } else {
                    own.persist
                },
                reserved: 0,
            };
            debug_assert!(prefix.len() <= PATH_KEY_LEN);
            around.push(entries.len());
            entries.push(FileEntry { prefix, rule });
        }
        Ok(entries)
    }

    fn compile_networks(&self) -> Result<Vec<NetworkEntry>, CompileError> {
        // Ordered by address, the wider first.
        let mut stated: BTreeMap<Network, Vec<PortRange>> = BTreeMap::new();
        for (number, rule) in self.numbered() {
            let Subject::Address {
                network,
                first,
                last,
                protocols,
            } = rule.subject
            else {
                continue;
            };
            stated.entry(network).or_default().push(PortRange {
                first,
                last,
                protocols,
                rule: number,
            });
        }
        let mut entries: Vec<NetworkEntry> = Vec::with_capacity(stated.len());
        let mut around = Vec::new();
        for (network, own) in stated {
            let wider = narrowest(&entries, &mut around, |entry| {
                entry.network.covers(&network)
            });
            let inherited = wider.into_iter().flat_map(|entry| &entry.rule.ranges);
            let rule = merged(network, own.into_iter().chain(inherited.copied()))?;
            around.push(entries.len());
            entries.push(NetworkEntry { network, rule });
        }
        Ok(entries)
    }
}

/// The narrowest entry that covers what comes next. `around` has the places of those that covered what
/// came before it, the widest first.
fn narrowest<'e, T>(
    entries: &'e [T],
    around: &mut Vec<usize>,
    covers: impl Fn(&T) -> bool,
) -> Option<&'e T> {
    while let Some(entry) = around.last().and_then(|place| entries.get(*place)) {
        if covers(entry) {
            return Some(entry);
        }
        around.pop();
    }
    None
}

/// One rule of these ranges, the first of those that say the same; those without a rule are left out.
pub(super) fn merged(
    network: Network,
    ranges: impl Iterator<Item = PortRange>,
) -> Result<NetworkRule, CompileError> {
    let mut kept: Vec<PortRange> = Vec::new();
    for range in ranges.filter(|range| range.rule != 0) {
        if !kept.iter().any(|earlier| holds(*earlier, range)) {
            kept.push(range);
        }
    }
    let mut rule = NetworkRule::default();
    if kept.len() > rule.ranges.len() {
        return Err(CompileError::TooManyPorts { network });
    }
    for (place, range) in rule.ranges.iter_mut().zip(kept) {
        *place = range;
    }
    Ok(rule)
}

/// Adds a grant to an entry; the rule that came first keeps its number.
fn grant_in(entry: &mut FileRule, grant: Grant, number: u16) {
    match grant {
        Grant::Deny => entry.deny = first_set(entry.deny, number),
        Grant::Allow(bits) => {
            for (bit, place) in [
                (Access::READ, &mut entry.read),
                (Access::WRITE, &mut entry.write),
                (Access::EXEC, &mut entry.exec),
                (Access::MAP, &mut entry.map),
                (Access::PERSIST, &mut entry.persist),
            ] {
                if bits & bit != 0 {
                    *place = first_set(*place, number);
                }
            }
        }
    }
}

/// The key of names in any folder.
fn anywhere(name: &[u8]) -> Vec<u8> {
    [&[ANYWHERE], name].concat()
}

/// The folders that an absolute path lies in, without `/`.
fn folders_above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().skip(1);
    slashes.filter_map(|(at, byte)| (*byte == b'/').then(|| path.get(..at))?)
}

fn first_set(first: u16, second: u16) -> u16 {
    if first == 0 { second } else { first }
}

/// Whether every port and protocol of `inner` is in `outer` already.
fn holds(outer: PortRange, inner: PortRange) -> bool {
    outer.first <= inner.first
        && inner.last <= outer.last
        && outer.protocols & inner.protocols == inner.protocols
}
