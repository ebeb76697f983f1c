//! State of one sandbox in the maps. A slot is an index into every per-sandbox map; slot 0 is
//! never a sandbox: a cgroup whose storage still reads 0 denies everything.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::rule::{NetworkRule, UNIX_SOCKETS_MAX, UnixRule};

/// Slots, number 0 included: most sandboxes on one host plus one.
pub const SLOTS: u32 = 1024 + 1;

/// Rings that the events of one slot are spread over, by the processor that makes them; a power of two.
/// Where a slot has fewer, each is there more than once.
pub const RINGS_MAX: u32 = 4;

/// [`SlotConfig::state`] of a slot whose rules are complete.
pub const STATE_ENFORCING: u32 = 1;

/// [`SlotConfig::flags`]: rules that deny a name in any folder exist.
pub const FLAG_NAMES: u32 = 1;
/// [`SlotConfig::flags`]: an access that cannot be recorded is denied.
pub const FLAG_OVERFLOW_DENY: u32 = 2;
/// [`SlotConfig::flags`]: `open` and `exec` are recorded by tracepoints, for want of BPF LSM.
pub const FLAG_TRACE_CALLS: u32 = 4;
/// [`SlotConfig::flags`]: `open` and `exec` that fail for another reason than an eBPF program are
/// recorded by tracepoints.
pub const FLAG_TRACE_REFUSED: u32 = 8;

/// [`SlotConfig::flags`]: accesses to files that differ in nothing but their time have one record.
pub const FLAG_AGGREGATE: u32 = 16;

/// [`SlotConfig::flags`]: nothing is denied. What would be is recorded as that.
pub const FLAG_AUDIT: u32 = 32;

/// Longest event that others are counted with, in bytes: an event of a file with a path of some 290.
pub const FOLD_KEY_LEN: usize = 384;

/// Different accesses of one sandbox that others are counted with: further ones have a record each.
pub const FOLDS_MAX: usize = 4096;

/// What userspace says of a slot; programs only read it.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
pub struct SlotConfig {
    /// [`STATE_ENFORCING`], or 0: everything is denied.
    pub state: u32,
    /// Bits `FLAG_*`.
    pub flags: u32,
    /// Ports of the sandbox's own name server, at 127.0.0.1 and at `::1`, in the machine's byte order.
    /// What is asked of port 53 goes there; 0 where there is none.
    pub name_server: [u16; 2],
    /// Ports of its own that others may call.
    pub listen: NetworkRule,
    /// Zero.
    pub reserved: u32,
    /// Id of the cgroup of a probe, or 0. Whatever runs there has slot 0: everything is denied, and on no record.
    pub probe: u64,
    /// Unix sockets of the host that it may connect to.
    pub unix: [UnixRule; UNIX_SOCKETS_MAX],
}

/// What the programs count; userspace only reads it. Each number only grows.
///
/// `records = accesses + process events`, and each record was either put on a ring or counted
/// as dropped. Accesses that were folded have no record of their own.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
pub struct SlotCounters {
    /// Records begun: the last sequence number given out.
    pub records: u64,
    /// Of these, forks and exits.
    pub processes: u64,
    /// Of these, denied accesses.
    pub denied: u64,
    /// Allowed accesses that found the ring full.
    pub dropped_allowed: u64,
    /// Denied accesses that found the ring of denials full.
    pub dropped_denied: u64,
    /// Forks and exits that found the ring full.
    pub dropped_processes: u64,
    /// Accesses that were counted with an earlier one.
    pub folded: u64,
    /// Of the records, accesses that would have been denied.
    pub would_deny: u64,
    /// Packets that did not pass. No records of theirs: who sends one is often not who caused it.
    pub refused_packets: u64,
}

impl SlotCounters {
    /// Accesses decided on.
    #[must_use]
    pub const fn decisions(&self) -> u64 {
        self.records
            .saturating_sub(self.processes)
            .saturating_add(self.folded)
    }
}
