//! Packets, as they leave: what connecting and sending were allowed to reach is what they reach.
//!
//! A second look, behind that on addresses: at sockets that nobody connected here, and at options
//! that lead a packet to another host than the one that was decided on.

use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};
use skillsandbox_common::{
    header::Verdict,
    rule::{ADDRESS_KEY_LEN, Protocols},
};

use super::network;
use crate::{emit, slot};

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

/// A packet of a socket that was made in the cgroup, before it is cut into fragments
/// (`ip_finish_output`, `net/ipv4/ip_output.c`; `ip6_finish_output`). Whatever is not plain TCP or
/// UDP to where a rule lets it go is dropped: options and extension headers with it, among them the
/// source routes that one `sendmsg` can give (`IP_RETOPTS`, `IPV6_RTHDR`).
#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    let slot = slot::attached();
    let allowed = slot::flags(slot) != slot::NO_POLICY
        && match destination(&ctx) {
            Ok((address, port, protocol)) => {
                let protocol = Protocols::of_ip_protocol(protocol.into());
                let decision = network::look_up(slot, address, port, protocol);
                matches!(decision.verdict, Verdict::Allow)
            }
            Err(_) => false,
        };
    if !allowed {
        emit::refused_packet(slot);
    }
    let verdict = if allowed {
        Verdict::Allow
    } else {
        Verdict::Deny
    };
    super::answer(&ctx, "egress", verdict)
}

/// Where a packet goes: address (IPv4 as mapped), port and protocol.
#[inline(always)]
fn destination(ctx: &SkBuffContext) -> Result<([u8; ADDRESS_KEY_LEN], u16, u8), i64> {
    let (address, protocol, ports) = match u16::from_be(ctx.skb.protocol() as u16) {
        ETH_P_IP => {
            let header: [u8; IPV4_HEADER] = ctx.load(0)?;
            let fragment = u16::from_be_bytes([header[6], header[7]]);
            if header[0] != IPV4_WITHOUT_OPTIONS || fragment & FRAGMENT_OFFSET != 0 {
                return Err(0);
            }
            let mut mapped = [0; ADDRESS_KEY_LEN];
            mapped[10] = 0xff;
            mapped[11] = 0xff;
            mapped[12] = header[16];
            mapped[13] = header[17];
            mapped[14] = header[18];
            mapped[15] = header[19];
            (mapped, header[9], IPV4_HEADER)
        }
        ETH_P_IPV6 => (ctx.load(24)?, ctx.load::<u8>(6)?, IPV6_HEADER),
        _ => return Err(0),
    };
    if protocol != TCP && protocol != UDP {
        return Err(0);
    }
    // Both begin with the ports (RFC 9293, 3.1; RFC 768).
    let ports: [u8; 4] = ctx.load(ports)?;
    Ok((address, u16::from_be_bytes([ports[2], ports[3]]), protocol))
}
