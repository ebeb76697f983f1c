//! The bodies that follow [`EventPrefix`](crate::header::EventPrefix), by kind.

mod network;
mod path;
mod process;
mod unix;

pub use network::NetworkBody;
pub use path::{PathBody, PathSource};
pub use process::ProcessBody;
pub use unix::{UNIX_NAME_MAX, UnixBody};
