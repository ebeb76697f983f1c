//! How much a manifest may hold. Far above any honest need, far below what would exhaust the
//! loader or the kernel's maps.

use std::ops::RangeInclusive;

/// Most bytes of a manifest file.
pub const MANIFEST_BYTES_MAX: usize = 1024 * 1024;
/// Most lists and maps inside each other.
pub const NESTING_MAX: usize = 32;
/// Most values, keys included.
pub const NODES_MAX: usize = 100_000;
/// Most problems that are listed; the rest are counted.
pub const PROBLEMS_MAX: usize = 100;

/// Most entries of `permissions.network.egress`.
pub const EGRESS_MAX: usize = 10_000;
/// Most entries of each list of paths.
pub const PATHS_MAX: usize = 4_096;
/// Most entries of `permissions.env_vars.allow`, and of `set`.
pub const VARIABLES_MAX: usize = 1_024;
/// Most entries of `entrypoint.args`.
pub const ARGUMENTS_MAX: usize = 1_024;

/// Most bytes of `skill.name` and `skill.version`.
pub const NAME_BYTES_MAX: usize = 128;
/// Most bytes of `skill.author`.
pub const AUTHOR_BYTES_MAX: usize = 256;
/// Most bytes of `skill.description`.
pub const DESCRIPTION_BYTES_MAX: usize = 4_096;
/// Most bytes of one argument, and of one variable's name and value together with its `=`: Linux
/// refuses longer ones (`MAX_ARG_STRLEN`, `include/uapi/linux/binfmts.h`), terminator included.
pub const ARGUMENT_BYTES_MAX: usize = 128 * 1024 - 1;

/// Memory, in MiB: up to 1 TiB.
pub const MEMORY_MB: RangeInclusive<u64> = 1..=1024 * 1024;
/// CPU shares: the range of `cpu.shares` in cgroup v1, which the format takes its unit from.
pub const CPU_SHARES: RangeInclusive<u64> = 2..=262_144;
/// Seconds of run time: up to 366 days.
pub const MAX_RUNTIME_SECONDS: RangeInclusive<u64> = 1..=366 * 24 * 60 * 60;
/// Bytes of output: none, up to 1 TiB.
pub const MAX_OUTPUT_BYTES: RangeInclusive<u64> = 0..=1 << 40;
/// Processes and threads: up to the kernel's `PID_MAX_LIMIT`.
pub const MAX_PROCESSES: RangeInclusive<u64> = 1..=4_194_304;
/// KiB of the ring of a sandbox's records: up to 64 MiB, which the kernel holds for as long as the sandbox is there.
pub const RING_KIB: RangeInclusive<u64> = 64..=65_536;
/// What it is in a sandbox that `run` makes, if the manifest does not say.
pub const RUN_RING_KIB: u32 = 4_096;
/// What it is in a cgroup that is attached: of those a host may have hundreds, for a long time.
pub const ATTACHED_RING_KIB: u32 = 128;
/// Open files of each process: enough to start one, up to the kernel's default `fs.nr_open`.
pub const MAX_OPEN_FILES: RangeInclusive<u64> = 16..=1_048_576;
