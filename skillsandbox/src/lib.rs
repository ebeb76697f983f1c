//! SkillSandbox: a kernel-level monitor and sandbox for the code that AI agents run.
//!
//! Modules depend on each other in one direction only; `ARCHITECTURE.md` has the picture. What no fuzz target reaches is left out
//! where those are built, with a sanitizer: it would take longer than they run.

#![cfg_attr(
    fuzzing,
    allow(dead_code, unused_imports, reason = "used by what is left out")
)]

pub mod audit;
#[cfg(not(fuzzing))]
pub mod cli;
pub mod dns;
#[cfg(not(fuzzing))]
pub mod export;
#[cfg(not(fuzzing))]
pub mod isolate;
#[cfg(not(fuzzing))]
pub mod kernel;
pub mod manifest;
pub mod policy;
#[cfg(not(fuzzing))]
pub mod supervise;

#[cfg(all(
    not(debug_assertions),
    any(feature = "test-layers", feature = "bpf-log")
))]
compile_error!("test-layers and bpf-log are for debug builds: a release never has them");
