//! What the loader calls itself (`BPF_PROG_TEST_RUN`, Linux 5.10): attached to nothing.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::home;

/// Makes the caller's mount namespace and root the home of the slot that is its only argument; answers 0
/// where that is done.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn take_home(ctx: RawTracePointContext) -> i32 {
    i32::from(!home::take(ctx.arg::<u64>(0) as u32))
}
