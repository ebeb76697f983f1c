//! The file system that bpftrace finds tracepoints in.

use std::path::Path;
use std::process::Command;

const FOLDER: &str = "/sys/kernel/tracing";

/// Unmounts what we mounted.
pub(super) struct Mounted(bool);

/// Mounts it, where it is missing. Where that fails bpftrace says so itself.
pub(super) fn mounted() -> Mounted {
    if Path::new(FOLDER).join("events").exists() {
        return Mounted(false);
    }
    let status = Command::new("mount")
        .args(["-t", "tracefs", "tracefs", FOLDER])
        .status();
    Mounted(status.is_ok_and(|status| status.success()))
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.0 {
            let _ = Command::new("umount").arg(FOLDER).status();
        }
    }
}
