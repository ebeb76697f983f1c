//! Programs that are attached to the host, once for all sandboxes: tracepoints, and the LSM hooks
//! that the ten cgroup hooks leave out. They find the sandbox by the task's cgroup.

use aya::programs::{Lsm, RawTracePoint, RawTracePointRunOptions, TestRun as _, links::FdLink};
use skillsandbox_common::names::{Hook, PROGRAM_TAKE_HOME, PROGRAMS, Program};

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

    /// What makes a thread's mount namespace and root the home of a slot. Linux 5.10.
    pub fn home_taker(&self) -> Result<HomeTaker, KernelError> {
        let program = RawTracePoint::from_pin(self.pin_of(PROGRAM_TAKE_HOME));
        let program = program.map_err(|error| KernelError::Home {
            reason: error.to_string(),
        })?;
        Ok(HomeTaker { program })
    }

    /// Detaches them: for when no sandbox is left.
    pub fn stop_sharing(&self) -> Result<(), KernelError> {
        bpffs::remove_folder(&self.pin_of(SHARED))
    }
}

/// Makes a thread's mount namespace and root the home of a slot.
#[derive(Debug)]
pub struct HomeTaker {
    program: RawTracePoint,
}

impl HomeTaker {
    /// Takes those of the calling thread.
    pub fn take(&self, slot: u32) -> Result<(), KernelError> {
        let failed = |reason: String| KernelError::Home { reason };
        let called = RawTracePointRunOptions {
            args: [slot.into(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            cpu: None,
        };
        let answer = self.program.test_run(called);
        match answer
            .map_err(|error| failed(error.to_string()))?
            .return_value
        {
            0 => Ok(()),
            _ => Err(failed("it has none that can be read".to_owned())),
        }
    }
}
