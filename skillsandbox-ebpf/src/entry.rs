//! Decisions on a name in a folder: one that a file loses, gets, or is made with.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use skillsandbox_common::{
    PATH_MAX,
    header::{Kind, Reason, Verdict},
    rule::{Access, Decision, FileRule},
};

use crate::{
    home, names, offsets,
    path::{self, Path},
    scratch::{self, Scratch},
    slot,
};

/// Room that a name needs after its folder: a slash, `NAME_MAX` bytes, and a NUL.
const NAME_ROOM: usize = 257;
/// Longest path of a folder, its NUL included.
const FOLDER_MAX: usize = PATH_MAX - NAME_ROOM;

/// A kernel `struct dentry`, by address.
pub type Dentry = *const u8;

/// What is done to a name.
#[derive(Clone, Copy)]
pub enum Change {
    /// A symbolic link is made with it.
    Creation,
    /// A folder is made with it: empty, whatever obeys its name. What it comes to hold is decided on.
    Folder,
    /// A file loses it.
    Removal,
    /// A file keeps it and gets another.
    Source,
    /// A file gets it that has, or had, another.
    Arrival,
    /// A file gets it whose other name cannot be told.
    Stranger,
}

/// Decides on one name in this slot, records it, and answers the verdict. `rule` is that on the name that the
/// file of an arrival had, and then that on this one.
///
/// Not part of the change nor of the answer: LLVM leaves the unused bytes of such values unwritten,
/// and the verifier refuses to have them moved ("R1 !read_ok").
///
/// # Safety
/// The verifier must trust `folder`, a `struct path`, and `entry`, a `struct dentry`.
#[inline(always)]
pub unsafe fn decide(
    slot: u32,
    kind: Kind,
    folder: Path,
    entry: Dentry,
    change: Change,
    rule: &mut FileRule,
) -> Verdict {
    let slot_flags = slot::flags(slot);
    let Some(scratch) = scratch::current() else {
        return path::without_scratch(kind, slot);
    };
    // SAFETY: the caller vouches for both; `scratch` is memory of this task.
    unsafe {
        let (decision, path_bytes) = match append(scratch, folder, entry) {
            Err(decision) => (decision, 0),
            Ok(length) if slot_flags == slot::NO_POLICY => {
                (Decision::deny(Reason::NoPolicy, 0), length - 1)
            }
            Ok(length) if !home::is_at(slot) => {
                (Decision::deny(Reason::ForeignNamespace, 0), length - 1)
            }
            Ok(length) if matches!(change, Change::Stranger) => {
                (Decision::deny(Reason::OtherFolder, 0), length - 1)
            }
            Ok(length) => {
                let found = path::look_up(&raw mut (*scratch).event, slot, length);
                let obeyed = if matches!(change, Change::Folder) {
                    None
                } else {
                    found
                };
                let names = names::on(scratch, slot, slot_flags, obeyed, Access::WRITE, length);
                let decision = if names::denied(names) != 0 {
                    Decision::deny(Reason::DenyRule, names::denied(names))
                } else if let Some(found) = found {
                    let decision = match change {
                        Change::Removal => found.decide_removal(),
                        Change::Creation | Change::Folder | Change::Source => {
                            found.decide(Access::WRITE)
                        }
                        Change::Arrival | Change::Stranger => found.decide_arrival(rule),
                    };
                    *rule = *found;
                    if names != 0 && matches!(decision.verdict, Verdict::Allow) {
                        Decision::deny(Reason::Persistence, names::persistent(names))
                    } else {
                        decision
                    }
                } else {
                    Decision::deny(Reason::NoRule, 0)
                };
                (decision, length - 1)
            }
        };
        let verdict = path::record(
            scratch,
            slot,
            slot_flags,
            kind,
            Access::WRITE,
            0,
            decision,
            path_bytes,
        );
        scratch::release(scratch);
        verdict
    }
}

/// Writes the path of a name into the event in the making; answers its length with the NUL.
#[inline(always)]
unsafe fn append(scratch: *mut Scratch, folder: Path, entry: Dentry) -> Result<u64, Decision> {
    // SAFETY: the caller vouches for both; writes stay below `FOLDER_MAX + NAME_ROOM`.
    unsafe {
        let length = path::resolve(scratch, folder, FOLDER_MAX as u32);
        if length <= 0 || length > FOLDER_MAX as i64 {
            return Err(path::unnamed(length));
        }
        let start = (&raw mut (*scratch).event.path).cast::<u8>();
        if start.read_volatile() != b'/' {
            return Err(Decision::deny(Reason::NoPath, 0));
        }
        // The root's path ends with the slash that every other folder lacks. The mask is for the
        // verifier, which must see the bound where it is used.
        let end = core::hint::black_box(length as usize - 1) & (PATH_MAX - 1);
        if end >= FOLDER_MAX {
            return Err(Decision::deny(Reason::PathTooLong, 0));
        }
        start.add(end).write_volatile(b'/');
        let at = if end == 1 { 1 } else { end + 1 };
        let name = entry
            .add(offsets::dentry_d_name_name())
            .cast::<*const u8>()
            .read_volatile();
        let copied =
            bpf_probe_read_kernel_str(start.add(at).cast(), (NAME_ROOM - 1) as u32, name.cast());
        if copied <= 1 {
            return Err(Decision::deny(Reason::PathUnreadable, 0));
        }
        Ok((at as u64).wrapping_add(copied as u64))
    }
}
