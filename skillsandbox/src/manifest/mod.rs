//! The manifest, `skillsandbox.yaml`: what a skill declares that it needs.
//!
//! Read in three steps, each in its own files: bytes to a tree whose every value knows its line
//! (`tree`, `scalar`); tree to `schema` types, gathering every problem on the way
//! (`reader`, `sections` and one file per kind of value); and `enforced`, which says what a
//! valid manifest may ask for that this version cannot hold yet.
//!
//! A manifest comes with the skill, so it is as little trusted as the skill's code: nothing in it
//! is believed before it is checked, and nothing from it is printed before [`text::visible`].

mod ceiling;
mod cgroup;
mod cidr;
mod domain;
mod enforced;
mod error;
mod limits;
mod load;
mod path;
mod persistence;
mod port;
mod reader;
mod scalar;
mod schema;
mod sections;
mod spanned;
pub mod text;
mod tree;
mod variable;

#[cfg(test)]
mod tests;

pub use ceiling::{Bound, CEILING_FILE, Ceiling, Most};
pub use cgroup::{CgroupPattern, matches_name};
pub use cidr::Cidr;
pub use domain::DomainPattern;
pub use enforced::{By, NotEnforced};
pub use error::{ManifestError, Position, Problem, Refusal};
pub use limits::*;
pub use load::FILE_NAME;
pub use path::{AbsolutePath, DenyPattern};
pub use persistence::{PERSISTENT, Persistent, PersistentName};
pub use port::PortRange;
pub use schema::*;
pub use spanned::Spanned;
pub use variable::VariableName;
