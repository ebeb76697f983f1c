//! Resource limits of the process: on top of the cgroup, or in place of a controller it lacks.

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::error::{Result, Step};
use super::report::{Layer, LayerReport, Status};

/// Limits for the skill's processes; `None` leaves the caller's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Open descriptors of one process.
    pub open_files: Option<u64>,
    /// Bytes of one file.
    pub file_bytes: Option<u64>,
    /// Where the cgroup cannot limit memory: bytes of private memory of one process.
    pub memory_bytes: Option<u64>,
    /// Where the cgroup cannot limit processes: how many the skill may have beside those that its
    /// user already has.
    pub processes: Option<u64>,
}

/// Threads that `uid` has on this host. `RLIMIT_NPROC` counts them all, not the sandbox's alone.
pub(super) fn threads_of(uid: u32) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut count = 0;
    for process in std::fs::read_dir("/proc").step("list the processes of the host")? {
        let process = process.step("list the processes of the host")?;
        let is_process = process
            .file_name()
            .as_encoded_bytes()
            .iter()
            .all(u8::is_ascii_digit);
        // A process that ends meanwhile no longer counts.
        if is_process && process.metadata().is_ok_and(|status| status.uid() == uid) {
            let threads = std::fs::read_dir(process.path().join("task"));
            count += threads.map_or(0, |threads| threads.count() as u64);
        }
    }
    Ok(count)
}

/// Applies `limits`; `threads` is what the skill's user already has.
pub(super) fn apply(limits: &Limits, threads: u64) -> Result<LayerReport> {
    let processes = limits
        .processes
        .map(|processes| processes.saturating_add(threads));
    let wanted = [
        (Resource::Core, Some(0), "core dumps"),
        (Resource::Nofile, limits.open_files, "open files"),
        (Resource::Fsize, limits.file_bytes, "file bytes"),
        (
            Resource::Data,
            limits.memory_bytes,
            "memory bytes per process",
        ),
        (Resource::Nproc, processes, "threads of the user"),
    ];
    let mut held = Vec::new();
    for (resource, value, name) in wanted {
        let Some(value) = value else { continue };
        let limit = Rlimit {
            current: Some(value),
            maximum: Some(value),
        };
        setrlimit(resource, limit).step(format!("limit {name} to {value}"))?;
        held.push(format!("{name} {value}"));
    }
    Ok(LayerReport::new(
        Layer::Limits,
        Status::Enforced,
        held.join(", "),
    ))
}
