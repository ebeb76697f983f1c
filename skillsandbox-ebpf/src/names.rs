//! Rules on names in any folder: the last components of a path, and what lies below them.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_map_lookup_elem};
use skillsandbox_common::{
    PATH_MAX,
    rule::{ANYWHERE, FileRule, PATH_KEY_LEN},
    slot::FLAG_NAMES,
};

use crate::{
    maps::{FILE_RULES, pointer},
    scratch::Scratch,
};

/// A path on the way through [`find`]. What changes on the way is not in here but in the scratch
/// memory: before Linux 6.7 the verifier looks at one round of a loop only, and takes out branches
/// that the values it knows of on the stack do not take in that one.
#[repr(C)]
struct Search {
    scratch: *mut Scratch,
    slot: u64,
    /// Of the path, with its NUL.
    length: u64,
}

/// What the names in the path in the scratch memory say of an `access` that `rule` decides on: 0 for nothing,
/// else a number that [`denied`] and [`persistent`] read.
///
/// Not a structure: LLVM leaves unused bytes of such values unwritten, and the verifier refuses to
/// have them moved ("R1 !read_ok").
///
/// # Safety
/// `scratch` must be this task's, and hold a path of `length` bytes, its NUL included.
#[inline(always)]
pub unsafe fn on(
    scratch: *mut Scratch,
    slot: u32,
    slot_flags: u32,
    rule: Option<&FileRule>,
    access: u16,
    length: u64,
) -> u64 {
    let asks = match rule {
        Some(rule) => rule.asks_names(access),
        None => false,
    };
    if asks || slot_flags & FLAG_NAMES != 0 {
        // SAFETY: as for this function.
        let found = unsafe { find(scratch, slot, length) };
        if asks { found } else { found & 0xffff }
    } else {
        0
    }
}

/// Number of the rule that denies every access, or 0.
#[inline(always)]
pub fn denied(found: u64) -> u16 {
    found as u16
}

/// Number of the rule by which the path takes a grant to persist, or 0.
#[inline(always)]
pub fn persistent(found: u64) -> u16 {
    (found >> 16) as u16
}

/// Looks at every component: the first that a rule denies ends it, and the first that others obey
/// is kept.
#[inline(always)]
unsafe fn find(scratch: *mut Scratch, slot: u32, length: u64) -> u64 {
    let mut search = Search {
        scratch,
        slot: slot.into(),
        length,
    };
    let step: unsafe extern "C" fn(u64, *mut Search) -> i64 = look_at;
    // SAFETY: the helper calls `look_at` with the index and this address (Linux 5.17); the scratch
    // memory is this task's.
    unsafe {
        (*scratch).found = 0;
        let (step, search) = (step as *mut c_void, (&raw mut search).cast());
        if bpf_loop(length as u32, step, search, 0) > 0 {
            (*scratch).found
        } else {
            // A path that cannot be looked through must not escape a rule.
            u64::from(u16::MAX)
        }
    }
}

/// One byte of the path. Where a component starts after it, the rest of the path is looked up where
/// it stands, like a path, with [`ANYWHERE`] in the place of the slash.
unsafe extern "C" fn look_at(index: u64, search: *mut Search) -> i64 {
    // SAFETY: `search` is `find`'s. The key's 260 bytes lie in the scratch memory: before the path
    // stands the event's body, and after it the margin.
    unsafe {
        let place = (index & (PATH_MAX as u64 - 1)) as usize;
        let path = (&raw mut (*(*search).scratch).event.path).cast::<u8>();
        if path.add(place).read_volatile() != b'/' {
            return 0;
        }
        let Some(rules) = FILE_RULES.get((*search).slot as u32) else {
            (*(*search).scratch).found = u64::from(u16::MAX);
            return 1;
        };
        let rest = (*search).length - place as u64;
        let compared = if rest > PATH_KEY_LEN as u64 {
            PATH_KEY_LEN as u64
        } else {
            rest
        };
        let key = path.add(place).sub(size_of::<u32>());
        let covered = key.cast::<u32>().read_unaligned();
        key.cast::<u32>().write_unaligned(compared as u32 * 8);
        path.add(place).write_volatile(ANYWHERE);
        let rule = bpf_map_lookup_elem(pointer(rules), key.cast()).cast::<FileRule>();
        let (deny, persist) = if rule.is_null() {
            (0, 0)
        } else {
            ((*rule).deny, (*rule).persist)
        };
        path.add(place).write_volatile(b'/');
        key.cast::<u32>().write_unaligned(covered);
        if deny != 0 {
            (*(*search).scratch).found = deny.into();
            return 1;
        }
        if (*(*search).scratch).found == 0 {
            (*(*search).scratch).found = u64::from(persist) << 16;
        }
        0
    }
}
