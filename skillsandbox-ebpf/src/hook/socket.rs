//! Making a socket, and reaching a unix socket.

use aya_ebpf::{
    helpers::{bpf_probe_read_kernel, generated::bpf_probe_read_kernel as probe_read},
    macros::lsm_cgroup,
    programs::LsmContext,
};
use skillsandbox_common::{
    event::{NetworkBody, UNIX_NAME_MAX, UnixBody},
    header::{EventPrefix, Kind, Reason, Verdict},
    rule::{Decision, decide_socket},
};

use crate::{actor, emit, offsets, slot};

/// `sizeof(sa_family_t)`: a unix address is its family and then its name.
const FAMILY: usize = 2;

/// The bytes of a `socket` event.
#[repr(C)]
struct SocketEvent {
    prefix: EventPrefix,
    body: NetworkBody,
}

/// The bytes of a `unix` event.
#[repr(C)]
struct UnixEvent {
    prefix: EventPrefix,
    body: UnixBody,
    /// More than a name has, so that a mask can bound its length.
    name: [u8; NAME_MASK + 1],
}

/// The verifier takes a length for bounded when it has been masked ("R2 unbounded memory access");
/// it loses what a comparison said of it once the compiler has moved that.
const NAME_MASK: usize = 127;
const _: () = assert!(UNIX_NAME_MAX <= NAME_MASK);

/// `int security_socket_create(int family, int type, int protocol, int kern)`,
/// `security/security.c`: `socket(2)` and `socketpair(2)`. A socket that may be made reaches
/// nothing yet, so only a refusal is recorded.
#[lsm_cgroup(hook = "socket_create")]
pub fn socket_create(ctx: LsmContext) -> i32 {
    let (family, socket_type, protocol, kernel): (u32, u32, u32, u32) =
        (ctx.arg(0), ctx.arg(1), ctx.arg(2), ctx.arg(3));
    if kernel != 0 {
        return super::answer(&ctx, "socket_create", Verdict::Allow);
    }
    let slot = slot::attached();
    let flags = slot::flags(slot);
    let decision = if flags == slot::NO_POLICY {
        Decision::deny(Reason::NoPolicy, 0)
    } else {
        decide_socket(family, socket_type, protocol)
    };
    let verdict = if matches!(decision.verdict, Verdict::Allow) {
        Verdict::Allow
    } else {
        let length = size_of::<SocketEvent>();
        let mut event = SocketEvent {
            // SAFETY: all bytes zero is a valid `EventPrefix`.
            prefix: unsafe { core::mem::zeroed() },
            body: NetworkBody {
                address: [0; 16],
                port: 0,
                family: family as u16,
                protocol: protocol as u16,
                socket_type: socket_type as u16,
            },
        };
        // SAFETY: the event lies on this program's stack, initialised.
        unsafe {
            actor::fill(&raw mut event.prefix, Kind::Socket, decision, length as u32);
            emit::access(slot, flags, (&raw mut event).cast(), length as u64)
        }
    };
    super::answer(&ctx, "socket_create", verdict)
}

/// `int security_unix_stream_connect(struct sock *sock, struct sock *other, struct sock *newsk)`,
/// `security/security.c`: `connect(2)` of a unix socket of type stream or seqpacket, by path and by
/// abstract name. Not reached by `socketpair(2)`. Asked in the cgroup that the socket was made in.
#[lsm_cgroup(hook = "unix_stream_connect")]
pub fn unix_connect(ctx: LsmContext) -> i32 {
    let slot = slot::attached();
    let flags = slot::flags(slot);
    let (sock, other): (*const u8, *const u8) = (ctx.arg(0), ctx.arg(1));
    // SAFETY: all bytes zero is a valid event; the event lies on this program's stack; reads of
    // kernel memory go through helpers that check the address.
    let verdict = unsafe {
        let mut event: UnixEvent = core::mem::zeroed();
        let socket_type = sock.add(offsets::sock_sk_type()).cast::<u16>();
        event.body.socket_type = bpf_probe_read_kernel(socket_type).unwrap_or(0);
        let name = name_of(other, &mut event);
        let length = (core::mem::offset_of!(UnixEvent, name) + name) as u64;
        let decision = if flags == slot::NO_POLICY {
            Decision::deny(Reason::NoPolicy, 0)
        } else {
            let (device, inode) = file_of(other);
            slot::decide_unix(slot, device, inode)
        };
        actor::fill(&raw mut event.prefix, Kind::Unix, decision, length as u32);
        emit::access(slot, flags, (&raw mut event).cast(), length)
    };
    super::answer(&ctx, "unix_connect", verdict)
}

/// Device and number of the file that a unix socket was bound to, which it has for good; zeros where
/// there is none, or none that can be read.
///
/// # Safety
/// `other` must be a `struct unix_sock`.
#[inline(always)]
unsafe fn file_of(other: *const u8) -> (u32, u64) {
    // SAFETY: the helper checks the addresses.
    unsafe {
        let pointer = |base: *const u8, offset: usize| {
            bpf_probe_read_kernel(base.wrapping_add(offset).cast::<*const u8>())
                .unwrap_or(core::ptr::null())
        };
        let entry = pointer(other, offsets::unix_sock_path() + offsets::path_dentry());
        let inode = pointer(entry, offsets::dentry_d_inode());
        let filesystem = pointer(inode, offsets::inode_i_sb());
        let number = inode.wrapping_add(offsets::inode_i_ino()).cast::<u64>();
        let device = filesystem
            .wrapping_add(offsets::super_block_s_dev())
            .cast::<u32>();
        match (bpf_probe_read_kernel(device), bpf_probe_read_kernel(number)) {
            (Ok(device), Ok(number)) => (device, number),
            _ => (0, 0),
        }
    }
}

/// Copies the name of a unix socket into the event; answers how many bytes it has. Evidence only.
///
/// # Safety
/// `other` must be a `struct unix_sock`.
#[inline(always)]
unsafe fn name_of(other: *const u8, event: &mut UnixEvent) -> usize {
    // SAFETY: the helpers check the addresses.
    unsafe {
        let address = other.add(offsets::unix_sock_addr()).cast::<*const u8>();
        let Ok(address) = bpf_probe_read_kernel(address) else {
            return 0;
        };
        let length = address.add(offsets::unix_address_len()).cast::<i32>();
        let Ok(length) = bpf_probe_read_kernel(length) else {
            return 0;
        };
        let start = address.add(offsets::unix_address_name() + FAMILY);
        let first = bpf_probe_read_kernel(start).unwrap_or(0);
        let length = (length as usize).wrapping_sub(FAMILY);
        if length == 0 || length > UNIX_NAME_MAX {
            return 0;
        }
        // An abstract name begins with NUL; a path ends with one.
        event.body.is_abstract = u16::from(first == 0);
        let start = start.add(usize::from(first == 0));
        let length = core::hint::black_box(length - 1) & NAME_MASK;
        let name = (&raw mut event.name).cast();
        if length == 0 || probe_read(name, length as u32, start.cast()) != 0 {
            return 0;
        }
        length
    }
}
