//! `open` and `exec` as tracepoints see them, where the kernel has no BPF LSM to decide on them.
//!
//! Audit only. The path is as the program passed it, read when the call ends: by then it is in
//! memory, and the result is known. A call that an `execve` replaced is seen by its own
//! tracepoint, because the arguments are gone with the old program.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{
        bpf_probe_read_kernel,
        generated::{
            bpf_get_current_task_btf, bpf_probe_read_kernel_str, bpf_probe_read_user,
            bpf_probe_read_user_str, bpf_task_pt_regs,
        },
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use skillsandbox_common::{
    PATH_MAX,
    event::{PathBody, PathSource},
    header::{EventPrefix, Kind, Reason},
    rule::{Access, Decision},
    slot::{FLAG_AGGREGATE, FLAG_TRACE_CALLS, FLAG_TRACE_REFUSED},
};

use crate::{
    actor, emit, offsets,
    scratch::{self, Scratch},
    slot,
};

const FIXED: u64 = (size_of::<EventPrefix>() + size_of::<PathBody>()) as u64;
const AT_FDCWD: i32 = -100;
const EPERM: i64 = 1;
const O_CREAT_WRONLY_TRUNC: u32 = 0o1101;

/// Numbers of the calls, `arch/x86/entry/syscalls/syscall_64.tbl`.
const OPEN: u64 = 2;
const EXECVE: u64 = 59;
const CREAT: u64 = 85;
const OPENAT: u64 = 257;
const EXECVEAT: u64 = 322;
const OPENAT2: u64 = 437;

/// `sys_exit(struct pt_regs *regs, long ret)`, `include/trace/events/syscalls.h`.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn trace_call(ctx: RawTracePointContext) -> i32 {
    // The tracepoint's own pointer to the registers has no type for the verifier: reading through
    // it takes a helper, on every system call of the host. This is the same pointer with a type.
    // SAFETY: the helpers take the current task; the verifier knows the type of what they answer.
    let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const pt_regs;
    // SAFETY: as the verifier knows the type, a load through a bad pointer would read 0.
    let number = unsafe { (&raw const (*regs).orig_rax).read_volatile() };
    if !matches!(number, OPEN | CREAT | OPENAT | OPENAT2 | EXECVE | EXECVEAT) {
        return 0;
    }
    let result: i64 = ctx.arg(1);
    if matches!(number, EXECVE | EXECVEAT) && result == 0 {
        return 0;
    }
    let mut wanted = FLAG_TRACE_CALLS;
    // What an eBPF program refused has its event already.
    if result < 0 && result != -EPERM {
        wanted |= FLAG_TRACE_REFUSED;
    }
    let Some((slot, scratch)) = traced(wanted) else {
        return 0;
    };
    // SAFETY: loads through a pointer that the verifier knows; reads of the task's memory go
    // through helpers that check their address.
    unsafe {
        let first = (&raw const (*regs).rdi).read_volatile();
        let second = (&raw const (*regs).rsi).read_volatile();
        let third = (&raw const (*regs).rdx).read_volatile();
        let (kind, directory, path, flags) = match number {
            OPEN => (Kind::Open, AT_FDCWD, first, second as u32),
            CREAT => (Kind::Open, AT_FDCWD, first, O_CREAT_WRONLY_TRUNC),
            OPENAT => (Kind::Open, first as i32, second, third as u32),
            OPENAT2 => (Kind::Open, first as i32, second, open_how_flags(third)),
            EXECVE => (Kind::Exec, AT_FDCWD, first, 0),
            _ => (Kind::Exec, first as i32, second, 0),
        };
        let buffer = (&raw mut (*scratch).event.path).cast();
        let length = bpf_probe_read_user_str(buffer, PATH_MAX as u32, path as *const _);
        record(scratch, slot, kind, directory, flags, result as i32, length);
    }
    0
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`: an
/// `execve` that worked.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn trace_exec(ctx: RawTracePointContext) -> i32 {
    let Some((slot, scratch)) = traced(FLAG_TRACE_CALLS) else {
        return 0;
    };
    let binprm: *const u8 = ctx.arg(2);
    // SAFETY: reads go through helpers that check their address.
    unsafe {
        let Ok(name) =
            bpf_probe_read_kernel(binprm.add(offsets::binprm_filename()).cast::<*const u8>())
        else {
            scratch::release(scratch);
            return 0;
        };
        let buffer = (&raw mut (*scratch).event.path).cast();
        let length = bpf_probe_read_kernel_str(buffer, PATH_MAX as u32, name.cast());
        record(scratch, slot, Kind::Exec, AT_FDCWD, 0, 0, length);
    }
    0
}

/// The slot of the current task and its memory, if it has one of the flags `wanted`.
#[inline(always)]
fn traced(wanted: u32) -> Option<(u32, *mut Scratch)> {
    let slot = slot::of_current_task()?;
    let flags = slot::flags(slot);
    if flags == slot::NO_POLICY || flags & wanted == 0 {
        return None;
    }
    let scratch = scratch::current();
    if scratch.is_none() {
        emit::missed(slot);
    }
    Some((slot, scratch?))
}

/// First member of `struct open_how`, `include/uapi/linux/openat2.h`.
#[inline(always)]
fn open_how_flags(address: u64) -> u32 {
    let mut flags = 0_u64;
    // SAFETY: the helper copies 8 bytes to this program's stack, or fails.
    unsafe {
        bpf_probe_read_user((&raw mut flags).cast(), 8, address as *const _);
    }
    flags as u32
}

/// Records a call whose path is in the scratch memory; `length` counts its NUL, or is an error.
#[inline(always)]
unsafe fn record(
    scratch: *mut Scratch,
    slot: u32,
    kind: Kind,
    directory: i32,
    flags: u32,
    result: i32,
    length: i64,
) {
    let access = match (kind, flags & 3) {
        (Kind::Exec, _) => Access::EXEC,
        (_, 0) => Access::READ,
        (_, 1) => Access::WRITE,
        _ => Access::READ | Access::WRITE,
    };
    let path_bytes = if length > 0 {
        (length as u64 - 1) & (PATH_MAX as u64 - 1)
    } else {
        0
    };
    // SAFETY: `scratch` is memory of this task; `FIXED + path_bytes` of it are initialised.
    unsafe {
        let event = &raw mut (*scratch).event;
        (*event).body = PathBody {
            access,
            source: PathSource::Passed as u16,
            open_flags: flags,
            directory,
            result: if result < 0 { result } else { 0 },
        };
        let total = FIXED + path_bytes;
        let decision = Decision {
            reason: Reason::Observed,
            ..Decision::allow(0)
        };
        let prefix = &raw mut (*event).prefix;
        actor::fill(prefix, kind, decision, total as u32);
        let flags = slot::flags(slot);
        if flags == slot::NO_POLICY || flags & FLAG_AGGREGATE == 0 || !emit::fold(slot, scratch) {
            emit::access(slot, 0, prefix, total);
        }
        scratch::release(scratch);
    }
}
