//! Memory for one decision, too large for the 512 bytes of a program's stack.
//!
//! One per task, not per CPU: programs behind `lsm_cgroup` run with migration off but preemption
//! on, so another task of the same CPU would overwrite a per-CPU buffer half-way.

use aya_ebpf::{
    bindings::BPF_LOCAL_STORAGE_GET_F_CREATE,
    helpers::generated::{bpf_get_current_task_btf, bpf_task_storage_get},
};
use skillsandbox_common::{PATH_MAX, event::PathBody, header::EventPrefix};

use crate::maps::{NameKey, SCRATCH};

/// An event about a path in the making, and the key of a name rule.
#[repr(C)]
pub struct Scratch {
    /// The event, emitted from here to the end of the path.
    pub event: PathEvent,
    /// Key for `NAME_RULES`.
    pub name: NameKey,
    /// Not zero while an `execve` that was allowed may open an interpreter: the next file that
    /// the kernel opens for execution is the loader (`PT_INTERP`) or the interpreter of a script,
    /// not a program that the task asked for.
    pub interpreter_next: u32,
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

/// Tries before the memory is given up.
const ATTEMPTS: usize = 8;

/// The current task's scratch memory.
///
/// On Linux 6.1 the helper answers NULL when a task that this CPU preempted is inside it
/// (`bpf_task_storage_trylock`), so it is asked again. `None` is a denial.
#[inline(always)]
pub fn current() -> Option<*mut Scratch> {
    for _ in 0..ATTEMPTS {
        // SAFETY: the helper takes the map, the current task, no initial value, and a flag.
        let scratch = unsafe {
            bpf_task_storage_get(
                SCRATCH.as_ptr(),
                bpf_get_current_task_btf(),
                core::ptr::null_mut(),
                u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE),
            )
        }
        .cast::<Scratch>();
        if !scratch.is_null() {
            return Some(scratch);
        }
    }
    None
}
