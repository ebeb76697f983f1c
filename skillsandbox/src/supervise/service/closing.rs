//! What the daemon is to close, and not itself.
//!
//! What a caller has sent may make whoever closes it wait (`SO_LINGER`, socket(7)), and what others have sent whoever closes any
//! unix socket (`unix_gc`, `net/unix/garbage.c`, before Linux 6.9). The end of a process waits for none of it.

use std::{
    io,
    os::{fd::AsRawFd, unix::net::UnixStream},
    process::Stdio,
};

use tokio::process::{Child, Command};

use crate::isolate::spawn::inherit;

/// First argument of this program when it is to close connections.
pub const CLOSER: &str = "__close";

/// Connections that are closed together.
const TOGETHER: usize = 64;
/// Connections that may wait for that.
const MOST: usize = 1024;

#[derive(Default)]
pub(super) struct Closing(Vec<UnixStream>);

impl Closing {
    pub(super) fn add(&mut self, streams: impl IntoIterator<Item = UnixStream>) {
        self.0.extend(streams);
    }

    /// Whether there are so many that they are to be closed now.
    pub(super) fn is_due(&self) -> bool {
        self.0.len() >= TOGETHER
    }

    /// Whether there are so many that nobody is to come in.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MOST
    }

    /// Starts a process that closes them by its end, if there are any. They stay when that fails.
    pub(super) fn start(&mut self) -> io::Result<Option<Child>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut command = Command::new("/proc/self/exe");
        command
            .arg(CLOSER)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0);
        let streams = self.0.iter().map(AsRawFd::as_raw_fd).collect();
        inherit(command.as_std_mut(), streams);
        let mut closer = command.spawn()?;
        // It has them, so this closes none. Then its input ends, and it does.
        self.0.clear();
        drop(closer.stdin.take());
        Ok(Some(closer))
    }
}
