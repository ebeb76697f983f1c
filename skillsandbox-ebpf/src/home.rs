//! Where a path means what the rules say: a mount namespace, under one root.
//!
//! A task that can make a namespace can mount a denied folder over an allowed one, and
//! `bpf_d_path` spells the allowed name. So a sandbox has a home, that of the first access in it:
//! its own start, by us; or, where others run in the cgroup already, that of whoever [`take`]s it for
//! them. A task elsewhere is denied.

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use aya_ebpf::helpers::{bpf_probe_read_kernel, generated::bpf_get_current_task_btf};

use crate::{maps::HOMES, offsets};

/// Whether the current task is at home in this slot.
#[inline(always)]
pub fn is_at(slot: u32) -> bool {
    let here = of_current_task();
    // Nowhere, or not known: no home for anybody.
    if here >> 32 == 0 || here & 0xffff_ffff == 0 {
        return false;
    }
    let Some(home) = HOMES.get_ptr_mut(slot) else {
        return false;
    };
    // SAFETY: `home` is a map value, which every program accesses atomically.
    unsafe {
        let known = home.read_volatile();
        if known != 0 {
            return known == here;
        }
        let (known, is_first) =
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                home, 0, here,
            );
        is_first || known == here
    }
}

/// Makes the current task's home that of this slot, whatever it was; answers whether it has one.
#[inline(always)]
pub fn take(slot: u32) -> bool {
    let here = of_current_task();
    match HOMES.get_ptr_mut(slot) {
        Some(home) if here >> 32 != 0 && here & 0xffff_ffff != 0 => {
            // SAFETY: `home` is a map value; nobody decides by it yet.
            unsafe { home.write_volatile(here) };
            true
        }
        _ => false,
    }
}

/// Number of the task's mount namespace, and bits 6 to 37 of the address of its root's dentry: a
/// dentry is at least 64 bytes long, and these bits tell those of 256 GiB of memory apart. A half
/// that cannot be read is 0.
#[inline(always)]
fn of_current_task() -> u64 {
    // SAFETY: the verifier knows the types; a load through a bad pointer reads 0.
    unsafe {
        let task = bpf_get_current_task_btf().cast_const().cast::<u8>();
        let pointer =
            |base: *const u8, offset| base.add(offset).cast::<*const u8>().read_volatile();
        let proxy = pointer(task, offsets::task_nsproxy());
        let namespace = pointer(proxy, offsets::nsproxy_mnt_ns());
        let number = namespace
            .add(offsets::mnt_namespace_inum())
            .cast::<u32>()
            .read_volatile();
        let files = pointer(task, offsets::task_fs());
        // As a number: the verifier lets nobody calculate with an address that it knows to be one.
        let root = files.add(offsets::fs_root_dentry()).cast::<u64>();
        let root = bpf_probe_read_kernel(root).unwrap_or(0);
        // A task that is ending has no namespace any more.
        u64::from(number) << 32 | (root >> 6) & 0xffff_ffff
    }
}
