//! Everything that talks to the kernel about eBPF: load, pin, attach, fill, read. The only user
//! of aya.

mod attach;
mod bpffs;
mod btf;
mod error;
mod maps;
mod objects;
mod offsets;
pub mod prove;
mod ring;
mod shared;
mod skips;

pub use attach::{Attached, Target};
pub use error::KernelError;
pub use maps::{AddressRules, Folds, NAMED_ADDRESSES_MAX, WantedRings};
pub use objects::{Objects, ProgramState};
pub use prove::Proof;
pub use ring::Rings;
