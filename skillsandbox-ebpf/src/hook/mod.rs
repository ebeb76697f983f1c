//! The entry points, by family.

mod exec;
mod file;
mod network;
mod process;
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
    match verdict {
        Verdict::Allow => 1,
        Verdict::Deny => {
            #[cfg(feature = "log")]
            aya_log_ebpf::debug!(ctx, "{} denies in slot {}", hook, crate::slot::attached());
            0
        }
    }
}
