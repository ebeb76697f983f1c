//! Exit codes of our own. Below 120, 125 to 127 and above 128 they are the skill's.

use std::process::ExitCode;

use crate::{kernel::KernelError, supervise::RunError};

/// The manifest is refused.
pub const MANIFEST: u8 = 120;
/// The host or the caller lacks what was asked for: root, eBPF, the tier.
pub const CAPABILITY: u8 = 121;
/// The sandbox could not be set up or taken down.
pub const SETUP: u8 = 122;
/// The skill ran, and its record is not complete: an output could not be written, or the counts
/// do not add up.
pub const RECORD: u8 = 123;
/// The deadline ended the skill, as timeout(1) says it.
pub const DEADLINE: u8 = 124;

/// Shown at the end of `run --help`.
pub const HELP: &str = "Exit codes:
  the skill's own, or 128 and the number of the signal that ended it
  120  the manifest is refused, or asks for what is not enforced yet
  121  the host lacks what is asked for: root, eBPF, --require kernel
  122  the sandbox could not be set up; the skill did not run
  123  the skill ran, and its record is not complete: see the errors
  124  max_runtime_seconds ended the skill";

/// The code for an error.
#[must_use]
pub fn code_of(error: &anyhow::Error) -> ExitCode {
    let code = match error.downcast_ref::<RunError>() {
        Some(error) => code_of_run(error),
        None if error.is::<crate::manifest::ManifestError>() => MANIFEST,
        None => SETUP,
    };
    ExitCode::from(code)
}

/// The code for an error of a run.
#[must_use]
pub fn code_of_run(error: &RunError) -> u8 {
    match error {
        RunError::Manifest(_)
        | RunError::NotEnforced { .. }
        | RunError::Exceeds { .. }
        | RunError::ForOthers { .. }
        | RunError::NotOfTheHost { .. }
        | RunError::Denied { .. }
        | RunError::Network(_)
        | RunError::Compile(_) => MANIFEST,
        RunError::TierTooLow { .. }
        | RunError::NotHeld { .. }
        | RunError::NotHere { .. }
        | RunError::NobodyToAsk { .. }
        | RunError::Kernel(KernelError::NotRoot | KernelError::NoBtf { .. }) => CAPABILITY,
        RunError::Refused { code, .. } => *code,
        _ => SETUP,
    }
}
