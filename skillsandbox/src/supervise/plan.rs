//! From a manifest and this host to everything a sandbox is made of. Changes nothing.

use std::{
    ffi::OsString,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use skillsandbox_common::rule::{Access, Protocols};

use super::{error::RunError, names::Addresses};
use crate::{
    isolate::{
        environment::{Environment, HOME},
        launch::{Grant as PathGrant, Runtime as LaunchRuntime, SKILL},
        mounts::{DEVICES, RUNTIME, RUNTIME_ETC},
        paths,
        program::{Program, View},
    },
    manifest::{
        DenyPattern, Destination, DomainPattern, Egress, Filesystem, Manifest, PERSISTENT,
        Persistent, Protocol, Runtime, Spanned,
    },
    policy::{Grant, Network, RuleSet, Subject},
};

/// Files of `/etc` that are written for the sandbox.
pub(super) const ETC_FILES: [&str; 5] =
    ["passwd", "group", "hosts", "resolv.conf", "nsswitch.conf"];

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Request {
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest's file, as the caller named it.
    pub manifest_file: String,
    /// The skill's folder on the host.
    pub skill_dir: PathBuf,
    /// The command, in place of the manifest's entrypoint.
    pub command: Option<Vec<OsString>>,
    /// Arguments after those of the entrypoint.
    pub extra_arguments: Vec<OsString>,
}

/// A sandbox on paper: the rules, and what of the host it has.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The rules, numbered as events number them.
    pub rules: RuleSet,
    /// Its program.
    pub program: Program,
    /// The program's arguments, its own name first.
    pub arguments: Vec<OsString>,
    /// Paths with their access, without links.
    pub grants: Vec<PathGrant>,
    /// Links that lead to them.
    pub links: Vec<(OsString, OsString)>,
    /// Paths that are denied although a grant covers them.
    pub denies: Vec<OsString>,
    /// The environment.
    pub environment: Environment,
    /// Names that the manifest gives values.
    pub set: Vec<String>,
    /// The rule that can be held only where eBPF decides on opens, if there is one.
    pub needs_kernel_tier: Option<Spanned<String>>,
}

impl Plan {
    /// Works everything out. Links are followed, programs and paths must be there.
    pub(super) fn make(request: &Request, addresses: &Addresses) -> Result<Self, RunError> {
        let manifest = &request.manifest;
        let mut paper = Paper::default();
        paper.runtime(manifest.permissions.filesystem.runtime);
        paper.filesystem(manifest)?;
        paper.network(manifest, addresses)?;

        let workdir = manifest.entrypoint.workdir.as_path();
        let view = View::new(
            launch_runtime(manifest.permissions.filesystem.runtime),
            &request.skill_dir,
            paper.grants.iter().map(|grant| Path::new(&grant.path)),
        );
        let (command, line, mut arguments) = command_of(request);
        let program = view.program(&command, workdir)?;
        paper.program(&program, line);
        arguments.extend(request.extra_arguments.iter().cloned());

        let variables = &manifest.permissions.env_vars;
        let allow: Vec<String> = variables
            .allow
            .iter()
            .map(|name| name.value.as_str().to_owned())
            .collect();
        let set = variables
            .set
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.value.clone()))
            .collect();
        Ok(Self {
            rules: paper.rules,
            program,
            arguments,
            grants: paper.grants,
            links: paper.links,
            denies: paper.denies,
            environment: Environment::build(&allow, &set, std::env::vars_os()),
            set: set.into_keys().collect(),
            needs_kernel_tier: paper.needs_kernel_tier,
        })
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

/// The manifest's word for the runtime, as the launcher takes it.
pub(super) fn launch_runtime(runtime: Runtime) -> LaunchRuntime {
    match runtime {
        Runtime::System => LaunchRuntime::System,
        Runtime::None => LaunchRuntime::None,
    }
}

/// The command, its line in the manifest, and the arguments from its own name on.
fn command_of(request: &Request) -> (OsString, Option<usize>, Vec<OsString>) {
    if let Some((command, rest)) = request.command.as_deref().and_then(<[_]>::split_first) {
        let arguments = std::iter::once(command).chain(rest).cloned().collect();
        return (command.clone(), None, arguments);
    }
    let entrypoint = &request.manifest.entrypoint;
    let command = OsString::from(&entrypoint.command.value);
    let rest = entrypoint.args.iter().map(OsString::from);
    (
        command.clone(),
        line_of(&entrypoint.command),
        std::iter::once(command).chain(rest).collect(),
    )
}

fn line_of<T>(spanned: &Spanned<T>) -> Option<usize> {
    (spanned.line > 0).then_some(spanned.line as usize)
}

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

/// What is written down so far.
#[derive(Default)]
struct Paper {
    rules: RuleSet,
    grants: Vec<PathGrant>,
    links: Vec<(OsString, OsString)>,
    denies: Vec<OsString>,
    needs_kernel_tier: Option<Spanned<String>>,
}

impl Paper {
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
    fn runtime(&mut self, runtime: Runtime) {
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

    fn filesystem(&mut self, manifest: &Manifest) -> Result<(), RunError> {
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
                        self.needs_kernel_tier = Some(Spanned {
                            value: text.clone(),
                            line: pattern.line,
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
                    self.needs_kernel_tier = Some(Spanned {
                        value: text,
                        line: pattern.line,
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
        let links = resolved.links.into_iter();
        self.links
            .extend(links.map(|(link, target)| (link.into(), target.into())));
        Ok(())
    }

    fn program(&mut self, program: &Program, line: Option<usize>) {
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

    fn network(&mut self, manifest: &Manifest, addresses: &Addresses) -> Result<(), RunError> {
        for entry in &manifest.permissions.network.egress {
            let line = line_of(entry);
            match &entry.value.destination {
                Destination::Cidr(cidr) => {
                    let network = Network::new(cidr.address(), cidr.prefix_length())?;
                    self.egress(&entry.value, network, &network.to_string(), line);
                }
                Destination::Domain(DomainPattern::Exact(name)) => {
                    for address in addresses.of(name) {
                        self.egress(&entry.value, Network::host(*address), name, line);
                    }
                }
                // Refused before a plan is made: `Manifest::not_enforced_yet`.
                Destination::Domain(DomainPattern::Below(_)) => {}
            }
        }
        Ok(())
    }

    fn egress(&mut self, entry: &Egress, network: Network, host: &str, line: Option<usize>) {
        let (protocols, word) = match entry.protocol {
            Protocol::Tcp => (Protocols::TCP, "tcp"),
            Protocol::Udp => (Protocols::UDP, "udp"),
            Protocol::Any => (Protocols::ANY, "any"),
        };
        for ports in &entry.ports {
            let (first, last) = (ports.first(), ports.last());
            let subject = Subject::Address {
                network,
                first,
                last,
                protocols,
            };
            self.rules.push(
                subject,
                format!("network.egress {host} {ports}/{word}"),
                line,
            );
        }
    }
}
