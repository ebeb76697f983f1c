//! Events that the kernel did not run a tracepoint's program for.
//!
//! A program of a raw tracepoint runs once at a time on each processor. Where tracepoints can be
//! preempted (Linux 7; not 6.12), the events of whoever runs meanwhile are skipped, and counted for
//! the program (`bpf_prog_inc_misses_counter`, `kernel/bpf/syscall.c`; told since Linux 5.12).

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd},
    path::PathBuf,
};

use aya::programs::RawTracePoint;
use skillsandbox_common::names::{Hook, PROGRAMS};

use super::{KernelError, Objects};

/// The field of `/proc/PID/fdinfo/FD` (`bpf_prog_show_fdinfo`, `kernel/bpf/syscall.c`).
const FIELD: &str = "recursion_misses:";

/// Counts them from a moment on.
#[derive(Debug)]
pub(super) struct Skips {
    programs: Vec<RawTracePoint>,
    before: u64,
}

impl Skips {
    /// From now on.
    pub(super) fn since_now(objects: &Objects) -> Result<Self, KernelError> {
        let tracepoints = PROGRAMS
            .iter()
            .filter(|program| matches!(program.hook, Hook::RawTracepoint(_)));
        let programs = tracepoints
            .map(|program| {
                RawTracePoint::from_pin(objects.pin_of(program.name)).map_err(|source| {
                    KernelError::Program {
                        name: program.name,
                        source,
                    }
                })
            })
            .collect::<Result<_, _>>()?;
        let mut skips = Self {
            programs,
            before: 0,
        };
        skips.before = skips.count()?;
        Ok(skips)
    }

    /// How many, of all processes of the host.
    pub(super) fn count(&self) -> Result<u64, KernelError> {
        let mut count = 0;
        for program in &self.programs {
            let fd = program.fd().map_err(|source| KernelError::Program {
                name: "tracepoint",
                source,
            })?;
            let path = PathBuf::from(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()));
            let text = fs::read_to_string(&path).map_err(KernelError::path("read", &path))?;
            let skipped = skipped(&text)
                .ok_or_else(|| io::Error::other(format!("it has no number after {FIELD}")))
                .map_err(KernelError::path("read", &path))?;
            count += skipped;
        }
        Ok(count - self.before)
    }
}

fn skipped(text: &str) -> Option<u64> {
    let field = text.lines().find_map(|line| line.strip_prefix(FIELD))?;
    field.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_count_is_read_and_its_absence_is_no_zero() {
        let text = "pos:\t0\nprog_id:\t7\nrecursion_misses:\t12\nverified_insns:\t9\n";
        assert_eq!(skipped(text), Some(12));
        assert_eq!(skipped("pos:\t0\nprog_id:\t7\n"), None);
    }
}
