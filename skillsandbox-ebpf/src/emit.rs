//! Puts an event on a ring of its sandbox, and keeps the accounts.

use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering, atomic_xadd},
};

use aya_ebpf::{
    bindings::{
        BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_PROD_POS,
        BPF_RB_RING_SIZE, BPF_RINGBUF_HDR_SZ,
    },
    helpers::generated::{
        bpf_get_smp_processor_id, bpf_map_lookup_elem, bpf_map_update_elem, bpf_probe_read_kernel,
        bpf_ringbuf_output, bpf_ringbuf_query,
    },
};
use skillsandbox_common::{
    header::{EventPrefix, Kind, Reason, Verdict},
    slot::{FLAG_AUDIT, FLAG_OVERFLOW_DENY, FOLD_KEY_LEN, RINGS_MAX, SlotCounters},
};

use crate::{
    maps::{COUNTERS, DENIALS, EVENTS, FOLDS, pointer},
    scratch::Scratch,
    slot,
};

/// The fill of a ring is looked at whenever what was ever put on it passes a multiple of so much of its room. A wake-up is
/// an interrupt that the processor sends itself, which in a virtual machine costs as much as several
/// events, so they must be rare even while the reader is behind. Two processors that put something on one ring at one time may
/// both miss a multiple: from half full on there are eight.
const LOOKS: u64 = 16;

#[inline(always)]
fn add(counter: *mut u64) -> u64 {
    // SAFETY: `counter` points into a map value, which stays valid while the program runs, and
    // every access of the programs to it is atomic.
    // The target claims no atomics, so `AtomicU64` has no `fetch_add`; the instruction exists
    // since Linux 5.12 (`BPF_ATOMIC | BPF_ADD | BPF_FETCH`). Not `Relaxed`: LLVM makes that the
    // older instruction, which does not fetch, and every caller would read 1.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::AcqRel }>(counter, 1) + 1 }
}

/// Records an access and answers the verdict that stands: an allowance that cannot be recorded
/// becomes a denial where `flags` has `FLAG_OVERFLOW_DENY`.
///
/// # Safety
/// `event` must point to `length` initialised bytes that begin with a filled `EventPrefix`.
#[inline(always)]
pub unsafe fn access(slot: u32, flags: u32, event: *mut EventPrefix, length: u64) -> Verdict {
    let Some(counters) = COUNTERS.get_ptr_mut(slot) else {
        return Verdict::Deny;
    };
    // SAFETY: the caller vouches for `event`; `counters` is a map value.
    unsafe {
        (*event).actor.sequence = add(&raw mut (*counters).records);
        if (*event).header.verdict == Verdict::Allow as u8 {
            if put_event(slot, event, length) {
                return Verdict::Allow;
            }
            if flags & FLAG_OVERFLOW_DENY == 0 {
                add(&raw mut (*counters).dropped_allowed);
                return Verdict::Allow;
            }
            (*event).header.verdict = Verdict::Deny as u8;
            (*event).header.reason = Reason::Overflow as u8;
        }
        if audits_only(flags) {
            (*event).header.verdict = Verdict::WouldDeny as u8;
            add(&raw mut (*counters).would_deny);
            put_denial(slot, counters, event, length);
            return Verdict::Allow;
        }
        add(&raw mut (*counters).denied);
        put_denial(slot, counters, event, length);
    }
    Verdict::Deny
}

/// Whether nothing is denied where the slot has these flags.
#[inline(always)]
pub fn audits_only(flags: u32) -> bool {
    flags != slot::NO_POLICY && flags & FLAG_AUDIT != 0
}

/// Counts the access in the scratch memory with an earlier one that differs in nothing but its time, if there was
/// one: then it needs no record. One that is longer than [`FOLD_KEY_LEN`] bytes, or for which there is no more room, has its own.
///
/// # Safety
/// The event of `scratch` must have as many initialised bytes as its header says.
#[inline(always)]
pub unsafe fn fold(slot: u32, scratch: *mut Scratch) -> bool {
    let (Some(folds), Some(counters)) = (FOLDS.get(slot).map(pointer), COUNTERS.get_ptr_mut(slot))
    else {
        return false;
    };
    // SAFETY: `scratch` is memory of this task, `counters` a map value; the helpers take the inner map and its key.
    unsafe {
        let event = &raw mut (*scratch).event.prefix;
        // What a process does after an execution is another program's.
        if (*event).header.kind == Kind::Exec as u8 {
            return false;
        }
        let key = &raw mut (*scratch).key;
        // Word by word: what LLVM makes of it otherwise goes byte by byte.
        for word in 0..FOLD_KEY_LEN / 8 {
            key.cast::<u64>().add(word).write_volatile(0);
        }
        // Read again, so that it is this very number that the verifier sees compared.
        let length = (&raw const (*event).header.length).read_volatile();
        if length > FOLD_KEY_LEN as u32
            || bpf_probe_read_kernel(key.cast(), length, event.cast()) != 0
        {
            return false;
        }
        let like = key.cast::<EventPrefix>();
        (*like).header.time_ns = 0;
        (*like).actor.sequence = 0;
        let found = bpf_map_lookup_elem(folds, key.cast()).cast::<u64>();
        if found.is_null() {
            let none = 0_u64;
            // Where there is no room for it, the next one has a record, too.
            bpf_map_update_elem(
                folds,
                key.cast(),
                (&raw const none).cast(),
                u64::from(BPF_NOEXIST),
            );
            return false;
        }
        // The key has this thread's number: nobody else counts here.
        add(found);
        add(&raw mut (*counters).folded);
    }
    true
}

/// Records a fork, an exec or an exit: nothing is decided on it.
///
/// # Safety
/// As for [`access`].
#[inline(always)]
pub unsafe fn fact(slot: u32, event: *mut EventPrefix, length: u64) {
    let Some(counters) = COUNTERS.get_ptr_mut(slot) else {
        return;
    };
    // SAFETY: as in `access`.
    unsafe {
        (*event).actor.sequence = add(&raw mut (*counters).records);
        add(&raw mut (*counters).processes);
        if !put_event(slot, event, length) {
            add(&raw mut (*counters).dropped_processes);
        }
    }
}

/// Counts an access that was seen and for whose record there was no memory.
#[inline(always)]
pub fn missed(slot: u32) {
    if let Some(counters) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: `counters` is a map value.
        unsafe {
            add(&raw mut (*counters).records);
            add(&raw mut (*counters).dropped_allowed);
        }
    }
}

/// Counts a packet that does not pass.
#[inline(always)]
pub fn refused_packet(slot: u32) {
    if let Some(counters) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: `counters` is a map value.
        unsafe {
            add(&raw mut (*counters).refused_packets);
        }
    }
}

/// Puts an event on this processor's ring of allowed accesses: two that use one ring wait for each other. The reader looks
/// at its rings on a timer; it is woken only when this one is half full, because a wake-up costs more than the event.
#[inline(always)]
unsafe fn put_event(slot: u32, event: *mut EventPrefix, length: u64) -> bool {
    // SAFETY: the helper takes nothing. No program moves to another processor, and it would be no harm.
    let processor = unsafe { bpf_get_smp_processor_id() };
    let index = slot * RINGS_MAX + processor % RINGS_MAX;
    let Some(ring) = EVENTS.get(index).map(pointer) else {
        return false;
    };
    // SAFETY: `ring` is a ring buffer.
    let (put, size) = unsafe {
        (
            bpf_ringbuf_query(ring, u64::from(BPF_RB_PROD_POS)),
            bpf_ringbuf_query(ring, u64::from(BPF_RB_RING_SIZE)),
        )
    };
    let mut wake = u64::from(BPF_RB_NO_WAKEUP);
    let end = (put + u64::from(BPF_RINGBUF_HDR_SZ) + length).next_multiple_of(8);
    // A bit changes that is not below those of a multiple.
    if (put ^ end) >= size / LOOKS && is_half_full(ring, size) {
        wake = u64::from(BPF_RB_FORCE_WAKEUP);
    }
    // SAFETY: the caller vouches for `length` bytes at `event`.
    unsafe { output(ring, event, length, wake) }
}

#[inline(always)]
fn is_half_full(ring: *mut c_void, size: u64) -> bool {
    // SAFETY: `ring` is a ring buffer.
    unsafe { bpf_ringbuf_query(ring, u64::from(BPF_RB_AVAIL_DATA)) > size / 2 }
}

/// Puts an event on the ring of denials, whose reader sleeps only while it is empty: the kernel wakes it for the first one that
/// comes then, and for more only whoever holds the skill back when the ring fills.
#[inline(always)]
unsafe fn put_denial(slot: u32, counters: *mut SlotCounters, event: *mut EventPrefix, length: u64) {
    // SAFETY: `counters` is a map value; the caller vouches for `event`.
    unsafe {
        let kept = match DENIALS.get(slot).map(pointer) {
            Some(ring) => {
                let size = bpf_ringbuf_query(ring, u64::from(BPF_RB_RING_SIZE));
                let wake = match is_half_full(ring, size) {
                    true => u64::from(BPF_RB_FORCE_WAKEUP),
                    false => 0,
                };
                output(ring, event, length, wake)
            }
            None => false,
        };
        if !kept {
            add(&raw mut (*counters).dropped_denied);
        }
    }
}

#[inline(always)]
unsafe fn output(ring: *mut c_void, event: *mut EventPrefix, length: u64, flags: u64) -> bool {
    // SAFETY: the caller vouches for `length` bytes at `event`; the helper copies them.
    unsafe { bpf_ringbuf_output(ring, event.cast(), length, flags) == 0 }
}
