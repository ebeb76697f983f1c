//! What the eBPF programs and the userspace of SkillSandbox share: the bytes of an event, the
//! values of a rule, the state of a slot, and the names of programs and maps.
//!
//! Everything here is plain data of fixed size and pure functions over it, usable without `std`.
#![no_std]
#![expect(
    clippy::inline_always,
    reason = "the verifier and the stack of an eBPF program want no calls"
)]

pub mod event;
pub mod header;
pub mod names;
pub mod rule;
pub mod slot;

/// Longest path that Linux resolves, in bytes, with its terminating NUL (`PATH_MAX`, `limits.h`).
pub const PATH_MAX: usize = 4096;
