//! The eBPF programs: each a thin entry around one pure decision of `skillsandbox-common`.
//!
//! A program finds the slot of the sandbox it runs for, names the object, looks its rule up,
//! records what it decided, and answers. Whatever goes wrong on the way is a denial with a
//! [`Reason`](skillsandbox_common::header::Reason).
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "the only way to an atomic add for this target"
)]

mod actor;
mod emit;
mod entry;
mod home;
mod hook;
mod maps;
mod names;
mod offsets;
mod path;
mod scratch;
mod slot;

/// The helpers that decide (`bpf_d_path`, task storage) are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
