//! The signals that ask us to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::RunError;

/// They wait for us. Made before anything that would have to be undone.
pub(super) struct Interruptions([(Signal, i32); 4]);

impl Interruptions {
    pub(super) fn listen() -> Result<Self, RunError> {
        let listen = |kind: SignalKind| {
            let listening = signal(kind).map_err(RunError::process("listen for signals"))?;
            Ok::<_, RunError>((listening, kind.as_raw_value()))
        };
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
            listen(SignalKind::quit())?,
        ]))
    }

    /// The number of the first that comes.
    pub(super) async fn next(&mut self) -> i32 {
        let [interrupt, terminate, hangup, quit] = &mut self.0;
        tokio::select! {
            _ = interrupt.0.recv() => interrupt.1,
            _ = terminate.0.recv() => terminate.1,
            _ = hangup.0.recv() => hangup.1,
            _ = quit.0.recv() => quit.1,
        }
    }
}
