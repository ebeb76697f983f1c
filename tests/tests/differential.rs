//! `policy::decide` and the eBPF programs answer the same questions with the same answers.

use skillsandbox_tests::kernel_helper::run;

const HELPER: &str = env!("CARGO_BIN_EXE_kernel");

mod kernel_tier {
    use super::*;

    #[test]
    fn the_kernel_decides_as_the_reference_does() {
        run(HELPER, &["differential", "210", "70", "50"]);
    }
}

// The other test does the same and more, where it can run.
mod fallback_tier {
    use super::*;

    #[test]
    fn the_kernel_decides_on_addresses_as_the_reference_does() {
        run(HELPER, &["differential", "100", "0", "100"]);
    }
}
