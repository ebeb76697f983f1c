//! Processes that begin and end, so that the tree is known, and those that look into others.

use aya_ebpf::{
    helpers::{
        bpf_probe_read_kernel,
        generated::{bpf_get_current_pid_tgid, bpf_get_current_task},
    },
    macros::{lsm_cgroup, raw_tracepoint},
    programs::{LsmContext, RawTracePointContext},
};
use skillsandbox_common::{
    event::ProcessBody,
    header::{EventPrefix, Kind, Reason, Verdict},
    rule::Decision,
};

use crate::{actor, emit, offsets, slot};

/// The bytes of a `fork`, `exit` or `ptrace` event.
#[repr(C)]
struct ProcessEvent {
    prefix: EventPrefix,
    body: ProcessBody,
}

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`,
/// `include/trace/events/sched.h`. A thread is not a process.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn trace_fork(ctx: RawTracePointContext) -> i32 {
    let Some(slot) = slot::of_current_task() else {
        return 0;
    };
    let child: *const u8 = ctx.arg(1);
    // SAFETY: the helper answers an error for a bad address.
    let (pid, tgid) = unsafe {
        (
            bpf_probe_read_kernel(child.add(offsets::task_pid()).cast::<u32>()),
            bpf_probe_read_kernel(child.add(offsets::task_tgid()).cast::<u32>()),
        )
    };
    if let (Ok(pid), Ok(tgid)) = (pid, tgid)
        && pid == tgid
    {
        record(
            slot,
            Kind::Fork,
            ProcessBody {
                child: tgid,
                status: 0,
            },
        );
    }
    0
}

/// `sched_process_exit(struct task_struct *p)`, for the thread that leads its process.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn trace_exit(_ctx: RawTracePointContext) -> i32 {
    let Some(slot) = slot::of_current_task() else {
        return 0;
    };
    // SAFETY: the helpers take nothing, or an address that they check.
    unsafe {
        let pid_tgid = bpf_get_current_pid_tgid();
        if pid_tgid as u32 == (pid_tgid >> 32) as u32 {
            let task = bpf_get_current_task() as *const u8;
            let status = bpf_probe_read_kernel(task.add(offsets::task_exit_code()).cast::<i32>());
            record(
                slot,
                Kind::Exit,
                ProcessBody {
                    child: 0,
                    status: status.unwrap_or(0),
                },
            );
        }
    }
    0
}

/// `int security_ptrace_access_check(struct task_struct *child, unsigned int mode)`,
/// `security/security.c`: tracing a process, and all that takes the same right: its memory, its
/// descriptors, its folder of `/proc`. Not reached by a process that looks at itself. Processes of
/// the sandbox may be looked into; only a refusal is recorded.
#[lsm_cgroup(hook = "ptrace_access_check")]
pub fn ptrace_access(ctx: LsmContext) -> i32 {
    let child: *const u8 = ctx.arg(0);
    let mode: u32 = ctx.arg(1);
    let slot = slot::attached();
    let flags = slot::flags(slot);
    let reason = if flags == slot::NO_POLICY {
        Reason::NoPolicy
    } else {
        Reason::OutsideProcess
    };
    // SAFETY: the hook's first argument is a task; the event lies on this program's stack, and all
    // bytes zero is a valid prefix.
    let verdict = unsafe {
        if flags != slot::NO_POLICY && slot::holds(slot, child) {
            Verdict::Allow
        } else {
            let length = size_of::<ProcessEvent>();
            let mut event = ProcessEvent {
                prefix: core::mem::zeroed(),
                body: ProcessBody {
                    child: child
                        .add(offsets::task_tgid())
                        .cast::<u32>()
                        .read_volatile(),
                    status: mode as i32,
                },
            };
            let decision = Decision::deny(reason, 0);
            actor::fill(&raw mut event.prefix, Kind::Ptrace, decision, length as u32);
            emit::access(slot, flags, (&raw mut event).cast(), length as u64)
        }
    };
    super::answer(&ctx, "ptrace_access", verdict)
}

#[inline(always)]
fn record(slot: u32, kind: Kind, body: ProcessBody) {
    let length = size_of::<ProcessEvent>();
    let decision = Decision {
        reason: Reason::Observed,
        ..Decision::allow(0)
    };
    // SAFETY: the event lies on this program's stack; all bytes zero is a valid prefix.
    unsafe {
        let mut event = ProcessEvent {
            prefix: core::mem::zeroed(),
            body,
        };
        actor::fill(&raw mut event.prefix, kind, decision, length as u32);
        emit::fact(slot, (&raw mut event).cast(), length as u64);
    }
}
