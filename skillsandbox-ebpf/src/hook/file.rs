//! Opening a file, and mapping it as code.

use aya_ebpf::{
    EbpfContext, helpers::bpf_probe_read_kernel, macros::lsm_cgroup, programs::LsmContext,
};
use skillsandbox_common::header::{Kind, Verdict};

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

/// `PROT_EXEC`, `include/uapi/asm-generic/mman-common.h`.
const PROT_EXEC: u64 = 4;

/// `int mmap_file(struct file *file, unsigned long reqprot, unsigned long prot, unsigned long
/// flags)`, `include/linux/lsm_hook_defs.h`: a file mapped as code, by the task or for it by
/// `execve`. Memory of no file is not asked about, nor is a later `mprotect`: a task can make code
/// of any bytes that it can read. What this holds is programs and libraries that the kernel or the
/// dynamic loader would run as they are.
#[lsm_cgroup(hook = "mmap_file")]
pub fn mmap_file(ctx: LsmContext) -> i32 {
    // `prot`, not `reqprot`: a personality can add to it.
    let prot: u64 = ctx.arg(2);
    // As a number: the verifier takes the file of some kernels for never NULL, and would take a
    // comparison out. One that cannot be read is not NULL.
    // SAFETY: the helper checks the address, that of the hook's arguments.
    let address = unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<u64>()) }.unwrap_or(1);
    let verdict = if prot & PROT_EXEC == 0 || address == 0 {
        Verdict::Allow
    } else {
        let file: *const u8 = ctx.arg(0);
        if file.is_null() {
            Verdict::Allow
        } else {
            // SAFETY: the hook's first argument is the file, which is not NULL here.
            unsafe { path::decide(Kind::Map, file) }
        }
    };
    super::answer(&ctx, "mmap_file", verdict)
}
