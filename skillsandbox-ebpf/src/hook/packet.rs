//! Packets, as they leave and arrive: what connecting and sending were allowed to reach is what is
//! reached, and only what is listened on is called.
//!
//! A second look, behind that on addresses: at sockets that nobody connected here, at options that
//! lead a packet to another host than the one that was decided on, and at ports that the kernel chose
//! for a socket that listens.

use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};
use skillsandbox_common::{
    header::Verdict,
    rule::{ADDRESS_KEY_LEN, Protocols},
};

use super::{
    name_server,
    network::{self, ip6, mapped},
};
use crate::{emit, slot};

const AF_INET: u32 = 2;
/// `ETH_P_IP` and `ETH_P_IPV6`, `include/uapi/linux/if_ether.h`.
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Version 4 and five words of header, which is one without options (RFC 791, 3.1).
const IPV4_WITHOUT_OPTIONS: u8 = 0x45;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// Bits of the fragment's place (RFC 791, 3.1).
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Where the two ends stand in the headers: IPv4, IPv6, and the ports (RFC 791, 3.1; RFC 8200, 3; RFC
/// 9293, 3.1; RFC 768).
struct End {
    ipv4: usize,
    ipv6: usize,
    port: usize,
}

const SOURCE: End = End {
    ipv4: 12,
    ipv6: 8,
    port: 0,
};
const DESTINATION: End = End {
    ipv4: 16,
    ipv6: 24,
    port: 2,
};

/// The place of TCP's flags, and those that tell a call from an answer (RFC 9293, 3.1).
const TCP_FLAGS: usize = 13;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A packet of a socket that was made in the cgroup, before it is cut into fragments
/// (`ip_finish_output`, `net/ipv4/ip_output.c`; `ip6_finish_output`). Whatever is not plain TCP or
/// UDP to where a rule lets it go, or the answer to a call, is dropped: options and extension headers
/// with it, among them the source routes that one `sendmsg` can give (`IP_RETOPTS`, `IPV6_RTHDR`).
#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    let slot = slot::attached_to_socket(&ctx);
    let allowed = slot::flags(slot) != slot::NO_POLICY
        && match packet(&ctx, &SOURCE, &DESTINATION) {
            Ok(packet) => {
                packet.own_is_called(slot) && !packet.calls || packet.other_is_granted(&ctx, slot)
            }
            Err(_) => false,
        };
    answer(&ctx, slot, allowed)
}

/// A packet for such a socket (`sk_filter_trim_cap`, `net/core/filter.c`): a call of a port that is not
/// listened on, or what comes from where no rule leads and nobody was called, is dropped.
#[cgroup_skb(ingress)]
pub fn ingress(ctx: SkBuffContext) -> i32 {
    let slot = slot::attached_to_socket(&ctx);
    let allowed = slot::flags(slot) != slot::NO_POLICY
        && match packet(&ctx, &DESTINATION, &SOURCE) {
            Ok(packet) => {
                packet.own_is_called(slot) || !packet.calls && packet.other_is_granted(&ctx, slot)
            }
            Err(_) => false,
        };
    answer(&ctx, slot, allowed)
}

#[inline(always)]
fn answer(ctx: &SkBuffContext, slot: u32, allowed: bool) -> i32 {
    let allowed = allowed || emit::audits_only(slot::flags(slot));
    if !allowed {
        emit::refused_packet(slot);
    }
    let verdict = if allowed {
        Verdict::Allow
    } else {
        Verdict::Deny
    };
    super::answer(ctx, "packet", verdict)
}

/// What a packet's headers say.
struct Packet {
    /// The other end's address, IPv4 as mapped.
    address: [u8; ADDRESS_KEY_LEN],
    /// The other end's port.
    port: u16,
    /// This end's port.
    own: u16,
    protocol: u8,
    /// Whether it begins a connection of TCP.
    calls: bool,
}

/// Reads the headers of plain TCP or UDP.
#[inline(always)]
fn packet(ctx: &SkBuffContext, own: &End, other: &End) -> Result<Packet, i64> {
    let (address, protocol, ports) = match u16::from_be(ctx.skb.protocol() as u16) {
        ETH_P_IP => {
            let header: [u8; IPV4_HEADER] = ctx.load(0)?;
            let fragment = u16::from_be_bytes([header[6], header[7]]);
            if header[0] != IPV4_WITHOUT_OPTIONS || fragment & FRAGMENT_OFFSET != 0 {
                return Err(0);
            }
            let at = other.ipv4;
            let address = [header[at], header[at + 1], header[at + 2], header[at + 3]];
            (mapped(address), header[9], IPV4_HEADER)
        }
        ETH_P_IPV6 => (ctx.load(other.ipv6)?, ctx.load::<u8>(6)?, IPV6_HEADER),
        _ => return Err(0),
    };
    let calls = match protocol {
        TCP => ctx.load::<u8>(ports + TCP_FLAGS)? & (SYN | ACK) == SYN,
        UDP => false,
        _ => return Err(0),
    };
    let port: [u8; 2] = ctx.load(ports + other.port)?;
    let own: [u8; 2] = ctx.load(ports + own.port)?;
    Ok(Packet {
        address,
        port: u16::from_be_bytes(port),
        own: u16::from_be_bytes(own),
        protocol,
        calls,
    })
}

impl Packet {
    /// Whether this end is a port that others may call.
    #[inline(always)]
    fn own_is_called(&self, slot: u32) -> bool {
        self.protocol == TCP && slot::listens(slot, self.own)
    }

    /// Whether a rule leads to the other end: that of the socket where it is connected, as a host that
    /// translates addresses has changed the packet's. What is connected goes on when the time of its
    /// rule has passed.
    #[inline(always)]
    fn other_is_granted(&self, ctx: &SkBuffContext, slot: u32) -> bool {
        let (mut address, mut port) = (self.address, self.port);
        let mut protocols = Protocols::of_ip_protocol(self.protocol.into());
        // SAFETY: reads of the context and of its socket that the verifier allows.
        unsafe {
            let socket = (&raw const (*ctx.skb.skb).__bindgen_anon_2.sk).read_volatile();
            if !socket.is_null() {
                let connected = (&raw const (*socket).dst_port).read_volatile();
                if connected != 0 {
                    protocols |= Protocols::aged(protocols);
                    port = u16::from_be(connected);
                    // Both are read: of two reads in two branches LLVM makes one at a place that
                    // varies ("pointer arithmetic on sock_common prohibited").
                    let four = (&raw const (*socket).dst_ip4).read_volatile();
                    let six = ip6(&raw const (*socket).dst_ip6);
                    let family = (&raw const (*socket).family).read_volatile();
                    address = if family == AF_INET {
                        mapped(four.to_ne_bytes())
                    } else {
                        six
                    };
                }
            }
        }
        name_server::is_at(slot, &address, port) || {
            let decision = network::look_up(slot, address, port, protocols);
            matches!(decision.verdict, Verdict::Allow)
        }
    }
}
