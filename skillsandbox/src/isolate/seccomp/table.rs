//! Which system calls a skill cannot make, why, and what they answer. A row is a fact; a new
//! denial is a new row.

use libc::c_long;
use serde::{Deserialize, Serialize};

/// How much of the system a skill may call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Takes away what could open the sandbox or reach the kernel's rarely used parts.
    Permissive,
    /// Also debugging, other processes' memory, and sockets other than UNIX, TCP and UDP.
    #[default]
    Default,
    /// Also what few programs need: memory files, System V IPC, file watches on whole mounts.
    Strict,
}

/// What is compared with an argument, of which only the low 32 bits count.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    /// The argument is this.
    Is(u8, u32),
    /// The argument is not this.
    IsNot(u8, u32),
    /// These bits of the argument, `mask`, are `value`.
    Bits { index: u8, mask: u32, value: u32 },
}

use Test::{Bits, Is, IsNot};

/// System calls that are denied for one reason.
pub(super) struct Denial {
    /// The mildest profile that has it.
    pub(super) from: Profile,
    /// The answer.
    pub(super) errno: i32,
    /// The calls.
    pub(super) calls: &'static [c_long],
    /// When; any one of these, of which every test must hold. Empty: always.
    pub(super) when: &'static [&'static [Test]],
}

const fn always(from: Profile, errno: i32, calls: &'static [c_long]) -> Denial {
    Denial {
        from,
        errno,
        calls,
        when: &[],
    }
}

/// The newest system call that this table was written against: `mseal`, Linux 6.10. Later ones,
/// and those of the x32 ABI (bit 30 set), answer `ENOSYS` as on an older kernel.
pub(super) const NEWEST: u32 = 462;

const EPERM: i32 = libc::EPERM;
const ENOSYS: i32 = libc::ENOSYS;

const UNIX: u32 = libc::AF_UNIX as u32;
const INET: u32 = libc::AF_INET as u32;
const INET6: u32 = libc::AF_INET6 as u32;
const NETLINK: u32 = libc::AF_NETLINK as u32;
const TCP: u32 = libc::IPPROTO_TCP as u32;
const UDP: u32 = libc::IPPROTO_UDP as u32;
/// Bits of a socket's type that are not flags (`SOCK_TYPE_MASK`, `include/linux/net.h`).
const SOCKET_TYPE: u32 = 0xf;

const fn flag(index: u8, bit: i32) -> Test {
    Bits {
        index,
        mask: bit.cast_unsigned(),
        value: bit.cast_unsigned(),
    }
}

/// `ioctl` requests on terminals (`include/uapi/asm-generic/ioctls.h`).
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;
const TIOCCONS: u32 = 0x541d;
const TIOCSETD: u32 = 0x5423;

/// `include/uapi/linux/in6.h`.
const IPV6_RTHDR: u32 = 57;

/// Linux 6.8; not in the libc crate yet.
const STATMOUNT: c_long = 457;
/// Linux 6.8; not in the libc crate yet.
const LISTMOUNT: c_long = 458;

/// Every denial.
pub(super) const DENIALS: &[Denial] = &[
    // Mounts: a path means something else in another tree.
    always(
        Profile::Permissive,
        EPERM,
        &[
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_mount_setattr,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
        ],
    ),
    // Namespaces: a new user namespace comes with every capability in it.
    always(
        Profile::Permissive,
        EPERM,
        &[libc::SYS_unshare, libc::SYS_setns],
    ),
    Denial {
        from: Profile::Permissive,
        errno: EPERM,
        calls: &[libc::SYS_clone],
        when: &[
            &[flag(0, libc::CLONE_NEWNS)],
            &[flag(0, libc::CLONE_NEWCGROUP)],
            &[flag(0, libc::CLONE_NEWUTS)],
            &[flag(0, libc::CLONE_NEWIPC)],
            &[flag(0, libc::CLONE_NEWUSER)],
            &[flag(0, libc::CLONE_NEWPID)],
            &[flag(0, libc::CLONE_NEWNET)],
        ],
    },
    // Its flags are in memory, out of a filter's sight. The C library falls back to clone.
    always(Profile::Permissive, ENOSYS, &[libc::SYS_clone3]),
    // The kernel itself, and what watches the skill.
    always(
        Profile::Permissive,
        EPERM,
        &[
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_syslog,
            libc::SYS_acct,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_adjtimex,
            libc::SYS_clock_adjtime,
            libc::SYS_sethostname,
            libc::SYS_setdomainname,
            libc::SYS_vhangup,
            libc::SYS_nfsservctl,
            libc::SYS_lookup_dcookie,
        ],
    ),
    #[cfg(target_arch = "x86_64")]
    always(
        Profile::Permissive,
        EPERM,
        &[
            libc::SYS_kexec_file_load,
            libc::SYS_iopl,
            libc::SYS_ioperm,
            libc::SYS_modify_ldt,
            libc::SYS_uselib,
            libc::SYS_ustat,
            libc::SYS_sysfs,
            libc::SYS__sysctl,
        ],
    ),
    // Keyrings belong to the user, not to the sandbox.
    always(
        Profile::Permissive,
        EPERM,
        &[libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key],
    ),
    // Opens and connects that system call tracing does not see.
    always(
        Profile::Permissive,
        ENOSYS,
        &[
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
        ],
    ),
    always(
        Profile::Permissive,
        EPERM,
        &[libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at],
    ),
    // Programs without a path: a memory file, or any other open descriptor.
    Denial {
        from: Profile::Permissive,
        errno: EPERM,
        calls: &[libc::SYS_execveat],
        when: &[&[flag(4, libc::AT_EMPTY_PATH)]],
    },
    Denial {
        from: Profile::Permissive,
        errno: EPERM,
        calls: &[libc::SYS_memfd_create],
        when: &[&[flag(1, libc::MFD_EXEC.cast_signed())]],
    },
    // Typing on the caller's terminal, or changing its discipline.
    Denial {
        from: Profile::Permissive,
        errno: EPERM,
        calls: &[libc::SYS_ioctl],
        when: &[
            &[Is(1, TIOCSTI)],
            &[Is(1, TIOCLINUX)],
            &[Is(1, TIOCCONS)],
            &[Is(1, TIOCSETD)],
        ],
    },
    // Other processes.
    always(
        Profile::Default,
        EPERM,
        &[
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_process_madvise,
            libc::SYS_pidfd_getfd,
            libc::SYS_kcmp,
            libc::SYS_migrate_pages,
            libc::SYS_move_pages,
            libc::SYS_userfaultfd,
        ],
    ),
    // Execution domains other than plain Linux (0), and asking which it is (all ones).
    Denial {
        from: Profile::Default,
        errno: EPERM,
        calls: &[libc::SYS_personality],
        when: &[&[IsNot(0, 0), IsNot(0, u32::MAX)]],
    },
    // Being called. Landlock decides on bind only, and `listen` binds by itself.
    always(
        Profile::Permissive,
        EPERM,
        &[libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4],
    ),
    // Unix sockets of the host by path, through a folder that may be read. A pair of sockets of
    // one's own is another call.
    Denial {
        from: Profile::Permissive,
        errno: EPERM,
        calls: &[libc::SYS_socket],
        when: &[&[Is(0, UNIX)]],
    },
    // Routing headers send a packet elsewhere than to the address that was decided on.
    Denial {
        from: Profile::Permissive,
        errno: EPERM,
        calls: &[libc::SYS_setsockopt],
        when: &[&[Is(1, libc::IPPROTO_IPV6 as u32), Is(2, IPV6_RTHDR)]],
    },
    // Socket families: raw packets, vsock, Bluetooth, AF_ALG and some forty others.
    Denial {
        from: Profile::Default,
        errno: libc::EAFNOSUPPORT,
        calls: &[libc::SYS_socket],
        when: &[&[
            IsNot(0, UNIX),
            IsNot(0, INET),
            IsNot(0, INET6),
            IsNot(0, NETLINK),
        ]],
    },
    // Transports other than TCP and UDP, raw sockets, and netlink other than the list of
    // addresses and routes (protocol 0), which name resolution reads.
    Denial {
        from: Profile::Default,
        errno: libc::EPROTONOSUPPORT,
        calls: &[libc::SYS_socket],
        when: &[
            &[Is(0, INET), IsNot(2, 0), IsNot(2, TCP), IsNot(2, UDP)],
            &[Is(0, INET6), IsNot(2, 0), IsNot(2, TCP), IsNot(2, UDP)],
            &[
                IsNot(0, NETLINK),
                Bits {
                    index: 1,
                    mask: SOCKET_TYPE,
                    value: libc::SOCK_RAW as u32,
                },
            ],
            &[Is(0, NETLINK), IsNot(2, 0)],
        ],
    },
    always(
        Profile::Strict,
        EPERM,
        &[
            libc::SYS_memfd_create,
            libc::SYS_memfd_secret,
            libc::SYS_execveat,
            libc::SYS_fanotify_init,
            libc::SYS_fanotify_mark,
            libc::SYS_mknodat,
            libc::SYS_shmget,
            libc::SYS_shmat,
            libc::SYS_shmctl,
            libc::SYS_semget,
            libc::SYS_semop,
            libc::SYS_semctl,
            libc::SYS_msgget,
            libc::SYS_msgsnd,
            libc::SYS_msgrcv,
            libc::SYS_msgctl,
            libc::SYS_mq_open,
            libc::SYS_vmsplice,
            libc::SYS_mbind,
            libc::SYS_set_mempolicy,
            libc::SYS_remap_file_pages,
            STATMOUNT,
            LISTMOUNT,
        ],
    ),
    #[cfg(target_arch = "x86_64")]
    always(Profile::Strict, EPERM, &[libc::SYS_mknod]),
];
