//! From what a manifest asks for to what the kernel looks up, the reference evaluator that both
//! are held equal to, and what a manifest would have to say for a denied access.

mod compile;
mod decide;
mod explain;
mod hosts;
mod network;
mod rules;

pub use compile::{CompileError, FileEntry, NetworkEntry, Tables};
pub use explain::{
    Advice, DeniedAddress, DeniedFile, advise_address, advise_bind, advise_name, advise_other,
    advise_unix,
};
pub use hosts::{Age, HostRules, RESOLVERS};
pub use network::{Network, NetworkError};
pub use rules::{Grant, Rule, RuleSet, Subject};

#[cfg(test)]
mod tests;
