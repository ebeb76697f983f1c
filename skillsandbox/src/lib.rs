//! SkillSandbox: a kernel-level monitor and sandbox for the code that AI agents run.
//!
//! Modules depend on each other in one direction only; `ARCHITECTURE.md` has the picture.

pub mod audit;
pub mod cli;
pub mod dns;
pub mod export;
pub mod isolate;
pub mod kernel;
pub mod manifest;
pub mod policy;
pub mod supervise;

#[cfg(all(
    not(debug_assertions),
    any(feature = "test-layers", feature = "bpf-log")
))]
compile_error!("test-layers and bpf-log are for debug builds: a release never has them");
