//! The life of one sandbox, from manifest to exit.

mod advice;
pub mod attach;
mod back_pressure;
mod ceiling;
pub mod daemon;
mod draft;
mod error;
mod files;
mod firewall;
mod interruptions;
mod judge;
mod life;
mod limits;
mod outbox;
mod output;
mod plan;
mod profile;
mod ready;
mod recorder;
mod registry;
mod run;
mod said;
mod sandbox;
pub mod service;
mod streams;

pub use advice::advise_file;
pub use error::RunError;
pub use plan::{Plan, Request};
pub use run::{Events, Options, Outcome, dry_run, run};
pub use sandbox::Tier;
pub use streams::Streams;
