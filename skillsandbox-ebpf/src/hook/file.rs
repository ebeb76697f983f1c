//! Opening a file.

use aya_ebpf::{macros::lsm_cgroup, programs::LsmContext};
use skillsandbox_common::header::Kind;

use crate::path;

/// `int security_file_open(struct file *file)`, `security/security.c`: every open of a file,
/// whatever the call, io_uring included, after the path was resolved. Not reached by `O_PATH`,
/// which gives no access to content.
#[lsm_cgroup(hook = "file_open")]
pub fn file_open(ctx: LsmContext) -> i32 {
    // SAFETY: the hook's first argument is the file.
    let verdict = unsafe { path::decide(Kind::Open, ctx.arg::<*const u8>(0)) };
    super::answer(&ctx, "file_open", verdict)
}
