//! The entry points, by family.

mod exec;
mod file;
mod network;
mod process;
mod trace;

use skillsandbox_common::header::Verdict;

/// What a cgroup program answers: 1 lets the access go on, 0 refuses it with `EPERM`.
#[inline(always)]
fn answer(verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Allow => 1,
        Verdict::Deny => 0,
    }
}
