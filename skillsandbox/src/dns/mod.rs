//! The sandbox's own name server: it answers for the names that the manifest declares, and what it
//! answers becomes rules before the answer leaves.

mod answer;
mod bucket;
#[cfg(not(fuzzing))]
mod desk;
#[cfg(not(fuzzing))]
mod grants;
mod public;
pub mod question;
#[cfg(not(fuzzing))]
mod server;
mod table;
mod upstream;

pub(crate) use bucket::Bucket;
#[cfg(not(fuzzing))]
pub use grants::{GrantError, Grants};
#[cfg(not(fuzzing))]
pub use server::{NameServer, Sockets};
pub use upstream::{Upstream, UpstreamError};
