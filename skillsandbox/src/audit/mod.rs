//! What happened: event bytes in, records out.
//!
//! [`decode`] turns the kernel's bytes into an [`Event`](decode::Event), purely. [`describe`] adds
//! what userspace knows (time, rule text, host name, program) and makes a
//! [`Record`](record::Record). [`collect`] puts records in order, accounts for every sequence
//! number, and hands them to the sinks: [`json_lines`], [`trace`] and [`watch`].
//! `docs/events.md` is the schema of what is written.

pub mod bits;
pub mod clock;
pub mod code;
pub mod collect;
pub mod counts;
pub mod decode;
pub mod describe;
pub(crate) mod field;
pub(crate) mod json;
pub mod json_lines;
pub mod process;
pub mod query;
pub mod record;
pub mod repeat;
pub mod safe_file;
pub mod said;
pub mod segment;
pub mod sequence;
pub mod sink;
pub mod store;
pub mod text;
pub mod trace;
pub mod violations;
pub mod watch;

#[cfg(test)]
mod schema;
#[cfg(test)]
pub(crate) mod testing;
