//! A decision that another task interrupts is still its own task's decision. The runner gives
//! this program a machine with one processor and a kernel that preempts wherever it can.

use skillsandbox_tests::kernel_helper::run;

mod kernel_tier {
    use super::*;

    #[test]
    fn threads_that_interrupt_each_other_get_their_own_verdicts_and_events() {
        run(env!("CARGO_BIN_EXE_kernel"), &["preemption", "200000"]);
    }
}
