//! The entry points, by family.

mod called;
mod create;
mod entry;
mod exec;
mod file;
mod name_server;
mod network;
mod packet;
mod process;
mod socket;
mod trace;

use aya_ebpf::EbpfContext;
use skillsandbox_common::header::Verdict;

/// What a cgroup program answers: 1 lets the access go on, 0 refuses it with `EPERM`.
#[inline(always)]
#[cfg_attr(
    not(feature = "log"),
    expect(unused_variables, reason = "only for the log")
)]
fn answer(ctx: &impl EbpfContext, hook: &'static str, verdict: Verdict) -> i32 {
    #[cfg(feature = "log")]
    if matches!(verdict, Verdict::Deny) {
        aya_log_ebpf::debug!(ctx, "{} denies in slot {}", hook, crate::slot::attached());
    }
    // The verifier must see that it is one of the two ("should have been in [0, 1]"), whatever
    // the compiler knows of what the verdict was made from.
    core::hint::black_box(i32::from(matches!(verdict, Verdict::Allow))) & 1
}
