//! Reaching an address, and having one.

use aya_ebpf::{
    bindings::bpf_sock_addr, helpers::generated::bpf_map_lookup_elem, macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use skillsandbox_common::{
    event::NetworkBody,
    header::{EventPrefix, Kind, Reason, Verdict},
    rule::{ADDRESS_KEY_LEN, Decision, NetworkRule, Protocols},
};

use super::name_server;
use crate::{
    actor, emit,
    maps::{NETWORK_RULES, pointer},
    slot,
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// The bytes of a `connect`, `sendmsg` or `bind` event.
#[repr(C)]
struct NetworkEvent {
    prefix: EventPrefix,
    body: NetworkBody,
}

/// Key of an address rule.
#[repr(C)]
struct AddressKey {
    prefix_bits: u32,
    address: [u8; ADDRESS_KEY_LEN],
}

/// `connect(2)` of an IPv4 socket, TCP Fast Open and io_uring included.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    ipv4(Kind::Connect, &ctx)
}

/// `connect(2)` of an IPv6 socket, IPv4-mapped addresses included.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    ipv6(Kind::Connect, &ctx)
}

/// `sendto(2)`, `sendmsg(2)` and `sendmmsg(2)` of an unconnected IPv4 UDP socket.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    ipv4(Kind::Sendmsg, &ctx)
}

/// As `sendmsg4`, for IPv6.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    ipv6(Kind::Sendmsg, &ctx)
}

/// `bind(2)` of an IPv4 socket. Not asked when a socket that has no address takes one by itself.
#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    ipv4(Kind::Bind, &ctx)
}

/// As `bind4`, for IPv6.
#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    ipv6(Kind::Bind, &ctx)
}

#[inline(always)]
fn ipv4(kind: Kind, ctx: &SockAddrContext) -> i32 {
    // SAFETY: the verifier allows this read of the context.
    let address = unsafe { (&raw const (*ctx.sock_addr).user_ip4).read_volatile() };
    decide(kind, ctx, AF_INET, mapped(address.to_ne_bytes()))
}

#[inline(always)]
fn ipv6(kind: Kind, ctx: &SockAddrContext) -> i32 {
    // SAFETY: the verifier allows these reads of the context.
    let address = unsafe { ip6(&raw const (*ctx.sock_addr).user_ip6) };
    decide(kind, ctx, AF_INET6, address)
}

/// IPv4 as the rules hold it (RFC 4291, 2.5.5.2).
#[inline(always)]
pub(super) fn mapped(address: [u8; 4]) -> [u8; ADDRESS_KEY_LEN] {
    let mut mapped = [0; ADDRESS_KEY_LEN];
    mapped[10] = 0xff;
    mapped[11] = 0xff;
    mapped[12] = address[0];
    mapped[13] = address[1];
    mapped[14] = address[2];
    mapped[15] = address[3];
    mapped
}

/// Reads an address a word at a time, as the verifier wants it.
///
/// # Safety
/// `words` must be in a structure that the verifier lets be read.
#[inline(always)]
pub(super) unsafe fn ip6(words: *const [u32; 4]) -> [u8; ADDRESS_KEY_LEN] {
    let mut address = [0; ADDRESS_KEY_LEN];
    for word in 0..4 {
        // SAFETY: the caller vouches for it.
        let bytes = unsafe { (&raw const (*words)[word]).read_volatile() }.to_ne_bytes();
        address[word * 4] = bytes[0];
        address[word * 4 + 1] = bytes[1];
        address[word * 4 + 2] = bytes[2];
        address[word * 4 + 3] = bytes[3];
    }
    address
}

#[inline(always)]
fn decide(kind: Kind, ctx: &SockAddrContext, family: u16, address: [u8; ADDRESS_KEY_LEN]) -> i32 {
    let sock_addr: *const bpf_sock_addr = ctx.sock_addr;
    // SAFETY: reads of context members that the verifier allows.
    let (port, protocol, socket_type) = unsafe {
        (
            u16::from_be((&raw const (*sock_addr).user_port).read_volatile() as u16),
            (&raw const (*sock_addr).protocol).read_volatile(),
            (&raw const (*sock_addr).type_).read_volatile(),
        )
    };
    let slot = slot::attached();
    let flags = slot::flags(slot);
    let decision = if flags == slot::NO_POLICY {
        Decision::deny(Reason::NoPolicy, 0)
    } else if matches!(kind, Kind::Bind) {
        slot::decide_bind(slot, port, Protocols::of_ip_protocol(protocol))
    } else if name_server::answers(slot, &address, port, protocol) {
        name_server::redirect(ctx, slot, family == AF_INET, &address)
    } else if name_server::is_at(slot, &address, port) && name_server::has_asked(ctx) {
        name_server::ALLOWED
    } else {
        look_up(slot, address, port, Protocols::of_ip_protocol(protocol))
    };
    let length = size_of::<NetworkEvent>();
    let mut event = NetworkEvent {
        // SAFETY: all bytes zero is a valid `EventPrefix`.
        prefix: unsafe { core::mem::zeroed() },
        body: NetworkBody {
            address,
            port,
            family,
            protocol: protocol as u16,
            socket_type: socket_type as u16,
        },
    };
    // SAFETY: the event lies on this program's stack, initialised.
    let verdict: Verdict = unsafe {
        actor::fill(&raw mut event.prefix, kind, decision, length as u32);
        emit::access(slot, flags, (&raw mut event).cast(), length as u64)
    };
    let answer = super::answer(ctx, "socket address", verdict);
    if matches!(kind, Kind::Bind) && decision.rule != 0 {
        // With the second bit, a port below 1024 takes no capability (`BIND_NO_CAP_NET_BIND_SERVICE`,
        // `include/net/inet_sock.h`, Linux 5.12): the manifest has granted this one.
        return answer | answer << 1;
    }
    answer
}

/// What the rules of a slot say of an address.
#[inline(always)]
pub(super) fn look_up(
    slot: u32,
    address: [u8; ADDRESS_KEY_LEN],
    port: u16,
    protocol: u16,
) -> Decision {
    let Some(rules) = NETWORK_RULES.get(slot).map(pointer) else {
        return Decision::deny(Reason::NoPolicy, 0);
    };
    let key = AddressKey {
        prefix_bits: ADDRESS_KEY_LEN as u32 * 8,
        address,
    };
    // SAFETY: the key lies on this program's stack; the answer is a rule or NULL.
    let rule = unsafe {
        bpf_map_lookup_elem(rules, (&raw const key).cast())
            .cast::<NetworkRule>()
            .as_ref()
    };
    match rule {
        Some(rule) => rule.decide(port, protocol),
        None => Decision::deny(Reason::NoRule, 0),
    }
}
