//! From what a manifest asks for to what the kernel looks up, and the reference evaluator that
//! both are held equal to.

mod compile;
mod decide;
mod network;
mod rules;

pub use compile::{CompileError, FileEntry, NameEntry, NetworkEntry, Tables};
pub use network::{Network, NetworkError};
pub use rules::{Grant, Rule, RuleSet, Subject};

#[cfg(test)]
mod tests;
