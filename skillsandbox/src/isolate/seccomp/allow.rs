//! Which system calls programs ordinarily need. What is not listed is refused under the profiles
//! `default` and `strict`; the denials beside this list say which arguments are refused as well.

use super::call::{Call, calls};
use super::profile::Profile;

/// System calls that are allowed for one purpose.
pub(super) struct Allowed {
    /// The strictest profile that has them: `Default` or `Strict`.
    pub(super) up_to: Profile,
    /// The calls.
    pub(super) calls: &'static [Call],
}

const fn strict(calls: &'static [Call]) -> Allowed {
    Allowed {
        up_to: Profile::Strict,
        calls,
    }
}

const fn default(calls: &'static [Call]) -> Allowed {
    Allowed {
        up_to: Profile::Default,
        calls,
    }
}

/// Every call that a profile other than `permissive` allows.
pub(super) const ALLOWED: &[Allowed] = &[
    // Reading and writing.
    strict(calls![
        SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev
        SYS_preadv2 SYS_pwritev2 SYS_lseek SYS_sendfile SYS_copy_file_range SYS_splice SYS_tee
        SYS_fsync SYS_fdatasync SYS_sync_file_range SYS_ftruncate SYS_truncate SYS_fallocate
        SYS_fadvise64 SYS_readahead
    ]),
    default(calls![SYS_vmsplice SYS_sync SYS_syncfs]),
    // Descriptors. Requests of `ioctl` to a terminal's input are denied.
    strict(calls![
        SYS_close SYS_close_range SYS_dup SYS_dup3 SYS_fcntl SYS_flock SYS_ioctl SYS_pipe2
    ]),
    // Files: the kernel's rules on paths decide, whichever call asks.
    strict(calls![
        SYS_openat SYS_openat2 SYS_newfstatat SYS_fstat SYS_statx SYS_statfs SYS_fstatfs
        SYS_faccessat SYS_faccessat2 SYS_readlinkat SYS_getdents64 SYS_getcwd SYS_chdir SYS_fchdir
        SYS_mkdirat SYS_unlinkat SYS_linkat SYS_symlinkat SYS_renameat2 SYS_utimensat SYS_umask
        SYS_fchmod SYS_fchmodat SYS_fchmodat2 SYS_fchown SYS_fchownat
    ]),
    default(calls![
        SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr
        SYS_setxattr SYS_lsetxattr SYS_fsetxattr SYS_removexattr SYS_lremovexattr
        SYS_fremovexattr SYS_mknodat
    ]),
    // Memory.
    strict(calls![
        SYS_brk SYS_mmap SYS_munmap SYS_mremap SYS_mprotect SYS_madvise SYS_msync SYS_mincore
        SYS_mlock SYS_mlock2 SYS_munlock SYS_mlockall SYS_munlockall SYS_mseal SYS_membarrier
        SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect
    ]),
    // Memory files are not executable: see the denials.
    default(calls![
        SYS_memfd_create SYS_mbind SYS_get_mempolicy SYS_set_mempolicy SYS_process_mrelease
    ]),
    // Processes and threads. Flags of `clone` that make namespaces are denied.
    strict(calls![
        SYS_clone SYS_execve SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_set_tid_address
        SYS_set_robust_list SYS_get_robust_list SYS_rseq SYS_getpid SYS_getppid SYS_gettid
        SYS_getpgid SYS_setpgid SYS_getsid SYS_setsid SYS_pidfd_open SYS_pidfd_send_signal
        SYS_prctl SYS_personality SYS_restart_syscall
    ]),
    default(calls![SYS_execveat]),
    // Waiting for each other.
    strict(calls![SYS_futex SYS_futex_waitv]),
    // Signals.
    strict(calls![
        SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigpending
        SYS_rt_sigtimedwait SYS_rt_sigsuspend SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo
        SYS_sigaltstack SYS_kill SYS_tkill SYS_tgkill SYS_signalfd4
    ]),
    // Time.
    strict(calls![
        SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_gettimeofday
        SYS_times SYS_getitimer SYS_setitimer SYS_timer_create SYS_timer_settime
        SYS_timer_gettime SYS_timer_getoverrun SYS_timer_delete SYS_timerfd_create
        SYS_timerfd_settime SYS_timerfd_gettime
    ]),
    // Waiting for descriptors.
    strict(calls![
        SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_ppoll
        SYS_pselect6
    ]),
    // Watching files.
    default(calls![SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch]),
    // Input and output that the kernel does meanwhile, as databases use it.
    default(calls![
        SYS_io_setup SYS_io_destroy SYS_io_submit SYS_io_cancel SYS_io_getevents
    ]),
    // Network: families, listening and options are denied by argument; eBPF decides on addresses.
    strict(calls![
        SYS_socket SYS_socketpair SYS_connect SYS_bind SYS_getsockname SYS_getpeername
        SYS_getsockopt SYS_setsockopt SYS_shutdown SYS_sendto SYS_recvfrom SYS_sendmsg
        SYS_recvmsg SYS_sendmmsg SYS_recvmmsg
    ]),
    // Being called, where the denials leave that to others.
    strict(calls![SYS_listen SYS_accept SYS_accept4]),
    // Who it is, what it has. Changing to another user needs a capability, and there is none.
    strict(calls![
        SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getresuid SYS_getresgid SYS_getgroups
        SYS_capget SYS_uname SYS_sysinfo SYS_getrusage SYS_prlimit64 SYS_getrlimit SYS_setrlimit
        SYS_getcpu SYS_getrandom
    ]),
    // `posix_spawn` calls some of them all the same, for `make` among others.
    strict(calls![
        SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setfsuid
        SYS_setfsgid
    ]),
    default(calls![SYS_setgroups SYS_capset]),
    // The scheduler.
    strict(calls![
        SYS_sched_yield SYS_sched_getaffinity SYS_sched_setaffinity SYS_sched_getparam
        SYS_sched_getscheduler SYS_sched_get_priority_max SYS_sched_get_priority_min
        SYS_sched_rr_get_interval SYS_sched_getattr SYS_getpriority SYS_setpriority
    ]),
    default(calls![
        SYS_sched_setparam SYS_sched_setscheduler SYS_sched_setattr SYS_ioprio_get SYS_ioprio_set
    ]),
    // System V and POSIX queues, of the sandbox's own IPC namespace.
    default(calls![
        SYS_shmget SYS_shmat SYS_shmdt SYS_shmctl SYS_semget SYS_semop SYS_semtimedop SYS_semctl
        SYS_msgget SYS_msgsnd SYS_msgrcv SYS_msgctl SYS_mq_open SYS_mq_unlink SYS_mq_timedsend
        SYS_mq_timedreceive SYS_mq_notify SYS_mq_getsetattr
    ]),
    // Sandboxes inside this one: these only ever take away.
    strict(calls![
        SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self SYS_seccomp
    ]),
    // Older spellings of the above, which C libraries and Go still use.
    #[cfg(target_arch = "x86_64")]
    strict(calls![
        SYS_open SYS_creat SYS_stat SYS_lstat SYS_access SYS_readlink SYS_getdents SYS_mkdir
        SYS_rmdir SYS_unlink SYS_link SYS_symlink SYS_rename SYS_renameat SYS_chmod SYS_chown
        SYS_lchown SYS_utime SYS_utimes SYS_futimesat SYS_dup2 SYS_pipe SYS_fork SYS_vfork
        SYS_getpgrp SYS_pause SYS_alarm SYS_time SYS_epoll_create SYS_epoll_wait SYS_eventfd
        SYS_signalfd SYS_poll SYS_select SYS_arch_prctl
    ]),
    #[cfg(target_arch = "x86_64")]
    default(calls![SYS_mknod SYS_inotify_init]),
];

/// The calls that a profile lists; nothing for `permissive`, which has no list.
pub(super) fn allowed(profile: Profile) -> impl Iterator<Item = &'static Call> {
    let rows = ALLOWED.iter().filter(move |row| profile <= row.up_to);
    let rows = rows.filter(move |_| profile != Profile::Permissive);
    rows.flat_map(|row| row.calls)
}
