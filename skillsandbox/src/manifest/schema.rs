//! The manifest's types, defaults filled in. `docs/manifest.md` is their reference.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cgroup::CgroupPattern;
use super::cidr::Cidr;
use super::domain::DomainPattern;
use super::limits::RUN_RING_KIB;
use super::path::{AbsolutePath, DenyPattern};
use super::persistence::PersistentName;
use super::port::PortRange;
use super::spanned::Spanned;
use super::variable::VariableName;

/// What a skill is and what it may do.
///
/// Made by [`Manifest::load`] and [`Manifest::parse`] only, which check all of it. Serialised, it
/// is a manifest again, with every default written out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// The cgroups that it is for, of a policy that is to be attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Spanned<CgroupPattern>>,
    /// Whether what is not granted is denied, or only recorded.
    pub mode: Spanned<Mode>,
    /// What the skill is.
    pub skill: Skill,
    /// What it may use.
    pub permissions: Permissions,
    /// How much it may use.
    pub resources: Resources,
    /// What is recorded.
    pub audit: Audit,
    /// How it is started.
    pub entrypoint: Entrypoint,
}

/// Whether the manifest is enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Deny what is not granted.
    #[default]
    Enforce,
    /// Allow it, and record that it would have been denied.
    Audit,
}

/// What the skill is. Labels for people: nothing is decided by them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skill {
    /// Not empty, on one line, without `/`, and not `.` or `..`.
    pub name: String,
    /// On one line.
    pub version: String,
    /// May hold newlines and tabs.
    pub description: String,
    /// On one line.
    pub author: String,
}

/// What the skill may use. Everything else is denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Permissions {
    /// Addresses and sockets.
    pub network: Network,
    /// Files and folders.
    pub filesystem: Filesystem,
    /// Programs.
    pub exec: Exec,
    /// Environment variables.
    pub env_vars: EnvironmentVariables,
    /// System calls.
    pub syscalls: SystemCalls,
}

/// Network permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Where it may connect to and send to.
    pub egress: Vec<Spanned<Egress>>,
    /// Ports it may listen on.
    pub listen: Vec<Spanned<PortRange>>,
    /// Unix sockets it may connect to.
    pub unix: Vec<Spanned<AbsolutePath>>,
}

/// One destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Egress {
    /// Which hosts.
    #[serde(flatten)]
    pub destination: Destination,
    /// Which ports; from 1 to [`PORT_RANGES_MAX`](skillsandbox_common::rule::PORT_RANGES_MAX)
    /// ranges.
    pub ports: Vec<PortRange>,
    /// Which transport protocol.
    pub protocol: Protocol,
}

/// The hosts of an egress entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// By name.
    Domain(DomainPattern),
    /// By address.
    Cidr(Cidr),
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// Every protocol that has ports.
    Any,
}

/// File permissions. A folder includes everything below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Filesystem {
    /// What it may read. Never `/`.
    pub read: Vec<Spanned<AbsolutePath>>,
    /// What it may write. Never `/`.
    pub write: Vec<Spanned<AbsolutePath>>,
    /// Names that others execute or obey, which it may write in these folders all the same.
    pub persist: Vec<Spanned<PersistentName>>,
    /// What it may not touch, whatever else is granted. Never `/`.
    pub deny: Vec<Spanned<DenyPattern>>,
    /// Which of the host's own files it may read.
    pub runtime: Runtime,
}

/// The host's programs and libraries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Readable, not writable: `/usr`, `/lib*`, `/bin`, certificates, the loader's cache and
    /// harmless devices.
    #[default]
    System,
    /// Nothing but what the manifest grants.
    None,
}

/// Program permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Exec {
    /// Programs it may start besides the entrypoint's own, or folders of them. Never `/`.
    pub allow: Vec<Spanned<AbsolutePath>>,
}

/// Environment permissions. No name is in both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EnvironmentVariables {
    /// Passed on from the caller's environment, where they are set there.
    pub allow: Vec<Spanned<VariableName>>,
    /// Given these values.
    pub set: BTreeMap<VariableName, Spanned<String>>,
}

/// System call permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SystemCalls {
    /// Which calls are let through.
    pub profile: Spanned<SystemCallProfile>,
}

/// A set of system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SystemCallProfile {
    /// What programs ordinarily need.
    #[default]
    Default,
    /// Less than the default.
    Strict,
    /// More than the default.
    Permissive,
}

/// Limits on the whole sandbox, unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// Memory, in MiB: [`MEMORY_MB`](super::MEMORY_MB).
    pub memory_mb: u64,
    /// CPU weight against other sandboxes: [`CPU_SHARES`](super::CPU_SHARES), 1024 being one part.
    pub cpu_shares: u64,
    /// Wall-clock time, in seconds: [`MAX_RUNTIME_SECONDS`](super::MAX_RUNTIME_SECONDS).
    pub max_runtime_seconds: u64,
    /// Standard output and error together, in bytes: [`MAX_OUTPUT_BYTES`](super::MAX_OUTPUT_BYTES).
    pub max_output_bytes: u64,
    /// Processes and threads at a time: [`MAX_PROCESSES`](super::MAX_PROCESSES).
    pub max_processes: u64,
    /// Open files of each process: [`MAX_OPEN_FILES`](super::MAX_OPEN_FILES).
    pub max_open_files: u64,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            memory_mb: 256,
            cpu_shares: 512,
            max_runtime_seconds: 60,
            max_output_bytes: 1_048_576,
            max_processes: 64,
            max_open_files: 1_024,
        }
    }
}

/// What is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// What happens to an access that cannot be recorded because the buffer is full.
    pub on_overflow: Spanned<OnOverflow>,
    /// Whether like accesses may be recorded as one record with a count.
    pub aggregate: Spanned<bool>,
    /// Room for records that are not taken yet, in KiB: a power of two of [`RING_KIB`](super::RING_KIB).
    /// `None` for [`RUN_RING_KIB`](super::RUN_RING_KIB), or [`ATTACHED_RING_KIB`](super::ATTACHED_RING_KIB) in a cgroup that is
    /// attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring_kib: Option<u32>,
}

impl Audit {
    /// KiB of the rings of a sandbox of `run`.
    #[must_use]
    pub fn run_ring_kib(&self) -> u32 {
        self.ring_kib.unwrap_or(RUN_RING_KIB)
    }
}

/// What happens to an access that cannot be recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnOverflow {
    /// It is decided as ever, and counted as lost.
    #[default]
    Count,
    /// It is denied.
    Deny,
}

/// How the skill is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entrypoint {
    /// A program's name, to be found in the sandbox's search path, or its path.
    pub command: Spanned<String>,
    /// Its arguments, without its own name.
    pub args: Vec<String>,
    /// The folder it starts in, as the sandbox sees it.
    pub workdir: AbsolutePath,
}
