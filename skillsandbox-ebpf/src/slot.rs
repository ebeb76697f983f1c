//! Which sandbox a program runs for.

use aya_ebpf::{
    helpers::{
        bpf_probe_read_kernel,
        generated::{
            bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_local_storage,
            bpf_skb_cgroup_id,
        },
    },
    programs::SkBuffContext,
};
use skillsandbox_common::{
    header::{Reason, Verdict},
    rule::{self, Decision, Protocols},
    slot::STATE_ENFORCING,
};

use crate::{
    maps::{CGROUP_SLOT, CONFIG, TRACED},
    offsets,
};

/// Deepest cgroup, below the root, that tracepoints look for a sandbox at.
const CGROUP_DEPTH: i32 = 8;
/// Most cgroups that a task of a sandbox is looked for in, from its own to the sandbox's.
const CGROUP_CLIMB: u32 = 16;

/// The slot of the cgroup that the running program is attached to. Zero, which no sandbox has,
/// until the loader has written it, and for a task that only proves that the program denies.
#[inline(always)]
pub fn attached() -> u32 {
    let slot = stored();
    match CONFIG.get(slot) {
        // SAFETY: the helper takes nothing.
        Some(config) if is_probe(config.probe, || unsafe { bpf_get_current_cgroup_id() }) => 0,
        _ => slot,
    }
}

/// The same for a packet, by the cgroup of its socket.
#[inline(always)]
pub fn attached_to_socket(packet: &SkBuffContext) -> u32 {
    let slot = stored();
    match CONFIG.get(slot) {
        // SAFETY: the helper takes the context of a program on packets.
        Some(config)
            if is_probe(config.probe, || unsafe {
                bpf_skb_cgroup_id(packet.skb.skb)
            }) =>
        {
            0
        }
        _ => slot,
    }
}

#[inline(always)]
fn is_probe(probe: u64, cgroup: impl Fn() -> u64) -> bool {
    probe != 0 && cgroup() == probe
}

#[inline(always)]
fn stored() -> u32 {
    // SAFETY: for a program with a cgroup storage map the helper always answers its value.
    unsafe {
        bpf_get_local_storage(CGROUP_SLOT.as_ptr(), 0)
            .cast::<u32>()
            .read_volatile()
    }
}

/// The slot of the current task, for programs that are attached to no cgroup: that of its
/// nearest ancestor cgroup to the root which is a sandbox.
#[inline(always)]
pub fn of_current_task() -> Option<u32> {
    for level in 1..=CGROUP_DEPTH {
        // SAFETY: the helper takes a number and answers 0 for a level below the task's cgroup.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            return None;
        }
        // SAFETY: the value is a number that userspace writes once before the sandbox starts.
        if let Some(slot) = unsafe { TRACED.get(&id) } {
            return Some(match CONFIG.get(*slot) {
                // SAFETY: the helper takes nothing.
                Some(config)
                    if is_probe(config.probe, || unsafe { bpf_get_current_cgroup_id() }) =>
                {
                    0
                }
                _ => *slot,
            });
        }
    }
    None
}

/// Whether this task is in the sandbox of this slot, in its cgroup or below.
///
/// # Safety
/// `task` must be a `struct task_struct`.
#[inline(always)]
pub unsafe fn holds(slot: u32, task: *const u8) -> bool {
    // SAFETY: the helper checks the addresses; the map's value is written once.
    unsafe {
        let pointer = |base: *const u8, offset: usize| {
            bpf_probe_read_kernel(base.wrapping_add(offset).cast::<*const u8>())
                .unwrap_or(core::ptr::null())
        };
        let set = pointer(task, offsets::task_cgroups());
        let mut cgroup = pointer(set, offsets::css_set_dfl_cgrp());
        for _ in 0..CGROUP_CLIMB {
            let node = pointer(cgroup, offsets::cgroup_kn());
            let id = node.wrapping_add(offsets::kernfs_node_id()).cast::<u64>();
            let Ok(id) = bpf_probe_read_kernel(id) else {
                return false;
            };
            // A sandbox may lie in another.
            if TRACED.get(&id).is_some_and(|found| *found == slot) {
                return true;
            }
            // The parent's `self`, which a cgroup begins with.
            cgroup = pointer(cgroup, offsets::cgroup_self_parent());
        }
    }
    false
}

/// What [`flags`] answers for a slot whose policy is not complete. No combination of flags.
pub const NO_POLICY: u32 = u32::MAX;

/// Port of the name server of the slot, at 127.0.0.1 or at `::1`, or 0.
#[inline(always)]
pub fn name_server(slot: u32, v4: bool) -> u16 {
    match CONFIG.get(slot) {
        Some(config) if config.state == STATE_ENFORCING => {
            if v4 {
                config.name_server[0]
            } else {
                config.name_server[1]
            }
        }
        _ => 0,
    }
}

/// Decides on an address of a socket's own, of one bit of [`Protocols`](skillsandbox_common::rule::Protocols).
#[inline(always)]
pub fn decide_bind(slot: u32, port: u16, protocol: u16) -> Decision {
    match CONFIG.get(slot) {
        Some(config) => rule::decide_bind(&config.listen, port, protocol),
        None => Decision::deny(Reason::NoPolicy, 0),
    }
}

/// Whether others may call this port of the slot's, over TCP.
#[inline(always)]
pub fn listens(slot: u32, port: u16) -> bool {
    match CONFIG.get(slot) {
        Some(config) => {
            let decision = config.listen.decide(port, Protocols::TCP);
            matches!(decision.verdict, Verdict::Allow)
        }
        None => false,
    }
}

/// Decides on connecting to the unix socket of this file.
#[inline(always)]
pub fn decide_unix(slot: u32, device: u32, inode: u64) -> Decision {
    match CONFIG.get(slot) {
        Some(config) => rule::decide_unix(&config.unix, device, inode),
        None => Decision::deny(Reason::NoPolicy, 0),
    }
}

/// The flags of the slot, or [`NO_POLICY`].
///
/// A number and not an `Option`: LLVM spills the bytes of an absent value unwritten, and Linux
/// 6.1 refuses a program that reads them back ("invalid read from stack").
#[inline(always)]
pub fn flags(slot: u32) -> u32 {
    match CONFIG.get(slot) {
        Some(config) if config.state == STATE_ENFORCING => config.flags,
        _ => NO_POLICY,
    }
}
