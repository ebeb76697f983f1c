//! The sandbox's own name server: it answers for the names that the manifest declares, and what it
//! answers becomes rules before the answer leaves.

mod answer;
mod bucket;
mod desk;
mod grants;
mod public;
pub mod question;
mod server;
mod table;
mod upstream;

pub use grants::{GrantError, Grants};
pub use server::{NameServer, Sockets};
pub use upstream::{Upstream, UpstreamError};
