//! The skill's process, from fork to `execve`: it gives up everything, in this order.
//!
//! It is in its cgroup from the first moment on, where eBPF programs decide what it opens. So all that needs
//! files happens before it is forked, and it opens none.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Access as Check, AtFlags, CWD, FileType};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;
use skillsandbox_common::rule::Access;

use super::environment::HOME;
use super::error::{IsolateError, Result, Step};
use super::landlock::{Rule, Rules};
use super::launch::{Launch, Runtime, SKILL};
use super::launcher::Descriptors;
use super::mounts::{DEVICES, RUNTIME, RUNTIME_ETC};
use super::privileges::{self, Identity};
use super::report::{self, Layer, LayerReport, Record, Status};
use super::seccomp::Filters;
use super::{limits, paths, system};

/// What it takes to become the skill.
pub(super) struct Prepared<'a> {
    launch: &'a Launch,
    program: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    filters: Filters,
    landlock: Option<Rules>,
    has_cgroup: bool,
}

impl<'a> Prepared<'a> {
    /// Whatever needs a file, in the file tree of the skill.
    pub(super) fn new(launch: &'a Launch, descriptors: &Descriptors) -> Result<Self> {
        Ok(Self {
            launch,
            program: strings([&launch.program])?,
            arguments: strings(&launch.arguments)?,
            environment: environment(launch)?,
            filters: Filters::compile(launch.seccomp, launch.permitted())?,
            landlock: if launch.has(Layer::Landlock) {
                Rules::prepare(&rules(launch, descriptors)?, &launch.ports)?
            } else {
                None
            },
            has_cgroup: descriptors.cgroup.is_some(),
        })
    }

    /// Becomes the skill, in a process that was forked for it, into the cgroup if there is one. Returns only with an error.
    /// `threads` is how many the skill's user has, `memory_files` whether the kernel makes memory files not executable.
    pub(super) fn become_skill(
        self,
        report: &File,
        threads: u64,
        memory_files: bool,
    ) -> Result<Infallible> {
        let Self { launch, .. } = self;
        let tell = |layer| report::write(report, &Record::Layer(layer));
        rustix::process::setsid().step("make a session")?;
        rustix::process::chdir(Path::new(&launch.workdir)).step(format!(
            "enter the working folder {}",
            launch.workdir.display()
        ))?;
        if self.has_cgroup {
            system::unshare(UnshareFlags::NEWCGROUP).step("make a cgroup namespace")?;
            tell(LayerReport::new(
                Layer::Cgroup,
                Status::Enforced,
                "joined, and in its own namespace",
            ))?;
        } else {
            let detail = "the supervisor gave none";
            tell(LayerReport::new(Layer::Cgroup, Status::Off, detail))?;
        }
        tell(if launch.has(Layer::Namespaces) {
            let process = rustix::process::getpid();
            let detail = format!("PID (the skill is process {process}), IPC and host name");
            LayerReport::new(Layer::Namespaces, Status::Enforced, detail)
        } else {
            LayerReport::off(Layer::Namespaces)
        })?;
        tell(limits::apply(&launch.limits, threads)?)?;
        let identity = Identity {
            uid: launch.uid,
            gid: launch.gid,
        };
        tell(privileges::drop_to(identity)?)?;
        reachable(launch)?;
        tell(match self.landlock {
            Some(rules) => rules.enforce()?,
            None if !launch.has(Layer::Landlock) => LayerReport::off(Layer::Landlock),
            None if launch.require_landlock => {
                return Err(IsolateError::refused(
                    "the kernel offers no Landlock, and it is required",
                    "add landlock to the kernel's lsm= list",
                ));
            }
            None => LayerReport::new(Layer::Landlock, Status::Absent, "the kernel offers none"),
        })?;
        system::reset_signals().step("reset the signals")?;
        system::keep_only_standard_streams().step("close the inherited descriptors")?;
        tell(if launch.has(Layer::Seccomp) {
            let mut layer = self.filters.install()?;
            if memory_files {
                layer.detail.push_str("; memory files are not executable");
            }
            layer
        } else {
            LayerReport::off(Layer::Seccomp)
        })?;
        report::write(report, &Record::Ready)?;
        let program = self.program.first();
        let program = program.map(CString::as_c_str).unwrap_or_default();
        Err(system::exec(program, &self.arguments, &self.environment))
            .step(format!("execute {}", launch.program.display()))
    }
}

fn strings<'a>(strings: impl IntoIterator<Item = &'a OsString>) -> Result<Vec<CString>> {
    strings
        .into_iter()
        .map(|string| text(string.as_bytes().to_vec()))
        .collect()
}

fn environment(launch: &Launch) -> Result<Vec<CString>> {
    let pairs = launch.environment.iter();
    pairs
        .map(|(name, value)| text([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect()
}

fn text(bytes: Vec<u8>) -> Result<CString> {
    CString::new(bytes)
        .map_err(io::Error::from)
        .step("pass an argument or variable that holds a NUL byte")
}

/// Landlock rules for what the sandbox's tree holds.
fn rules(launch: &Launch, descriptors: &Descriptors) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    let mut add = |path: &Path, access: u16, devices: bool| -> Result<()> {
        let opened = match paths::open(path) {
            // What is not there needs no rule; nor does a link, which is not what is opened.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            other => other.step(format!("open {} for Landlock", path.display()))?,
        };
        let status = rustix::fs::fstat(&opened).step("look at a path")?;
        if FileType::from_raw_mode(status.st_mode) != FileType::Symlink {
            rules.push(Rule {
                path: opened,
                access,
                devices,
            });
        }
        Ok(())
    };
    let everything = Access::READ | Access::WRITE;
    if launch.runtime == Runtime::System {
        for path in RUNTIME.iter().chain(&RUNTIME_ETC) {
            add(Path::new(path), Access::READ, false)?;
        }
    }
    for (name, _) in &launch.etc_files {
        add(&Path::new("/etc").join(name), Access::READ, false)?;
    }
    for path in DEVICES {
        add(Path::new(path), everything, true)?;
    }
    add(Path::new("/dev/pts"), everything, true)?;
    add(Path::new("/proc"), Access::READ, false)?;
    if launch.has(Layer::Mounts) {
        add(Path::new(SKILL), Access::READ, false)?;
        // Made for the sandbox: all that is in them is granted.
        add(Path::new("/dev"), Access::READ, false)?;
        add(Path::new("/etc"), Access::READ, false)?;
        for path in ["/tmp", "/dev/shm", HOME] {
            add(Path::new(path), everything, false)?;
        }
    }
    for grant in &launch.grants {
        add(Path::new(&grant.path), grant.access, false)?;
    }
    for socket in &launch.unix_sockets {
        // None of these: a socket is not opened.
        add(Path::new(socket), 0, false)?;
    }
    // The folder itself, wherever it is.
    let path = descriptors
        .skill_dir
        .try_clone()
        .step("copy a descriptor")?;
    if !launch.has(Layer::Mounts) {
        rules.push(Rule {
            path,
            access: Access::READ,
            devices: false,
        });
    }
    Ok(rules)
}

/// Says in words what `execve` would only call a refusal.
fn reachable(launch: &Launch) -> Result<()> {
    let needed = [
        (launch.program.as_os_str(), Check::EXEC_OK, "execute"),
        (
            OsStr::new("."),
            Check::READ_OK | Check::EXEC_OK,
            "enter and list",
        ),
    ];
    for (path, access, verb) in needed {
        if rustix::fs::accessat(CWD, path, access, AtFlags::empty()).is_err() {
            let named = if path == "." {
                &launch.workdir
            } else {
                &launch.program
            };
            return Err(IsolateError::path(
                Path::new(named),
                format!("uid {} may not {verb} it", launch.uid),
                "change its mode, or name another user with --user",
            ));
        }
    }
    Ok(())
}
