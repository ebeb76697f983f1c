//! Port 53: what is asked of any name server goes to the sandbox's own, and answers come under the
//! address that was asked, so that resolvers need not know.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use skillsandbox_common::{
    header::Reason,
    rule::{ADDRESS_KEY_LEN, Decision, Protocols},
};

use super::network::{ip6, mapped};
use crate::{maps::ASKED, slot};

/// RFC 1035, section 4.2.
const DNS: u16 = 53;
const LOOPBACK4: [u8; 4] = [127, 0, 0, 1];
const LOOPBACK6: [u8; ADDRESS_KEY_LEN] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// The decision on what goes to the name server.
pub(super) const ALLOWED: Decision = Decision {
    reason: Reason::NameServer,
    ..Decision::allow(0)
};

/// Whether this is the slot's own name server.
#[inline(always)]
pub(super) fn is_at(slot: u32, address: &[u8; ADDRESS_KEY_LEN], port: u16) -> bool {
    let v4 = *address == mapped(LOOPBACK4);
    (v4 || *address == LOOPBACK6) && port != 0 && port == slot::name_server(slot, v4)
}

/// Whether what is asked goes to the name server: port 53 of TCP and UDP, where there is one.
#[inline(always)]
pub(super) fn answers(
    slot: u32,
    address: &[u8; ADDRESS_KEY_LEN],
    port: u16,
    protocol: u32,
) -> bool {
    let protocol = Protocols::of_ip_protocol(protocol);
    port == DNS && protocol != Protocols::OTHER && slot::name_server(slot, is_v4(address)) != 0
}

/// Sends the socket to the name server in place of the address that it asks for.
#[inline(always)]
pub(super) fn redirect(
    ctx: &SockAddrContext,
    slot: u32,
    is_ipv4_socket: bool,
    address: &[u8; ADDRESS_KEY_LEN],
) -> Decision {
    let v4 = is_v4(address);
    let words = words(address);
    let sock_addr = ctx.sock_addr;
    // SAFETY: the storage's value is this socket's; the verifier allows these accesses of the context.
    unsafe {
        let asked = ASKED.get_or_insert_ptr_mut(ctx, None);
        if asked.is_null() {
            return Decision::deny(Reason::NoScratch, 0);
        }
        (*asked).address = words;
        (*asked).port = (&raw const (*sock_addr).user_port).read_volatile();
        if is_ipv4_socket {
            (&raw mut (*sock_addr).user_ip4).write_volatile(u32::from_ne_bytes(LOOPBACK4));
        } else {
            let loopback = if v4 { mapped(LOOPBACK4) } else { LOOPBACK6 };
            write_ip6(ctx, self::words(&loopback));
        }
        let port = slot::name_server(slot, v4).to_be();
        (&raw mut (*sock_addr).user_port).write_volatile(port.into());
    }
    ALLOWED
}

/// Whether this socket was sent to the name server before: one that is connected to a mapped address
/// is asked about again for each datagram, by the address that it was sent to (`udpv6_sendmsg`,
/// `net/ipv6/udp.c`).
#[inline(always)]
pub(super) fn has_asked(ctx: &SockAddrContext) -> bool {
    // SAFETY: the storage's value is this socket's.
    unsafe {
        let asked = ASKED.get_ptr_mut(ctx);
        !asked.is_null() && (*asked).port != 0
    }
}

/// Where an IPv4 datagram comes from.
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    put_back4(&ctx)
}

/// Where a datagram for an IPv6 socket comes from.
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    put_back6(&ctx)
}

/// Where an IPv4 socket is connected to.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    put_back4(&ctx)
}

/// Where an IPv6 socket is connected to.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    put_back6(&ctx)
}

#[inline(always)]
fn put_back4(ctx: &SockAddrContext) -> i32 {
    let sock_addr = ctx.sock_addr;
    // SAFETY: the verifier allows these accesses of the context; the storage's value is the socket's.
    unsafe {
        let told = mapped(
            (&raw const (*sock_addr).user_ip4)
                .read_volatile()
                .to_ne_bytes(),
        );
        if is_at(slot::attached(), &told, port(ctx)) {
            let asked = ASKED.get_ptr_mut(ctx);
            if !asked.is_null() && (*asked).port != 0 {
                let address = (&raw const (*asked).address[3]).read_volatile();
                (&raw mut (*sock_addr).user_ip4).write_volatile(address);
                (&raw mut (*sock_addr).user_port).write_volatile((*asked).port);
            }
        }
    }
    // These hooks can only let go on.
    1
}

#[inline(always)]
fn put_back6(ctx: &SockAddrContext) -> i32 {
    let sock_addr = ctx.sock_addr;
    // SAFETY: as in `put_back4`.
    unsafe {
        let told = ip6(&raw const (*sock_addr).user_ip6);
        if is_at(slot::attached(), &told, port(ctx)) {
            let asked = ASKED.get_ptr_mut(ctx);
            if !asked.is_null() && (*asked).port != 0 {
                write_ip6(ctx, (&raw const (*asked).address).read_volatile());
                (&raw mut (*sock_addr).user_port).write_volatile((*asked).port);
            }
        }
    }
    1
}

#[inline(always)]
fn port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: the verifier allows this read of the context.
    u16::from_be(unsafe { (&raw const (*ctx.sock_addr).user_port).read_volatile() } as u16)
}

#[inline(always)]
fn is_v4(address: &[u8; ADDRESS_KEY_LEN]) -> bool {
    mapped([address[12], address[13], address[14], address[15]]) == *address
}

#[inline(always)]
fn words(address: &[u8; ADDRESS_KEY_LEN]) -> [u32; 4] {
    let mut words = [0; 4];
    for word in 0..4 {
        let at = word * 4;
        words[word] = u32::from_ne_bytes([
            address[at],
            address[at + 1],
            address[at + 2],
            address[at + 3],
        ]);
    }
    words
}

/// Writes an address a word at a time, as the verifier wants it.
#[inline(always)]
fn write_ip6(ctx: &SockAddrContext, words: [u32; 4]) {
    for word in 0..4 {
        // SAFETY: the verifier allows this write of the context.
        unsafe {
            (&raw mut (*ctx.sock_addr).user_ip6[word]).write_volatile(words[word]);
        }
    }
}
