//! Runs for callers who are not root: a socket of the daemon's, a worker for each that asks, and the asking.
//!
//! The daemon only accepts, counts, and starts a worker: this program anew, one process for one connection. So what a caller
//! sends is read by nobody who holds anything of another's, and a run outlives the daemon that it was asked of. Of what a caller
//! hands over nothing is used; the worker makes the streams, and hands out their other ends. While callers come, some workers
//! have made and proved their sandbox before they are handed a connection.

mod ask;
mod callers;
mod closing;
mod door;
mod pool;
mod protocol;
mod worker;

pub use ask::{Ended, ask};
pub use closing::CLOSER;
pub(in crate::supervise) use door::Door;
pub use protocol::{Answer, Asked, AskedRun, SOCKET, ServiceError, VERSION};
pub use worker::{REFUSED, Served, WORKER, Worker};
