//! Everything that talks to the kernel about eBPF: load, pin, attach, fill, read. The only user
//! of aya.

mod attach;
mod bpffs;
mod btf;
mod error;
mod links;
mod maps;
mod objects;
mod offsets;
mod policy;
pub mod prove;
mod ring;
mod shared;
mod skips;
mod succeed;
mod tries;

pub use attach::{Attached, Target};
pub use error::KernelError;
pub use maps::{Folds, WantedRings};
pub use objects::{Objects, ProgramState};
pub use policy::{Home, Policy};
pub use prove::Proof;
pub use ring::{Drained, Fill, Rings};
pub use shared::HomeTaker;
pub use tries::{AddressRules, NAMED_ADDRESSES_MAX};
