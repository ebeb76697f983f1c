//! From a manifest to the rules of a cgroup whose processes see this host's own files, or a container's.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use skillsandbox_common::slot::{FLAG_AUDIT, FLAG_OVERFLOW_DENY};

use super::super::{ceiling, draft::Draft, error::RunError, plan::line_of};
use crate::{
    isolate::{existing::Existing, home::Home, program::View},
    kernel::WantedRings,
    manifest::{ATTACHED_RING_KIB, By, Manifest, ManifestError, Mode, OnOverflow},
    policy::{RuleSet, Tables},
};

/// What is to be held, on paper.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) manifest: Manifest,
    /// Its text.
    pub(super) text: String,
    /// The rules, numbered as events number them.
    pub(super) numbered: RuleSet,
    pub(super) tables: Tables,
    /// What the manifest has as its program.
    pub(super) program: String,
}

impl Rules {
    /// Reads a manifest of this file. Paths are looked up where the cgroup's processes are at home.
    pub(super) fn read(
        file: &str,
        text: &str,
        mode: Option<Mode>,
        home: &Home,
    ) -> Result<Self, RunError> {
        let mut manifest = Manifest::parse(file, text.as_bytes())?;
        manifest.mode.value = mode.unwrap_or(manifest.mode.value);
        let mode = manifest.mode.value;
        let fields = manifest.not_enforced_yet(By::Attach);
        if !fields.is_empty() {
            let file = file.to_owned();
            return Err(RunError::NotEnforced { file, fields });
        }
        // The host's, wherever the cgroup's processes are.
        let ceiling = ceiling::of_this_host()?;
        let (numbered, program) = home.run(|| {
            let mut draft = Draft::of_the_host(manifest.permissions.filesystem.runtime);
            draft.filesystem(&manifest)?;
            draft.network(&manifest)?;
            let entrypoint = &manifest.entrypoint;
            let command = entrypoint.command.value.as_ref();
            let workdir = entrypoint.workdir.as_path();
            let program = View::of_everything().program(command, workdir)?;
            draft.program(&program, line_of(&entrypoint.command));
            ceiling::check(ceiling.as_ref(), file, &manifest, mode, &draft.rules)?;
            Ok::<_, RunError>((draft.rules, program.path))
        })??;
        Ok(Self {
            tables: numbered.compile()?,
            numbered,
            program: program.to_string_lossy().into_owned(),
            text: text.to_owned(),
            manifest,
        })
    }

    pub(super) fn rings(&self) -> WantedRings {
        WantedRings {
            bytes: self.manifest.audit.ring_kib.unwrap_or(ATTACHED_RING_KIB) << 10,
            // Its recorder may be killed, and what it held back would be gone.
            several: false,
            aggregate: false,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.manifest.mode.value
    }

    /// Bits of the slot's flags.
    pub(super) fn flags(&self) -> u32 {
        let mut flags = 0;
        if self.manifest.audit.on_overflow.value == OnOverflow::Deny {
            flags |= FLAG_OVERFLOW_DENY;
        }
        if self.mode() == Mode::Audit {
            flags |= FLAG_AUDIT;
        }
        flags
    }

    /// Refuses rules on names where our name server cannot be asked.
    pub(super) fn check_names(&self, cgroup: &Existing) -> Result<(), RunError> {
        let namespace = |process: &str| {
            let path = Path::new("/proc").join(process).join("ns/net");
            fs::metadata(path).map(|found| found.ino())
        };
        let own = namespace("self").map_err(RunError::process("look at our network namespace"))?;
        for process in cgroup.processes()? {
            // One that is gone asks nobody.
            let elsewhere = namespace(&process.to_string()).is_ok_and(|found| found != own);
            if elsewhere && self.numbered.names_hosts() {
                return Err(RunError::attachment(
                    format!(
                        "process {process} of the cgroup is in a network namespace of its own, where our name server cannot be asked, and the manifest has rules on names"
                    ),
                    "write network.egress with `cidr:`",
                ));
            }
        }
        Ok(())
    }
}

/// The text of a manifest.
pub(super) fn text_of(file: &Path) -> Result<String, ManifestError> {
    // Refuses what is no manifest's file before anything of it is read.
    Manifest::load_with_text(file).map(|(_, text)| text)
}

/// The cgroup that a manifest itself is for, where it is one.
pub(super) fn cgroup_of(file: &str, text: &str) -> Result<PathBuf, RunError> {
    let manifest = Manifest::parse(file, text.as_bytes())?;
    match manifest.cgroup {
        Some(cgroup) if !cgroup.value.is_of_many() => Ok(cgroup.value.as_str().into()),
        Some(cgroup) => Err(RunError::attachment(
            format!("{file}:{}: cgroup can be of several cgroups", cgroup.line),
            "say with --cgroup which one is meant, or leave it to the daemon",
        )),
        None => Err(RunError::attachment(
            format!("{file} does not say which cgroup it is for"),
            "say so with --cgroup, or in the manifest: `cgroup: /system.slice/agent.service`",
        )),
    }
}

/// Where the processes of a cgroup are at home: all in one place, or here if there are none.
pub(super) fn home_of(cgroup: &Existing) -> Result<Home, RunError> {
    let mut homes = BTreeMap::new();
    for process in cgroup.processes()? {
        // One that ends meanwhile has none; one that cannot be looked at is an error below.
        match Home::of(process) {
            Ok(home) => {
                homes.entry(home.place()).or_insert((process, home));
            }
            Err(_) if !Path::new("/proc").join(process.to_string()).exists() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut homes = homes.into_values();
    match (homes.next(), homes.next()) {
        (None, _) => Ok(Home::own()?),
        (Some((_, home)), None) => Ok(home),
        (Some((one, _)), Some((other, _))) => Err(RunError::attachment(
            format!(
                "processes {one} and {other} of the cgroup see different file trees (mount namespaces or roots), and a path means something in one alone"
            ),
            "attach the cgroup of each by itself",
        )),
    }
}
