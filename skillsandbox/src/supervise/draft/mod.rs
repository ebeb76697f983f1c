//! The rules of a sandbox and the paths that it has, from the permissions of its manifest.

mod network;

use std::{
    ffi::OsString,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use skillsandbox_common::rule::Access;

use super::{error::RunError, plan::line_of};
use crate::{
    isolate::{
        environment::HOME,
        launch::{Grant as PathGrant, SKILL},
        mounts::{DEVICES, RUNTIME, RUNTIME_ETC},
        paths,
        program::Program,
    },
    manifest::{DenyPattern, Filesystem, Manifest, PERSISTENT, Persistent, Runtime},
    policy::{Grant, RuleSet, Subject},
};

/// Files of `/etc` that are written for the sandbox.
pub(in crate::supervise) const ETC_FILES: [&str; 5] =
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
pub(in crate::supervise) struct Draft {
    pub(in crate::supervise) rules: RuleSet,
    pub(in crate::supervise) grants: Vec<PathGrant>,
    pub(in crate::supervise) links: Vec<(OsString, OsString)>,
    pub(in crate::supervise) denies: Vec<OsString>,
    pub(in crate::supervise) needs_kernel_tier: Option<NeedsKernelTier>,
    /// Whether it is for who sees this host's own files, and not for a file tree of a sandbox's own.
    is_of_the_host: bool,
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

    /// For who sees this host's own files: the runtime, and of the rest what every program looks at.
    pub(in crate::supervise) fn of_the_host(runtime: Runtime) -> Self {
        let mut draft = Self {
            is_of_the_host: true,
            ..Self::default()
        };
        for folder in ["/", "/dev", "/etc"] {
            draft.built_in_exact(folder);
        }
        for name in ETC_FILES {
            draft.built_in_exact(&format!("/etc/{name}"));
        }
        draft.built_in("/proc", Grant::READ);
        draft.devices_and_runtime(runtime);
        draft
    }

    /// What every sandbox has, and the host's programs and libraries.
    pub(in crate::supervise) fn runtime(&mut self, runtime: Runtime) {
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
        self.devices_and_runtime(runtime);
    }

    fn devices_and_runtime(&mut self, runtime: Runtime) {
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

    pub(in crate::supervise) fn filesystem(&mut self, manifest: &Manifest) -> Result<(), RunError> {
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
        if self.is_of_the_host {
            return false;
        }
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

    pub(in crate::supervise) fn program(&mut self, program: &Program, line: Option<usize>) {
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
