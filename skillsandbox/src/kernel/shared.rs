//! Programs that are attached to the host, once for all sandboxes: tracepoints, and the LSM hooks
//! that the ten cgroup hooks leave out. They find the sandbox by the task's cgroup.

use aya::programs::{Lsm, RawTracePoint, links::FdLink};
use skillsandbox_common::names::{Hook, PROGRAMS, Program};

use super::{
    KernelError, Objects,
    attach::{pin, refusal},
    bpffs,
};

/// Folder of the shared links, below the folder of this build's objects.
const SHARED: &str = "shared";

impl Objects {
    /// Attaches the tracepoints, unless they are attached: forks and exits, and with `calls` also
    /// `open` and `exec`.
    pub fn trace(&self, calls: bool) -> Result<(), KernelError> {
        for program in PROGRAMS {
            let only_for_calls = matches!(program.name, "trace_call" | "trace_exec");
            if matches!(program.hook, Hook::RawTracepoint(_)) && (calls || !only_for_calls) {
                self.share(program)?;
            }
        }
        Ok(())
    }

    /// Attaches a program to the host, unless it is attached. The caller holds the lock of the run
    /// folder.
    pub(super) fn share(&self, program: &'static Program) -> Result<(), KernelError> {
        let folder = self.pin_of(SHARED);
        bpffs::make_private_folder(&folder)?;
        if folder.join(program.name).exists() {
            return Ok(());
        }
        let refused = refusal(program);
        let path = self.pin_of(program.name);
        let link: FdLink = match program.hook {
            Hook::Lsm(_) => {
                let mut loaded = Lsm::from_pin(path).map_err(&refused)?;
                let id = loaded.attach().map_err(&refused)?;
                loaded.take_link(id).map_err(&refused)?.into()
            }
            Hook::RawTracepoint(tracepoint) => {
                let mut loaded = RawTracePoint::from_pin(path).map_err(&refused)?;
                let id = loaded.attach(tracepoint).map_err(&refused)?;
                loaded.take_link(id).map_err(&refused)?.into()
            }
            _ => {
                return Err(KernelError::Attach {
                    name: program.name,
                    reason: "it is attached to a cgroup".to_owned(),
                });
            }
        };
        pin(link, program.name, &folder).map(drop)
    }

    /// Detaches them: for when no sandbox is left.
    pub fn stop_sharing(&self) -> Result<(), KernelError> {
        bpffs::remove_folder(&self.pin_of(SHARED))
    }
}
