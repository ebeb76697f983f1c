//! What the differential and the preemption test do, in a program that can also be the probe.

use std::env;

use anyhow::{Result, bail};
use skillsandbox::kernel::prove;
use skillsandbox_tests::kernel_differential::{self as differential, Extent};
use skillsandbox_tests::{kernel_access, kernel_preemption as preemption};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [prove::SUBCOMMAND] => Ok(prove::child()?),
        [kernel_access::SUBCOMMAND] => kernel_access::inside(),
        [preemption::SUBCOMMAND, folder, opens] => preemption::inside(folder, opens.parse()?),
        ["differential", sets, opens, reaches] => differential::compare(Extent {
            sets: sets.parse()?,
            opens: opens.parse()?,
            reaches: reaches.parse()?,
        }),
        ["preemption", opens] => preemption::open_as_fast_as_can_be(opens.parse()?),
        // What the probe executes to find out whether it may.
        ["--version"] => Ok(()),
        _ => bail!("usage: kernel differential SETS OPENS REACHES | kernel preemption OPENS"),
    }
}
