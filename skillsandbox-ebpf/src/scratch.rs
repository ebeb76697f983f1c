//! Memory for one decision, too large for the 512 bytes of a program's stack.
//!
//! One per task, not per CPU: programs behind `lsm_cgroup` run with migration off but preemption
//! on, so another task of the same CPU would overwrite a per-CPU buffer half-way.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::BPF_LOCAL_STORAGE_GET_F_CREATE,
    helpers::generated::{bpf_get_current_task_btf, bpf_task_storage_get},
};
use skillsandbox_common::{
    PATH_MAX, event::PathBody, header::EventPrefix, rule::PATH_KEY_LEN, slot::FOLD_KEY_LEN,
};

use crate::maps::{SCRATCH, SPARE};

/// An event about a path in the making.
#[repr(C)]
pub struct Scratch {
    /// The event, emitted from here to the end of the path.
    pub event: PathEvent,
    /// Where a key that starts inside the path may end: see `names::find`.
    margin: [u8; PATH_KEY_LEN],
    /// What the names in the path say: see `names::find`.
    pub found: u64,
    /// Not zero while an `execve` that was allowed may open an interpreter: the next file that
    /// the kernel opens for execution is the loader (`PT_INTERP`) or the interpreter of a script,
    /// not a program that the task asked for.
    pub interpreter_next: u32,
    /// What accesses are counted by: see `emit::fold`.
    pub key: [u64; FOLD_KEY_LEN / 8],
    /// How many tasks claim this memory. Always zero in the task's own.
    claims: u64,
}

/// The bytes of an `open` or `exec` event.
#[repr(C)]
pub struct PathEvent {
    /// Header and actor.
    pub prefix: EventPrefix,
    /// Body. Its last four bytes serve as the prefix length of the key that the path is looked
    /// up with, so that the path need not be copied: see `path::look_up`.
    pub body: PathBody,
    /// The path, with its NUL.
    pub path: [u8; PATH_MAX],
}

/// Memory for tasks that cannot get at their own, all tasks of the host together.
pub const SPARES: usize = 64;

/// The current task's scratch memory; give it back with [`release`].
///
/// On Linux 6.1 the helper answers NULL while a task that this CPU preempted is inside it
/// (`bpf_task_storage_trylock`, `kernel/bpf/bpf_task_storage.c`; without the lock for LSM programs
/// since 6.2). To ask again is no use before that task runs again, so there are spares. `None` is
/// a denial.
#[inline(always)]
pub fn current() -> Option<*mut Scratch> {
    // SAFETY: the helper takes the map, the current task, no initial value, and a flag.
    let own = unsafe {
        bpf_task_storage_get(
            SCRATCH.as_ptr(),
            bpf_get_current_task_btf(),
            core::ptr::null_mut(),
            u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE),
        )
    }
    .cast::<Scratch>();
    if own.is_null() { spare() } else { Some(own) }
}

/// Claims a spare. What an earlier `execve` left in the task's own memory is not in it, so an
/// interpreter that may be read but not executed is denied: the strict side.
#[inline(always)]
fn spare() -> Option<*mut Scratch> {
    for index in 0..SPARES as u32 {
        let scratch = SPARE.get_ptr_mut(index)?;
        // SAFETY: `scratch` is a map value; only whoever claims it first writes more than claims.
        unsafe {
            let claims = &raw mut (*scratch).claims;
            if atomic_xadd::<u64, u64, { AtomicOrdering::AcqRel }>(claims, 1) == 0 {
                (*scratch).interpreter_next = 0;
                return Some(scratch);
            }
            atomic_xadd::<u64, u64, { AtomicOrdering::AcqRel }>(claims, u64::MAX);
        }
    }
    None
}

/// Gives memory from [`current`] back.
///
/// # Safety
/// It must not be used after this.
#[inline(always)]
pub unsafe fn release(scratch: *mut Scratch) {
    // SAFETY: `scratch` is a map value; its claims are zero unless `spare` has claimed it.
    unsafe {
        let claims = &raw mut (*scratch).claims;
        if claims.read_volatile() != 0 {
            atomic_xadd::<u64, u64, { AtomicOrdering::AcqRel }>(claims, u64::MAX);
        }
    }
}
