//! Names that files lose and get, and files that are cut, each by its path. Not on Linux 6.1,
//! where these hooks may not call `bpf_d_path` ("helper call is not allowed in probe").

use aya_ebpf::{macros::lsm_cgroup, programs::LsmContext};
use skillsandbox_common::{
    header::{Kind, Verdict},
    rule::{Access, FileRule},
};

use crate::{
    entry::{self, Change, Dentry},
    offsets,
    path::{self, Path},
    slot,
};

/// `RENAME_EXCHANGE`, `include/uapi/linux/fs.h`.
const RENAME_EXCHANGE: u32 = 2;

/// `int security_path_unlink(const struct path *dir, struct dentry *dentry)`,
/// `security/security.c`. Not reached by `rmdir`.
#[lsm_cgroup(hook = "path_unlink")]
pub fn path_unlink(ctx: LsmContext) -> i32 {
    let (folder, name): (Path, Dentry) = (ctx.arg(0), ctx.arg(1));
    // SAFETY: the hook's arguments are what they are taken for.
    let verdict = unsafe {
        entry::decide(
            slot::attached(),
            Kind::Unlink,
            folder,
            name,
            Change::Removal,
            &mut { FileRule::NOTHING },
        )
    };
    super::answer(&ctx, "path_unlink", verdict)
}

/// `int security_path_rename(const struct path *old_dir, struct dentry *old_dentry, const struct
/// path *new_dir, struct dentry *new_dentry, unsigned int flags)`, `security/security.c`. An
/// exchange gives each file the other's name.
#[lsm_cgroup(hook = "path_rename")]
pub fn path_rename(ctx: LsmContext) -> i32 {
    let (old_folder, old_name): (Path, Dentry) = (ctx.arg(0), ctx.arg(1));
    let (new_folder, new_name): (Path, Dentry) = (ctx.arg(2), ctx.arg(3));
    let flags: u32 = ctx.arg(4);
    // SAFETY: the hook's arguments are what they are taken for.
    let verdict = unsafe {
        let mut rule = FileRule::NOTHING;
        let slot = slot::attached();
        let old = entry::decide(
            slot,
            Kind::Rename,
            old_folder,
            old_name,
            Change::Removal,
            &mut rule,
        );
        if matches!(old, Verdict::Deny) {
            old
        } else {
            let to = Kind::RenameTo;
            let new = entry::decide(slot, to, new_folder, new_name, Change::Arrival, &mut rule);
            if matches!(new, Verdict::Allow) && flags & RENAME_EXCHANGE != 0 {
                entry::decide(slot, to, old_folder, old_name, Change::Arrival, &mut rule)
            } else {
                new
            }
        }
    };
    super::answer(&ctx, "path_rename", verdict)
}

/// `int security_path_link(struct dentry *old_dentry, const struct path *new_dir, struct dentry
/// *new_dentry)`, `security/security.c`. The first name comes without its mount, so its path is
/// known only where it lies in the folder of the second; anywhere else is denied.
#[lsm_cgroup(hook = "path_link")]
pub fn path_link(ctx: LsmContext) -> i32 {
    let (old_name, folder, new_name): (Dentry, Path, Dentry) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    // SAFETY: the hook's arguments are what they are taken for; their members are always set.
    let verdict = unsafe {
        let parent = old_name
            .add(offsets::dentry_d_parent())
            .cast::<u64>()
            .read_volatile();
        let here = folder
            .add(offsets::path_dentry())
            .cast::<u64>()
            .read_volatile();
        let slot = slot::attached();
        if parent == here {
            let mut rule = FileRule::NOTHING;
            let old = entry::decide(
                slot,
                Kind::Link,
                folder,
                old_name,
                Change::Source,
                &mut rule,
            );
            if matches!(old, Verdict::Deny) {
                old
            } else {
                entry::decide(
                    slot,
                    Kind::LinkTo,
                    folder,
                    new_name,
                    Change::Arrival,
                    &mut rule,
                )
            }
        } else {
            let rule = &mut { FileRule::NOTHING };
            entry::decide(slot, Kind::LinkTo, folder, new_name, Change::Stranger, rule)
        }
    };
    super::answer(&ctx, "path_link", verdict)
}

/// `int security_path_truncate(const struct path *path)`, `security/security.c`: `truncate(2)`.
#[lsm_cgroup(hook = "path_truncate")]
pub fn path_truncate(ctx: LsmContext) -> i32 {
    // SAFETY: the hook's first argument is the path of a file.
    let verdict = unsafe {
        path::decide_at(
            slot::attached(),
            Kind::Truncate,
            ctx.arg(0),
            Access::WRITE,
            0,
        )
    };
    super::answer(&ctx, "path_truncate", verdict)
}
