//! The rules of one sandbox, in the order in which the manifest states them.

use skillsandbox_common::rule::Access;

use super::Network;
use crate::manifest::DomainPattern;

/// What a rule gives or takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Allows these accesses: bits of [`Access`].
    Allow(u16),
    /// Denies every access, whatever else allows it.
    Deny,
}

impl Grant {
    /// Reading.
    pub const READ: Self = Self::Allow(Access::READ);
    /// Writing without reading.
    pub const WRITE_ONLY: Self = Self::Allow(Access::WRITE);
    /// Reading and writing.
    pub const WRITE: Self = Self::Allow(Access::READ | Access::WRITE);
    /// Writing without reading, of names as well that others execute or obey.
    pub const WRITE_AND_PERSIST: Self = Self::Allow(Access::WRITE | Access::PERSIST);
    /// Reading and writing, the same: for what goes away with the sandbox.
    pub const PRIVATE: Self = Self::Allow(Access::READ | Access::WRITE | Access::PERSIST);
    /// Reading, executing, and mapping as code, which executing takes.
    pub const EXEC: Self = Self::Allow(Access::READ | Access::EXEC | Access::MAP);
    /// Reading, and mapping as code: for libraries.
    pub const LIBRARY: Self = Self::Allow(Access::READ | Access::MAP);
}

/// What a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A file, or a folder and everything below it. Absolute, no `.` or `..`, no slash at the
    /// end; at most [`RULE_PATH_MAX`](skillsandbox_common::rule::RULE_PATH_MAX) bytes.
    Path(Vec<u8>, Grant),
    /// The folder or file of this very path, and nothing below it.
    Exact(Vec<u8>, Grant),
    /// Objects without a path, by the start of the name that the kernel gives them: `pipe:[`.
    Nameless(Vec<u8>, Grant),
    /// Whatever has these last components, in any folder, and everything below. Only denied.
    Name(Vec<u8>),
    /// The same, for a name that others execute or obey: written only where a grant to write comes
    /// with [`Access::PERSIST`].
    Persistent {
        /// One component or more.
        name: Vec<u8>,
        /// Whether what lies below is meant as well.
        below: bool,
    },
    /// Addresses, ports `first..=last`, and bits of
    /// [`Protocols`](skillsandbox_common::rule::Protocols).
    Address {
        /// The addresses.
        network: Network,
        /// First port.
        first: u16,
        /// Last port, itself included.
        last: u16,
        /// Transport protocols.
        protocols: u16,
    },
    /// Ports `first..=last` of its own that others may call, over TCP.
    Listen {
        /// First port.
        first: u16,
        /// Last port, itself included.
        last: u16,
    },
    /// A unix socket of the host, by its file.
    Unix {
        /// The file's path, without links.
        path: Vec<u8>,
        /// `struct super_block.s_dev` of its file system.
        device: u32,
        /// Its number there.
        inode: u64,
    },
    /// The same as [`Address`](Self::Address) at whatever addresses a host's name turns out to have.
    Host {
        /// The names.
        pattern: DomainPattern,
        /// First port.
        first: u16,
        /// Last port, itself included.
        last: u16,
        /// Transport protocols.
        protocols: u16,
    },
}

/// A rule and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it says.
    pub subject: Subject,
    /// The rule as an event names it: `filesystem.read /tmp/cache`.
    pub text: String,
    /// Line of the manifest, from 1; `None` for a rule that comes from a default.
    pub line: Option<usize>,
}

/// Every rule of one sandbox. A rule's number is its position plus one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    rules: Vec<Rule>,
}

impl RuleSet {
    /// Adds a rule after the others.
    pub fn push(&mut self, subject: Subject, text: impl Into<String>, line: Option<usize>) {
        self.rules.push(Rule {
            subject,
            text: text.into(),
            line,
        });
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// First and last of each range of ports that others may call.
    pub fn called_ports(&self) -> impl Iterator<Item = (u16, u16)> {
        self.rules.iter().filter_map(|rule| match rule.subject {
            Subject::Listen { first, last } => Some((first, last)),
            _ => None,
        })
    }

    /// Paths of the unix sockets that may be connected to.
    pub fn unix_sockets(&self) -> impl Iterator<Item = &[u8]> {
        self.rules.iter().filter_map(|rule| match &rule.subject {
            Subject::Unix { path, .. } => Some(path.as_slice()),
            _ => None,
        })
    }

    /// The rule of this number, as events carry it: from 1.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&Rule> {
        self.rules
            .get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// The rules with their numbers. Those past the last number that a table can hold are left
    /// out; [`compile`](Self::compile) refuses such a set.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (u16, &Rule)> {
        (1..u16::MAX).zip(&self.rules)
    }
}

impl Rule {
    /// Whether every sandbox has it, whatever its manifest asks for.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        self.text.starts_with("built-in ")
    }
}

impl Subject {
    /// What the rule gives, in a word: `rw-`, `r-x`, `r-m` (mapped as code), `deny`, `egress`.
    #[must_use]
    pub fn grants(&self) -> String {
        match self {
            Self::Path(_, Grant::Deny)
            | Self::Exact(_, Grant::Deny)
            | Self::Nameless(_, Grant::Deny)
            | Self::Name(_) => "deny".to_owned(),
            Self::Path(_, Grant::Allow(bits))
            | Self::Exact(_, Grant::Allow(bits))
            | Self::Nameless(_, Grant::Allow(bits)) => {
                let letter = |bit, letter| if bits & bit == 0 { '-' } else { letter };
                let code = match letter(Access::EXEC, 'x') {
                    '-' => letter(Access::MAP, 'm'),
                    executes => executes,
                };
                [letter(Access::READ, 'r'), letter(Access::WRITE, 'w'), code]
                    .iter()
                    .collect()
            }
            Self::Persistent { .. } => "no write".to_owned(),
            Self::Address { .. } | Self::Host { .. } => "egress".to_owned(),
            Self::Listen { .. } => "listen".to_owned(),
            Self::Unix { .. } => "unix".to_owned(),
        }
    }
}
