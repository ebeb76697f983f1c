//! What is launched: everything the launcher needs to know, in a form that passes through a pipe.

use std::ffi::OsString;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::landlock::Ports;
use super::limits::Limits;
use super::privileges::Identity;
use super::report::Layer;
use super::seccomp::{Permitted, Profile};

/// Where the skill's folder is, in the sandbox.
pub const SKILL: &str = "/skill";

/// A sandbox and the program to run in it. Paths are of the sandbox, and the same on the host
/// except below [`SKILL`] and the private folders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// Host name that the skill sees.
    pub hostname: String,
    /// The program, resolved: see [`View::program`](super::program::View::program).
    pub program: OsString,
    /// Its arguments; the first is its name.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Folder that it starts in.
    pub workdir: OsString,
    /// Whom it runs as: never 0.
    pub uid: u32,
    /// Its group: never 0.
    pub gid: u32,
    /// Reach the host's files with the rights of that user alone: it is whoever asked for the run.
    pub as_caller: bool,
    /// Whether it sees the host's programs and libraries.
    pub runtime: Runtime,
    /// What it may use beside those, resolved: see [`resolve`](super::paths::resolve).
    pub grants: Vec<Grant>,
    /// Links that lead to grants: where, and what each says.
    pub links: Vec<(OsString, OsString)>,
    /// Unix sockets of the host that it may connect to, resolved.
    pub unix_sockets: Vec<OsString>,
    /// Paths that it may not use though a grant covers them. Each that exists is covered by an
    /// empty mount.
    pub denies: Vec<OsString>,
    /// Folders of its own.
    pub private: Private,
    /// Files of `/etc` written for it: name and content.
    pub etc_files: Vec<(String, String)>,
    /// Resource limits of the process.
    pub limits: Limits,
    /// TCP ports for Landlock.
    pub ports: Ports,
    /// System calls that it may make.
    pub seccomp: Profile,
    /// Refuse to start where the kernel has no Landlock.
    pub require_landlock: bool,
    /// Layers to leave out: mounts, Landlock or seccomp. With the mounts left out, paths are the
    /// host's, [`SKILL`] included: name the skill's folder instead.
    #[cfg(feature = "test-layers")]
    #[serde(default)]
    pub without: Vec<Layer>,
}

/// Whether the sandbox has the host's programs and libraries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// `/usr`, `/bin`, `/lib` and their like, certificates and the loader's cache, read-only.
    #[default]
    System,
    /// Nothing but what is granted.
    None,
}

/// A path and what is granted there and below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The path, absolute and without links.
    pub path: OsString,
    /// Bits of [`Access`](skillsandbox_common::rule::Access).
    pub access: u16,
}

/// Sizes of the folders that the sandbox has to itself, gone when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Private {
    /// Bytes that `/home/skill` holds.
    pub home_bytes: u64,
    /// Bytes that `/tmp` and `/dev/shm` hold, each.
    pub tmp_bytes: u64,
    /// Files and folders that each holds.
    pub files: u64,
}

impl Default for Private {
    fn default() -> Self {
        Self {
            home_bytes: 64 << 20,
            tmp_bytes: 64 << 20,
            files: 16_384,
        }
    }
}

impl Launch {
    /// Whether `layer` is to be put around the skill.
    #[cfg(feature = "test-layers")]
    pub(super) fn has(&self, layer: Layer) -> bool {
        !self.without.contains(&layer)
    }

    /// Whether `layer` is to be put around the skill: always, but in a build for tests.
    #[cfg(not(feature = "test-layers"))]
    #[expect(clippy::unused_self, reason = "a build for tests asks the launch")]
    pub(super) const fn has(&self, _: Layer) -> bool {
        true
    }

    /// Whom its files are opened as, if not as root.
    pub(super) fn caller(&self) -> Option<Identity> {
        let Self { uid, gid, .. } = *self;
        self.as_caller.then_some(Identity { uid, gid })
    }

    /// What the filters of system calls leave to others.
    pub(super) fn permitted(&self) -> Permitted {
        let ports = self.ports.bind.iter().flatten();
        Permitted {
            // Port 0 is one that the kernel chooses, for a client.
            listening: ports.into_iter().any(|(_, last)| *last != 0),
            unix_sockets: !self.unix_sockets.is_empty(),
        }
    }

    /// Bits that the grants at `path` and above it add up to.
    pub(super) fn access(&self, path: &Path) -> u16 {
        self.grants
            .iter()
            .filter(|grant| path.starts_with(&grant.path))
            .fold(0, |access, grant| access | grant.access)
    }
}
