//! The helper program, as tests start it.
//!
//! It is a program of its own because attaching starts `/proc/self/exe` as the probe that proves
//! what was attached, and a test program would take that for a wish to run its tests.

use std::process::Command;

/// Runs the helper at `program` in a network namespace of its own and fails with its status.
///
/// # Panics
/// When the helper does not succeed: that is the test's outcome.
pub fn run(program: &str, arguments: &[&str]) {
    let status = Command::new("unshare")
        .args(["--net", "--", program])
        .args(arguments)
        .status()
        .expect("unshare, of Debian's util-linux");
    assert!(status.success(), "{arguments:?} ended with {status}");
}
