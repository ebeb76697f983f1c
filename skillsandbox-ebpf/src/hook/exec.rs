//! Executing a program.

use aya_ebpf::{macros::lsm_cgroup, programs::LsmContext};
use skillsandbox_common::header::Kind;

use crate::{offsets, path};

/// `int security_bprm_check(struct linux_binprm *bprm)`, `security/security.c`: once for each
/// file of an `execve`, so for a script and then for its interpreter.
#[lsm_cgroup(hook = "bprm_check_security")]
pub fn bprm_check(ctx: LsmContext) -> i32 {
    let binprm: *const u8 = ctx.arg(0);
    // SAFETY: the hook's first argument is the `struct linux_binprm`, whose `file` is set.
    let verdict = unsafe {
        let file = binprm
            .add(offsets::binprm_file())
            .cast::<*const u8>()
            .read_volatile();
        path::decide(Kind::Exec, file)
    };
    super::answer(&ctx, "bprm_check", verdict)
}
