//! Everything that a fresh machine with rustup lacks. Safe to repeat.

use anyhow::{Context, Result};

use crate::packages::Need;
use crate::vm::kernels;
use crate::{linker, packages, rust_src};

/// What a step of the setup did.
pub(crate) enum Outcome {
    /// Nothing was missing.
    AlreadyThere,
    /// What was missing is there now.
    Done,
}

/// The name of a part, and what brings it.
type Part = (&'static str, fn() -> Result<Outcome>);

const PARTS: &[Part] = &[
    ("packages", || {
        packages::ensure(&[Need::Build, Need::Vm, Need::Demo, Need::Test])
    }),
    ("rust-src", rust_src::ensure),
    ("bpf-linker", linker::ensure),
    ("kernels", kernels::ensure_newest),
];

/// Brings all parts and says of each what became of it.
pub(crate) fn run() -> Result<()> {
    for (name, ensure) in PARTS {
        match ensure().with_context(|| format!("setting up {name}"))? {
            Outcome::AlreadyThere => eprintln!("{name}: already there"),
            Outcome::Done => eprintln!("{name}: done"),
        }
    }
    Ok(())
}
