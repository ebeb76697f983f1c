//! Names of programs and maps, as the kernel shows them: at most 15 bytes (`BPF_OBJ_NAME_LEN`).

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `lsm_cgroup` on the named LSM hook, Linux 6.0.
    LsmCgroup(&'static str),
    /// `lsm` on the named LSM hook, Linux 5.7: called for every task of the host, and shared by all
    /// sandboxes. For what the ten cgroup hooks leave out.
    Lsm(&'static str),
    /// A `cgroup/…` socket address hook: `connect4`, `sendmsg6`, `bind4`, …, Linux 4.17 and 4.18.
    SocketAddress(&'static str),
    /// A `cgroup/…` socket address hook that decides nothing and can change what a program is told:
    /// `recvmsg4`, `getpeername6`, …, Linux 5.2 and 5.8.
    SocketAnswer(&'static str),
    /// `cgroup_skb/egress` or `/ingress`, Linux 4.10: every packet that a socket sends or gets.
    Packet(&'static str),
    /// A raw tracepoint, Linux 4.17.
    RawTracepoint(&'static str),
    /// A program for raw tracepoints that is attached to none: the loader calls it (`BPF_PROG_TEST_RUN`,
    /// Linux 5.10).
    Called,
}

/// A program of the ELF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Name of the function, and of the program in the kernel.
    pub name: &'static str,
    /// Where it is attached.
    pub hook: Hook,
    /// Whether the kernel tier takes it. What the others decide on is held by other layers where
    /// the kernel does not let them.
    pub makes_tier: bool,
}

const fn program(name: &'static str, hook: Hook) -> Program {
    assert!(name.len() <= 15);
    Program {
        name,
        hook,
        makes_tier: matches!(hook, Hook::LsmCgroup(_)),
    }
}

/// A program that needs a path of a hook that `bpf_d_path` is not for on Linux 6.1, and is on 6.12.
const fn by_path(name: &'static str, hook: Hook) -> Program {
    Program {
        makes_tier: false,
        ..program(name, hook)
    }
}

/// Every program of the ELF; a test holds the two equal. They are attached in this order: first those that
/// decide nothing, with which the cgroup has storage that says by which rules the others decide, then each after those whose proof needs what it refuses: a socket to connect has been bound and made, a
/// folder or a second name is taken away again, and everything is opened. All ten cgroup LSM hooks
/// that a host can have are taken.
pub const PROGRAMS: &[Program] = &[
    program("recvmsg4", Hook::SocketAnswer("recvmsg4")),
    program("recvmsg6", Hook::SocketAnswer("recvmsg6")),
    program("getpeername4", Hook::SocketAnswer("getpeername4")),
    program("getpeername6", Hook::SocketAnswer("getpeername6")),
    program("connect4", Hook::SocketAddress("connect4")),
    program("connect6", Hook::SocketAddress("connect6")),
    program("sendmsg4", Hook::SocketAddress("sendmsg4")),
    program("sendmsg6", Hook::SocketAddress("sendmsg6")),
    program("bind4", Hook::SocketAddress("bind4")),
    program("bind6", Hook::SocketAddress("bind6")),
    program("ingress", Hook::Packet("ingress")),
    program("egress", Hook::Packet("egress")),
    program("unix_connect", Hook::LsmCgroup("unix_stream_connect")),
    program("socket_create", Hook::LsmCgroup("socket_create")),
    program("bprm_check", Hook::LsmCgroup("bprm_check_security")),
    program("mmap_file", Hook::LsmCgroup("mmap_file")),
    program("ptrace_access", Hook::LsmCgroup("ptrace_access_check")),
    by_path("path_mkdir", Hook::Lsm("path_mkdir")),
    by_path("path_symlink", Hook::Lsm("path_symlink")),
    by_path("path_rmdir", Hook::Lsm("path_rmdir")),
    by_path("path_chmod", Hook::Lsm("path_chmod")),
    by_path("path_chown", Hook::Lsm("path_chown")),
    by_path("path_link", Hook::LsmCgroup("path_link")),
    by_path("path_unlink", Hook::LsmCgroup("path_unlink")),
    by_path("path_rename", Hook::LsmCgroup("path_rename")),
    by_path("path_truncate", Hook::LsmCgroup("path_truncate")),
    program("file_open", Hook::LsmCgroup("file_open")),
    program("trace_call", Hook::RawTracepoint("sys_exit")),
    program("trace_exec", Hook::RawTracepoint("sched_process_exec")),
    program("trace_fork", Hook::RawTracepoint("sched_process_fork")),
    program("trace_exit", Hook::RawTracepoint("sched_process_exit")),
    program(PROGRAM_TAKE_HOME, Hook::Called),
];

/// Makes its caller's mount namespace and root the home of a slot.
pub const PROGRAM_TAKE_HOME: &str = "take_home";

/// Slot → [`SlotConfig`](crate::slot::SlotConfig).
pub const MAP_CONFIG: &str = "CONFIG";
/// Slot → [`SlotCounters`](crate::slot::SlotCounters).
pub const MAP_COUNTERS: &str = "COUNTERS";
/// Slot → the mount namespace and root in which its paths mean what its rules say.
pub const MAP_HOMES: &str = "HOMES";
/// Slot → path prefix, or names in any folder → [`FileRule`](crate::rule::FileRule).
pub const MAP_FILE_RULES: &str = "FILE_RULES";
/// Slot → address prefix → [`NetworkRule`](crate::rule::NetworkRule).
pub const MAP_NETWORK_RULES: &str = "NETWORK_RULES";
/// Slot and processor → ring of allowed accesses and process events.
pub const MAP_EVENTS: &str = "EVENTS";
/// Slot → ring of denied accesses.
pub const MAP_DENIALS: &str = "DENIALS";
/// Slot → event, without its time and sequence number and with zeros after it → accesses like it.
pub const MAP_FOLDS: &str = "FOLDS";
/// Task → memory for one decision.
pub const MAP_SCRATCH: &str = "SCRATCH";
/// Cgroup a program is attached to → slot.
pub const MAP_CGROUP_SLOT: &str = "CGROUP_SLOT";
/// Cgroup id → slot, for tracepoints, which have no cgroup of their own.
pub const MAP_TRACED: &str = "TRACED";

/// Every map of the ELF that is pinned.
pub const MAPS: &[&str] = &[
    MAP_CONFIG,
    MAP_COUNTERS,
    MAP_HOMES,
    MAP_FILE_RULES,
    MAP_NETWORK_RULES,
    MAP_EVENTS,
    MAP_DENIALS,
    MAP_FOLDS,
    MAP_SCRATCH,
    MAP_CGROUP_SLOT,
    MAP_TRACED,
];
