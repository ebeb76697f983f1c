//! Decisions on a file that the kernel has resolved.

use core::ffi::c_void;

use aya_ebpf::helpers::{
    bpf_probe_read_kernel,
    generated::{bpf_d_path, bpf_map_lookup_elem},
};
use skillsandbox_common::{
    PATH_MAX,
    event::{PathBody, PathSource},
    header::{EventPrefix, Kind, Reason, Verdict},
    rule::{Access, Decision, FileRule, PATH_KEY_LEN},
    slot::{FLAG_AGGREGATE, FLAG_AUDIT},
};

use crate::{
    actor, emit, home,
    maps::{FILE_RULES, pointer},
    names, offsets,
    scratch::{self, PathEvent, Scratch},
    slot,
};

/// Bytes of an event before its path.
const FIXED: u64 = (size_of::<EventPrefix>() + size_of::<PathBody>()) as u64;

/// `O_TRUNC`, `O_TMPFILE`'s own bit and the kernel's mark of an open for `execve`
/// (`include/uapi/asm-generic/fcntl.h`, `__FMODE_EXEC` in `include/linux/fs.h`).
const O_ACCMODE: u32 = 3;
const O_RDONLY: u32 = 0;
const O_WRONLY: u32 = 1;
const O_TRUNC: u32 = 0o1000;
const O_TMPFILE: u32 = 0o2000_0000;
const FMODE_EXEC: u32 = 0x20;

const ENAMETOOLONG: i64 = 36;
const EINVAL: i64 = 22;

/// A kernel `struct file`, by address.
pub type File = *const u8;

/// A kernel `struct path`, by address.
pub type Path = *const u8;

/// Decides on opening or executing `file`, records it, and answers the verdict.
///
/// # Safety
/// `file` must be a `struct file` that the verifier trusts: an argument of the hook, or a
/// member of one.
#[inline(always)]
pub unsafe fn decide(kind: Kind, file: File) -> Verdict {
    let slot = slot::attached();
    // SAFETY: the caller vouches for `file`.
    unsafe {
        if slot::flags(slot) != slot::NO_POLICY
            && matches!(kind, Kind::Open)
            && is_layer_of_another(file)
        {
            return Verdict::Allow;
        }
        let flags = file
            .add(offsets::file_f_flags())
            .cast::<u32>()
            .read_volatile();
        let access = match kind {
            Kind::Exec => Access::EXEC,
            Kind::Map => Access::MAP,
            _ => access_of(flags),
        };
        decide_at(slot, kind, file.add(offsets::file_f_path()), access, flags)
    }
}

/// Decides on `access` to the file at `path` in this slot, records it, and answers the verdict.
/// `open_flags` are those that the file is opened with.
///
/// # Safety
/// `path` must be a `struct path` that the verifier trusts, with a file in it.
#[inline(always)]
pub unsafe fn decide_at(
    slot: u32,
    kind: Kind,
    path: Path,
    access: u16,
    open_flags: u32,
) -> Verdict {
    let slot_flags = slot::flags(slot);
    let Some(scratch) = scratch::current() else {
        return without_scratch(kind, slot);
    };
    // SAFETY: the verifier holds the caller to `path`'s type; offsets are those of this kernel.
    unsafe {
        let length = resolve(scratch, path, PATH_MAX as u32);
        let (decision, path_bytes) = if length <= 0 || length > PATH_MAX as i64 {
            (unnamed(length), 0)
        } else if slot_flags != slot::NO_POLICY {
            let decision = if home::is_at(slot) {
                named(
                    scratch,
                    slot,
                    slot_flags,
                    path,
                    open_flags,
                    access,
                    length as u64,
                )
            } else {
                Decision::deny(Reason::ForeignNamespace, 0)
            };
            let goes_on =
                matches!(decision.verdict, Verdict::Allow) || emit::audits_only(slot_flags);
            (*scratch).interpreter_next = u32::from(matches!(kind, Kind::Exec) && goes_on);
            (decision, length as u64 - 1)
        } else {
            (Decision::deny(Reason::NoPolicy, 0), length as u64 - 1)
        };
        // The open of an `execve` that ends here is the attempt to execute.
        let denied = matches!(decision.verdict, Verdict::Deny) && !emit::audits_only(slot_flags);
        let kind = if denied && matches!(kind, Kind::Open) && open_flags & FMODE_EXEC != 0 {
            Kind::Exec
        } else {
            kind
        };
        let open_flags = if matches!(kind, Kind::Map) {
            0
        } else {
            open_flags
        };
        let verdict = record(
            scratch, slot, slot_flags, kind, access, open_flags, decision, path_bytes,
        );
        scratch::release(scratch);
        verdict
    }
}

/// Writes the path into the event in the making. Answers its length with the NUL, or an error.
///
/// # Safety
/// `path` as for [`decide_at`]; `size` at most `PATH_MAX`.
#[inline(always)]
pub unsafe fn resolve(scratch: *mut Scratch, path: Path, size: u32) -> i64 {
    // SAFETY: the buffer is the scratch memory's, and no smaller than `size`.
    unsafe {
        bpf_d_path(
            path.cast_mut().cast(),
            (&raw mut (*scratch).event.path).cast(),
            size,
        )
    }
}

/// The decision where [`resolve`] answered this.
#[inline(always)]
pub fn unnamed(length: i64) -> Decision {
    if length == -ENAMETOOLONG {
        Decision::deny(Reason::PathTooLong, 0)
    } else {
        Decision::deny(Reason::PathUnreadable, 0)
    }
}

/// Records a decision on the path in the scratch memory, and answers the verdict that stands.
///
/// # Safety
/// `path_bytes` of the path must be initialised.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the parts of one event")]
pub unsafe fn record(
    scratch: *mut Scratch,
    slot: u32,
    slot_flags: u32,
    kind: Kind,
    access: u16,
    open_flags: u32,
    decision: Decision,
    path_bytes: u64,
) -> Verdict {
    // SAFETY: `scratch` is memory of this task.
    unsafe {
        let event = &raw mut (*scratch).event;
        (*event).body = PathBody {
            access,
            source: PathSource::Resolved as u16,
            open_flags,
            directory: 0,
            result: 0,
        };
        let total = FIXED + (path_bytes & (PATH_MAX as u64 - 1));
        let prefix = &raw mut (*event).prefix;
        actor::fill(prefix, kind, decision, total as u32);
        if slot_flags != slot::NO_POLICY
            && slot_flags & (FLAG_AGGREGATE | FLAG_AUDIT) == FLAG_AGGREGATE
            && emit::fold(slot, scratch)
        {
            return if (*prefix).header.verdict == Verdict::Allow as u8 {
                Verdict::Allow
            } else {
                Verdict::Deny
            };
        }
        emit::access(slot, slot_flags, prefix, total)
    }
}

/// Whether a file system opens this file for itself: overlayfs opens the file of the layer below
/// once the access to its own file has been decided on. Such files lie on a private mount that no
/// path of any task leads to (`clone_private_mount`, `fs/namespace.c`; `MNT_NS_INTERNAL`,
/// `fs/mount.h`). Pipes and memory files lie on one too, and are told apart by their dentry: it
/// is in no folder. Before Linux 6.5 such a file has the path of overlayfs's own, and a mark
/// (`open_with_fake_path`, `fs/open.c`).
///
/// # Safety
/// As for [`decide`].
#[inline(always)]
unsafe fn is_layer_of_another(file: File) -> bool {
    const MNT_NS_INTERNAL: u64 = (-EINVAL) as u64;
    // SAFETY: `f_path` and its members are always set; `struct mount` is read by a helper.
    unsafe {
        let mode = file
            .add(offsets::file_f_mode())
            .cast::<u32>()
            .read_volatile();
        if mode & offsets::layer_mode() as u32 != 0 {
            return true;
        }
        let path = file.add(offsets::file_f_path());
        let mnt = path.add(offsets::path_mnt()).cast::<u64>().read_volatile();
        let mount = mnt.wrapping_sub(offsets::mount_mnt() as u64);
        let namespace = mount.wrapping_add(offsets::mount_mnt_ns() as u64) as *const u64;
        let dentry = path
            .add(offsets::path_dentry())
            .cast::<*const u8>()
            .read_volatile();
        let hashed = dentry
            .add(offsets::dentry_d_hash_pprev())
            .cast::<u64>()
            .read_volatile()
            != 0;
        hashed && bpf_probe_read_kernel(namespace) == Ok(MNT_NS_INTERNAL)
    }
}

/// Without memory for a path: a denial that names none.
#[inline(always)]
pub fn without_scratch(kind: Kind, slot: u32) -> Verdict {
    let length = FIXED as u32;
    // SAFETY: the event lies on this program's stack; all bytes zero is a valid one.
    unsafe {
        let mut event: (EventPrefix, PathBody) = core::mem::zeroed();
        actor::fill(
            &raw mut event.0,
            kind,
            Decision::deny(Reason::NoScratch, 0),
            length,
        );
        emit::access(slot, slot::flags(slot), (&raw mut event).cast(), FIXED)
    }
}

/// The access that an open with these `f_flags` is.
#[inline(always)]
fn access_of(flags: u32) -> u16 {
    if flags & FMODE_EXEC != 0 {
        return Access::EXEC;
    }
    let mode = match flags & O_ACCMODE {
        O_RDONLY => Access::READ,
        O_WRONLY => Access::WRITE,
        // `O_RDWR`, and 3, which only drivers give a meaning to.
        _ => Access::READ | Access::WRITE,
    };
    if flags & O_TRUNC != 0 {
        mode | Access::WRITE
    } else {
        mode
    }
}

/// The decision on a file whose path is in the scratch memory. `length` counts its NUL.
#[inline(always)]
unsafe fn named(
    scratch: *mut Scratch,
    slot: u32,
    slot_flags: u32,
    path: *const u8,
    open_flags: u32,
    access: u16,
    length: u64,
) -> Decision {
    // SAFETY: `path` is the `struct path` inside a trusted `struct file`; its dentry is never
    // NULL and the verifier follows the members by their BTF types.
    unsafe {
        let dentry = path
            .add(offsets::path_dentry())
            .cast::<*const u8>()
            .read_volatile();
        // `d_unlinked()`, `include/linux/dcache.h`. A deleted file keeps a name that may be
        // another's by now. The fresh nameless file of `O_TMPFILE` is its folder's.
        let hashed = dentry
            .add(offsets::dentry_d_hash_pprev())
            .cast::<u64>()
            .read_volatile()
            != 0;
        let parent = dentry
            .add(offsets::dentry_d_parent())
            .cast::<*const u8>()
            .read_volatile();
        let absolute = (*scratch).event.path[0] == b'/';
        if !hashed && parent != dentry && open_flags & O_TMPFILE == 0 {
            return Decision::deny(Reason::PathDeleted, 0);
        }
        let found = look_up(&raw mut (*scratch).event, slot, length);
        let names = names::on(scratch, slot, slot_flags, found, access, length);
        if names::denied(names) != 0 {
            return Decision::deny(Reason::DenyRule, names::denied(names));
        }
        match found {
            Some(rule) => {
                let decision = rule.decide(access);
                if names != 0 && matches!(decision.verdict, Verdict::Allow) {
                    return Decision::deny(Reason::Persistence, names::persistent(names));
                }
                if open_flags & FMODE_EXEC != 0
                    && (*scratch).interpreter_next != 0
                    && matches!(decision.verdict, Verdict::Deny)
                {
                    // The interpreter of a program that was allowed: reading it is enough. If it
                    // is a script's, whether it may run is decided next.
                    return rule.decide(Access::READ);
                }
                decision
            }
            None if absolute => Decision::deny(Reason::NoRule, 0),
            None => Decision::deny(Reason::NoPath, 0),
        }
    }
}

/// The longest path rule that covers the path of `event`.
///
/// The key is a prefix length, in bits, followed by the bytes: the last member of `PathBody`
/// stands just before the path and holds the length for the time of the lookup.
#[inline(always)]
pub unsafe fn look_up<'a>(event: *mut PathEvent, slot: u32, length: u64) -> Option<&'a FileRule> {
    const _: () = assert!(core::mem::offset_of!(PathEvent, path) == FIXED as usize);
    const _: () = assert!(core::mem::offset_of!(PathBody, result) == size_of::<PathBody>() - 4);
    let rules: *mut c_void = FILE_RULES.get(slot).map(pointer)?;
    let compared = if length > PATH_KEY_LEN as u64 {
        PATH_KEY_LEN as u64
    } else {
        length
    };
    // SAFETY: `event` is scratch memory of this task; the key's 260 bytes lie inside it.
    unsafe {
        let key = &raw mut (*event).body.result;
        key.cast::<u32>().write_volatile(compared as u32 * 8);
        bpf_map_lookup_elem(rules, key.cast())
            .cast::<FileRule>()
            .as_ref()
    }
}
