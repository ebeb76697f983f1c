//! The rules of a sandbox and the paths that it has, from the permissions of its manifest.

use std::{
    ffi::OsString,
    net::{Ipv4Addr, Ipv6Addr},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use skillsandbox_common::{
    header::Reason,
    rule::{Access, Protocols},
};

use super::{error::RunError, plan::line_of};
use crate::{
    isolate::{
        environment::HOME,
        launch::{Grant as PathGrant, SKILL},
        mounts::{DEVICES, RUNTIME, RUNTIME_ETC},
        paths,
        program::Program,
    },
    manifest::{
        AbsolutePath, DenyPattern, Destination, DomainPattern, Egress, Filesystem, Manifest,
        PERSISTENT, Persistent, Protocol, Runtime, Spanned,
    },
    policy::{Grant, Network, RuleSet, Subject},
};

/// Files of `/etc` that are written for the sandbox.
pub(super) const ETC_FILES: [&str; 5] =
    ["passwd", "group", "hosts", "resolv.conf", "nsswitch.conf"];

/// Where libraries are in the system's folders: what is mapped as code without being executed.
const LIBRARIES: [&str; 9] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libx32",
    "/usr/local/lib",
];

/// What of a manifest and of this host is written down so far.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) rules: RuleSet,
    pub(super) grants: Vec<PathGrant>,
    pub(super) links: Vec<(OsString, OsString)>,
    pub(super) denies: Vec<OsString>,
    pub(super) needs_kernel_tier: Option<NeedsKernelTier>,
}

/// A rule that can be held only where eBPF decides on files.
#[derive(Clone, Debug)]
pub struct NeedsKernelTier {
    /// The rule.
    pub rule: String,
    /// Its line.
    pub line: u32,
    /// Why, and what to do instead.
    pub why: &'static str,
}

/// Of what is denied and may appear, or be replaced, while the sandbox runs.
const MAY_APPEAR: &str = "only eBPF can deny what may appear later; deny a path that exists";
/// Of a unix socket.
const MAY_BE_OTHERS: &str =
    "only eBPF tells a unix socket from others in a granted folder; take it out of the manifest";

impl Draft {
    fn built_in(&mut self, path: &str, grant: Grant) {
        self.rules.push(
            Subject::Path(path.into(), grant),
            format!("built-in {path}"),
            None,
        );
    }

    fn built_in_exact(&mut self, path: &str) {
        self.rules.push(
            Subject::Exact(path.into(), Grant::READ),
            format!("built-in {path}"),
            None,
        );
    }

    /// What every sandbox has, and the host's programs and libraries.
    pub(super) fn runtime(&mut self, runtime: Runtime) {
        for folder in ["/", "/dev", "/etc", "/home"] {
            self.built_in_exact(folder);
        }
        for name in ETC_FILES {
            self.built_in_exact(&format!("/etc/{name}"));
        }
        self.built_in(SKILL, Grant::READ);
        self.built_in("/proc", Grant::READ);
        for folder in [HOME, "/tmp", "/dev/shm", "/dev/pts"] {
            self.built_in(folder, Grant::PRIVATE);
        }
        for device in DEVICES {
            self.built_in(device, Grant::PRIVATE);
        }
        // A pipe has no path; a program opens its own again through /dev/stdout and the like.
        let pipes = Subject::Nameless(b"pipe:[".to_vec(), Grant::PRIVATE);
        self.rules.push(pipes, "built-in pipes", None);
        if runtime == Runtime::System {
            for path in RUNTIME.iter().chain(&RUNTIME_ETC) {
                self.built_in(path, Grant::READ);
            }
            for path in LIBRARIES {
                self.built_in(path, Grant::LIBRARY);
            }
        }
    }

    pub(super) fn filesystem(&mut self, manifest: &Manifest) -> Result<(), RunError> {
        let permissions = &manifest.permissions;
        for path in &permissions.filesystem.read {
            self.path(
                path.value.as_path(),
                Grant::READ,
                "filesystem.read",
                line_of(path),
            )?;
        }
        for path in &permissions.filesystem.write {
            self.path(
                path.value.as_path(),
                Grant::WRITE_ONLY,
                "filesystem.write",
                line_of(path),
            )?;
        }
        self.persistence(&permissions.filesystem);
        for path in &permissions.exec.allow {
            self.path(
                path.value.as_path(),
                Grant::EXEC,
                "exec.allow",
                line_of(path),
            )?;
        }
        for pattern in &permissions.filesystem.deny {
            let line = line_of(pattern);
            match &pattern.value {
                DenyPattern::Path(path) => {
                    let paths::Resolved { real, exists, .. } = paths::resolve(path.as_path())?;
                    let text = format!("filesystem.deny {path}");
                    if self.is_the_sandboxes_own(&real) {
                        return Err(RunError::NotOfTheHost {
                            path: path.to_string(),
                        });
                    }
                    if !exists || !only_root_replaces(&real) {
                        // A mount covers what is there now, not what takes its place.
                        self.needs_kernel_tier = Some(NeedsKernelTier {
                            rule: text.clone(),
                            line: pattern.line,
                            why: MAY_APPEAR,
                        });
                    }
                    let bytes = real.as_os_str().as_bytes().to_vec();
                    self.rules
                        .push(Subject::Path(bytes, Grant::Deny), text, line);
                    self.denies.push(real.into());
                }
                DenyPattern::AnyDepth(name) => {
                    let text = format!("filesystem.deny **/{name}");
                    let rule = Subject::Name(name.clone().into_bytes());
                    self.rules.push(rule, text.clone(), line);
                    self.needs_kernel_tier = Some(NeedsKernelTier {
                        rule: text,
                        line: pattern.line,
                        why: MAY_APPEAR,
                    });
                }
            }
        }
        Ok(())
    }

    /// What of the folders that may be written is not, because others execute or obey it.
    fn persistence(&mut self, filesystem: &Filesystem) {
        if filesystem.write.is_empty() {
            return;
        }
        let is_named = |known: &Persistent| {
            let mut named = filesystem.persist.iter();
            named.any(|name| name.value.permits(known))
        };
        for known in PERSISTENT.iter().filter(|known| !is_named(known)) {
            let subject = Subject::Persistent {
                name: known.name.into(),
                below: known.below,
            };
            let text = format!("built-in no write to **/{}", known.name);
            self.rules.push(subject, text, None);
        }
    }

    /// Whether a path is one that the sandbox has for itself: the host's file of that name is
    /// not in it.
    fn is_the_sandboxes_own(&self, path: &Path) -> bool {
        let own = [SKILL, "/proc", "/dev", HOME, "/tmp"];
        let granted = self
            .grants
            .iter()
            .any(|grant| path.starts_with(&grant.path));
        !granted && own.iter().any(|folder| path.starts_with(folder))
    }

    fn path(
        &mut self,
        path: &Path,
        grant: Grant,
        permission: &str,
        line: Option<usize>,
    ) -> Result<(), RunError> {
        let resolved = paths::resolve(path)?;
        let text = format!("{permission} {}", path.display());
        let bytes = resolved.real.as_os_str().as_bytes().to_vec();
        // Where a link of such a name leads is no such name.
        let names_one = PERSISTENT.iter().any(|known| known.is_in(&bytes));
        let grant = if names_one && grant == Grant::WRITE_ONLY {
            Grant::WRITE_AND_PERSIST
        } else {
            grant
        };
        self.rules.push(Subject::Path(bytes, grant), text, line);
        let Grant::Allow(access) = grant else {
            return Ok(());
        };
        self.grants.push(PathGrant {
            path: resolved.real.into(),
            access: access & Access::ALL,
        });
        self.have_links(resolved.links);
        Ok(())
    }

    /// Gives the sandbox the links that led to a path.
    fn have_links(&mut self, links: Vec<(PathBuf, PathBuf)>) {
        let links = links.into_iter();
        self.links
            .extend(links.map(|(link, target)| (link.into(), target.into())));
    }

    pub(super) fn program(&mut self, program: &Program, line: Option<usize>) {
        let text = |path: &Path| format!("entrypoint {}", path.display());
        let mut may_run = |path: &Path| {
            let bytes = path.as_os_str().as_bytes().to_vec();
            self.rules
                .push(Subject::Path(bytes, Grant::EXEC), text(path), line);
        };
        may_run(&program.path);
        for interpreter in &program.script_interpreters {
            may_run(interpreter);
        }
        if let Some(loader) = &program.loader {
            // Mapped by the kernel, and executed by nobody.
            let subject = Subject::Path(loader.as_os_str().as_bytes().to_vec(), Grant::LIBRARY);
            self.rules.push(subject, text(loader), line);
        }
        let everything = std::iter::once(&program.path)
            .chain(&program.script_interpreters)
            .chain(&program.loader);
        self.grants.extend(everything.map(|path| PathGrant {
            path: path.clone().into(),
            access: Access::READ | Access::EXEC,
        }));
    }

    pub(super) fn network(&mut self, manifest: &Manifest) -> Result<(), RunError> {
        for entry in &manifest.permissions.network.egress {
            let line = line_of(entry);
            match &entry.value.destination {
                Destination::Cidr(cidr) => {
                    let network = Network::new(cidr.address(), cidr.prefix_length())?;
                    let subject = |first, last, protocols| Subject::Address {
                        network,
                        first,
                        last,
                        protocols,
                    };
                    self.egress(&entry.value, &network.to_string(), line, subject);
                }
                Destination::Domain(pattern) => {
                    let subject = |first, last, protocols| Subject::Host {
                        pattern: pattern.clone(),
                        first,
                        last,
                        protocols,
                    };
                    self.egress(&entry.value, &pattern.to_string(), line, subject);
                    if *pattern == DomainPattern::Exact("localhost".to_owned()) {
                        self.localhost(&entry.value, line);
                    }
                }
            }
        }
        for ports in &manifest.permissions.network.listen {
            let (first, last) = (ports.value.first(), ports.value.last());
            let text = format!("network.listen {}/tcp", ports.value);
            let subject = Subject::Listen { first, last };
            self.rules.push(subject, text, line_of(ports));
        }
        for socket in &manifest.permissions.network.unix {
            self.unix_socket(socket)?;
        }
        Ok(())
    }

    fn unix_socket(&mut self, socket: &Spanned<AbsolutePath>) -> Result<(), RunError> {
        let resolved = paths::resolve(socket.value.as_path())?;
        let paths::SocketFile { device, inode } = paths::socket_file(&resolved.real)?;
        let path = resolved.real.as_os_str().as_bytes().to_vec();
        let denied = self.rules.decide_file(&path, Access::READ);
        if denied.reason == Reason::DenyRule {
            return Err(RunError::Denied {
                path: socket.value.to_string(),
                rule: self
                    .rules
                    .get(denied.rule.into())
                    .map_or_else(String::new, |rule| rule.text.clone()),
            });
        }
        let subject = Subject::Unix {
            path,
            device,
            inode,
        };
        let text = format!("network.unix {}", socket.value);
        self.needs_kernel_tier = Some(NeedsKernelTier {
            rule: text.clone(),
            line: socket.line,
            why: MAY_BE_OTHERS,
        });
        self.rules.push(subject, text, line_of(socket));
        self.have_links(resolved.links);
        Ok(())
    }

    /// The one name that no name server is asked for: it is in the sandbox's `/etc/hosts`.
    fn localhost(&mut self, entry: &Egress, line: Option<usize>) {
        for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let network = Network::host(address);
            let subject = |first, last, protocols| Subject::Address {
                network,
                first,
                last,
                protocols,
            };
            self.egress(entry, "localhost", line, subject);
        }
    }

    fn egress(
        &mut self,
        entry: &Egress,
        host: &str,
        line: Option<usize>,
        subject: impl Fn(u16, u16, u16) -> Subject,
    ) {
        let (protocols, word) = match entry.protocol {
            Protocol::Tcp => (Protocols::TCP, "tcp"),
            Protocol::Udp => (Protocols::UDP, "udp"),
            Protocol::Any => (Protocols::ANY, "any"),
        };
        for ports in &entry.ports {
            self.rules.push(
                subject(ports.first(), ports.last(), protocols),
                format!("network.egress {host} {ports}/{word}"),
                line,
            );
        }
    }
}

/// Whether nobody but root can put another file in the place of this one: it and every folder
/// above it are root's, and others can write to none of these, or not rename what is root's in it
/// (the sticky bit, unlink(2)).
fn only_root_replaces(path: &Path) -> bool {
    path.ancestors().all(|part| {
        part.symlink_metadata().is_ok_and(|found| {
            let replaceable = found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0;
            found.uid() == 0 && !(found.is_dir() && replaceable)
        })
    })
}
