//! The fixed part of every event.

use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task_btf,
    bpf_get_current_uid_gid, bpf_ktime_get_boot_ns,
};
use skillsandbox_common::{
    header::{COMM_LEN, EVENT_VERSION, EventPrefix, Kind},
    rule::Decision,
};

use crate::offsets;

/// Fills everything but the sequence number, which `emit` gives.
///
/// # Safety
/// `prefix` must be valid for writes; it may be uninitialised.
#[inline(always)]
pub unsafe fn fill(prefix: *mut EventPrefix, kind: Kind, decision: Decision, length: u32) {
    // SAFETY: the caller vouches for `prefix`; the helpers take nothing but memory inside it.
    unsafe {
        let header = &raw mut (*prefix).header;
        (*header).version = EVENT_VERSION;
        (*header).kind = kind as u8;
        (*header).verdict = decision.verdict as u8;
        (*header).reason = decision.reason as u8;
        (*header).length = length;
        (*header).time_ns = bpf_ktime_get_boot_ns();

        let pid_tgid = bpf_get_current_pid_tgid();
        let uid_gid = bpf_get_current_uid_gid();
        let actor = &raw mut (*prefix).actor;
        (*actor).sequence = 0;
        (*actor).pid = pid_tgid as u32;
        (*actor).tgid = (pid_tgid >> 32) as u32;
        (*actor).ppid = parent();
        (*actor).uid = uid_gid as u32;
        (*actor).gid = (uid_gid >> 32) as u32;
        (*actor).rule = u32::from(decision.rule);
        bpf_get_current_comm((&raw mut (*actor).comm).cast(), COMM_LEN as u32);
    }
}

/// Process id of the current task's parent, or 0 when the kernel does not say.
#[inline(always)]
fn parent() -> u32 {
    // SAFETY: the verifier knows the task's type and lets a load through a bad pointer read 0.
    unsafe {
        let task = bpf_get_current_task_btf().cast_const().cast::<u8>();
        let parent = task
            .add(offsets::task_real_parent())
            .cast::<*const u8>()
            .read_volatile();
        parent
            .add(offsets::task_tgid())
            .cast::<u32>()
            .read_volatile()
    }
}
