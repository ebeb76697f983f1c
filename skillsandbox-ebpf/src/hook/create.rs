//! What is made and taken away, and whose it is: programs of the whole host, as the cgroup LSM hooks
//! that a host can have are taken. They answer for tasks of sandboxes only. Not on Linux 6.1, like
//! those of [`super::entry`]. `path_mknod` is not among them: on no kernel may it call `bpf_d_path`.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use skillsandbox_common::{
    header::{Kind, Verdict},
    rule::{Access, FileRule},
};

use crate::{
    entry::{self, Change},
    path, slot,
};

/// `include/uapi/asm-generic/errno-base.h`.
const EPERM: i32 = 1;

/// `int security_path_mkdir(const struct path *dir, struct dentry *dentry, umode_t mode)`,
/// `security/security.c`.
#[lsm(hook = "path_mkdir")]
pub fn path_mkdir(ctx: LsmContext) -> i32 {
    change(&ctx, Kind::Create, Change::Folder)
}

/// `int security_path_symlink(const struct path *dir, struct dentry *dentry, const char
/// *old_name)`, `security/security.c`. Where the link leads is not asked: whoever follows it is.
#[lsm(hook = "path_symlink")]
pub fn path_symlink(ctx: LsmContext) -> i32 {
    change(&ctx, Kind::Create, Change::Creation)
}

/// `int security_path_rmdir(const struct path *dir, struct dentry *dentry)`,
/// `security/security.c`.
#[lsm(hook = "path_rmdir")]
pub fn path_rmdir(ctx: LsmContext) -> i32 {
    change(&ctx, Kind::Unlink, Change::Removal)
}

/// `int security_path_chmod(const struct path *path, umode_t mode)`, `security/security.c`.
#[lsm(hook = "path_chmod")]
pub fn path_chmod(ctx: LsmContext) -> i32 {
    attributes(&ctx)
}

/// `int security_path_chown(const struct path *path, kuid_t uid, kgid_t gid)`,
/// `security/security.c`.
#[lsm(hook = "path_chown")]
pub fn path_chown(ctx: LsmContext) -> i32 {
    attributes(&ctx)
}

/// Decides on the name that a hook's first two arguments are.
#[inline(always)]
fn change(ctx: &LsmContext, kind: Kind, change: Change) -> i32 {
    let Some(slot) = slot::of_current_task() else {
        return 0;
    };
    let rule = &mut { FileRule::NOTHING };
    // SAFETY: the callers are programs on hooks whose arguments are a folder and a name in it.
    answer(unsafe { entry::decide(slot, kind, ctx.arg(0), ctx.arg(1), change, rule) })
}

/// Decides on the file that a hook's first argument is the path of.
#[inline(always)]
fn attributes(ctx: &LsmContext) -> i32 {
    let Some(slot) = slot::of_current_task() else {
        return 0;
    };
    let kind = Kind::Attributes;
    // SAFETY: the callers are programs on hooks whose first argument is a path.
    answer(unsafe { path::decide_at(slot, kind, ctx.arg(0), Access::WRITE, 0) })
}

/// What an LSM program answers: 0 lets the access go on, `-EPERM` refuses it.
#[inline(always)]
fn answer(verdict: Verdict) -> i32 {
    // The verifier must see the bounds, whatever the compiler knows of the verdict. On Linux 6.12 it
    // loses them at a negation.
    let allowed = core::hint::black_box(i32::from(matches!(verdict, Verdict::Allow))) & 1;
    allowed - EPERM
}
