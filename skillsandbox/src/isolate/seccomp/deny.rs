//! Which system calls a skill cannot make, why, and what they answer. A row is a fact; a new
//! denial is a new row. It holds for every profile from its own on, whatever the list beside it
//! allows.

use super::call::{Call, calls};
use super::profile::{Permission, Permitted, Profile};

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
    pub(super) calls: &'static [Call],
    /// What is denied, in words; nothing where it is every call.
    pub(super) what: &'static str,
    /// When; any one of these, of which every test must hold. Empty: always.
    pub(super) when: &'static [&'static [Test]],
    /// What lifts it.
    pub(super) unless: Option<Permission>,
}

impl Denial {
    /// Whether it holds in this profile.
    pub(super) fn holds(&self, profile: Profile, permitted: Permitted) -> bool {
        self.from <= profile
            && !self
                .unless
                .is_some_and(|permission| permitted.has(permission))
    }
}

const fn always(from: Profile, errno: i32, calls: &'static [Call]) -> Denial {
    Denial {
        from,
        errno,
        calls,
        what: "",
        when: &[],
        unless: None,
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
/// Control messages as RFC 2292 had them, kept for every later packet; `include/uapi/linux/in6.h`.
const IPV6_2292PKTOPTIONS: u32 = 6;
/// `include/uapi/linux/in.h`.
const IP_OPTIONS: u32 = 4;

/// A socket of this type, whatever its flags.
const fn of_type(socket_type: i32) -> Test {
    Bits {
        index: 1,
        mask: SOCKET_TYPE,
        value: socket_type.cast_unsigned(),
    }
}

/// Every denial.
pub(super) const DENIALS: &[Denial] = &[
    // Mounts: a path means something else in another tree.
    always(
        Profile::Permissive,
        EPERM,
        calls![
            SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot SYS_move_mount
            SYS_open_tree SYS_mount_setattr SYS_fsopen SYS_fsconfig SYS_fsmount
            SYS_fspick SYS_swapon SYS_swapoff SYS_quotactl SYS_quotactl_fd
        ],
    ),
    // Namespaces: a new user namespace comes with every capability in it.
    always(Profile::Permissive, EPERM, calls![SYS_unshare SYS_setns]),
    Denial {
        from: Profile::Permissive,
        errno: EPERM,
        calls: calls![SYS_clone],
        what: "making namespaces",
        when: &[
            &[flag(0, libc::CLONE_NEWNS)],
            &[flag(0, libc::CLONE_NEWCGROUP)],
            &[flag(0, libc::CLONE_NEWUTS)],
            &[flag(0, libc::CLONE_NEWIPC)],
            &[flag(0, libc::CLONE_NEWUSER)],
            &[flag(0, libc::CLONE_NEWPID)],
            &[flag(0, libc::CLONE_NEWNET)],
        ],
        unless: None,
    },
    // Its flags are in memory, out of a filter's sight. The C library falls back to clone.
    always(Profile::Permissive, ENOSYS, calls![SYS_clone3]),
    // The kernel itself, and what watches the skill.
    always(
        Profile::Permissive,
        EPERM,
        calls![
            SYS_bpf SYS_perf_event_open SYS_init_module SYS_finit_module
            SYS_delete_module SYS_kexec_load SYS_reboot SYS_syslog SYS_acct
            SYS_settimeofday SYS_clock_settime SYS_adjtimex SYS_clock_adjtime
            SYS_sethostname SYS_setdomainname SYS_vhangup SYS_nfsservctl
            SYS_lookup_dcookie
        ],
    ),
    #[cfg(target_arch = "x86_64")]
    always(
        Profile::Permissive,
        EPERM,
        calls![
            SYS_kexec_file_load SYS_iopl SYS_ioperm SYS_modify_ldt SYS_uselib
            SYS_ustat SYS_sysfs SYS__sysctl
        ],
    ),
    // Keyrings belong to the user, not to the sandbox.
    always(
        Profile::Permissive,
        EPERM,
        calls![SYS_keyctl SYS_add_key SYS_request_key],
    ),
    // Opens and connects that system call tracing does not see.
    always(
        Profile::Permissive,
        ENOSYS,
        calls![SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register],
    ),
    always(
        Profile::Permissive,
        EPERM,
        calls![SYS_open_by_handle_at SYS_name_to_handle_at],
    ),
    // Programs without a path: a memory file, or any other open descriptor.
    Denial {
        from: Profile::Permissive,
        errno: EPERM,
        calls: calls![SYS_execveat],
        what: "a program without a path (AT_EMPTY_PATH)",
        when: &[&[flag(4, libc::AT_EMPTY_PATH)]],
        unless: None,
    },
    Denial {
        from: Profile::Permissive,
        errno: EPERM,
        calls: calls![SYS_memfd_create],
        what: "executable memory files (MFD_EXEC)",
        when: &[&[flag(1, libc::MFD_EXEC.cast_signed())]],
        unless: None,
    },
    // Typing on the caller's terminal, or changing its discipline.
    Denial {
        from: Profile::Permissive,
        errno: EPERM,
        calls: calls![SYS_ioctl],
        what: "typing on a terminal or changing its discipline",
        when: &[
            &[Is(1, TIOCSTI)],
            &[Is(1, TIOCLINUX)],
            &[Is(1, TIOCCONS)],
            &[Is(1, TIOCSETD)],
        ],
        unless: None,
    },
    // Other processes.
    always(
        Profile::Default,
        EPERM,
        calls![
            SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev
            SYS_process_madvise SYS_pidfd_getfd SYS_kcmp SYS_migrate_pages
            SYS_move_pages SYS_userfaultfd
        ],
    ),
    // Execution domains other than plain Linux (0), and asking which it is (all ones).
    Denial {
        from: Profile::Default,
        errno: EPERM,
        calls: calls![SYS_personality],
        what: "execution domains other than plain Linux",
        when: &[&[IsNot(0, 0), IsNot(0, u32::MAX)]],
        unless: None,
    },
    // Being called. Landlock decides on bind only, and `listen` binds by itself.
    Denial {
        unless: Some(Permission::Listening),
        ..always(
            Profile::Permissive,
            EPERM,
            calls![SYS_listen SYS_accept SYS_accept4],
        )
    },
    // Unix sockets of the host by path, through a folder that may be read. A pair of sockets of
    // one's own is another call.
    Denial {
        from: Profile::Permissive,
        errno: EPERM,
        calls: calls![SYS_socket],
        what: "UNIX sockets",
        when: &[&[Is(0, UNIX)]],
        unless: Some(Permission::UnixSockets),
    },
    // Where they are permitted, datagrams would still go to any name that they are given with.
    Denial {
        from: Profile::Permissive,
        errno: EPERM,
        calls: calls![SYS_socket],
        what: "UNIX datagrams",
        when: &[&[Is(0, UNIX), of_type(libc::SOCK_DGRAM)]],
        unless: None,
    },
    // The same sockets through a pair: datagrams go to any name that they are given with.
    Denial {
        from: Profile::Permissive,
        errno: EPERM,
        calls: calls![SYS_socketpair],
        what: "pairs of other than UNIX streams",
        when: &[
            &[IsNot(0, UNIX)],
            &[of_type(libc::SOCK_DGRAM)],
            &[of_type(libc::SOCK_RAW)],
        ],
        unless: None,
    },
    // Source routes send a packet elsewhere than to the address that was decided on.
    Denial {
        from: Profile::Permissive,
        errno: EPERM,
        calls: calls![SYS_setsockopt],
        what: "source routes: IPv4 options, IPv6 routing headers",
        when: &[
            &[Is(1, libc::IPPROTO_IP as u32), Is(2, IP_OPTIONS)],
            &[Is(1, libc::IPPROTO_IPV6 as u32), Is(2, IPV6_RTHDR)],
            &[Is(1, libc::IPPROTO_IPV6 as u32), Is(2, IPV6_2292PKTOPTIONS)],
        ],
        unless: None,
    },
    // Socket families: raw packets, vsock, Bluetooth, AF_ALG and some forty others.
    Denial {
        from: Profile::Permissive,
        errno: libc::EAFNOSUPPORT,
        calls: calls![SYS_socket],
        what: "families other than IPv4, IPv6 and netlink",
        when: &[&[
            IsNot(0, UNIX),
            IsNot(0, INET),
            IsNot(0, INET6),
            IsNot(0, NETLINK),
        ]],
        unless: None,
    },
    // Transports other than TCP and UDP, raw sockets, and netlink other than the list of
    // addresses and routes (protocol 0), which name resolution reads. Where eBPF does not decide on
    // sockets, some of these reach any address without its programs being asked.
    Denial {
        from: Profile::Permissive,
        errno: libc::EPROTONOSUPPORT,
        calls: calls![SYS_socket],
        what: "raw sockets, neither TCP nor UDP, netlink beyond routes",
        when: &[
            &[Is(0, INET), IsNot(2, 0), IsNot(2, TCP), IsNot(2, UDP)],
            &[Is(0, INET6), IsNot(2, 0), IsNot(2, TCP), IsNot(2, UDP)],
            &[IsNot(0, NETLINK), of_type(libc::SOCK_RAW)],
            &[Is(0, NETLINK), IsNot(2, 0)],
        ],
        unless: None,
    },
];
