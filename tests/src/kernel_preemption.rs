//! Many threads that interrupt each other in the middle of decisions.

use anyhow::Result;

/// The argument that makes the helper program the process with the threads.
pub const SUBCOMMAND: &str = "threads";

/// x
pub fn inside(_folder: &str, _opens: usize) -> Result<()> {
    Ok(())
}

/// x
pub fn open_as_fast_as_can_be(_opens: usize) -> Result<()> {
    Ok(())
}
