//! What the kernel of a container's network namespace says by itself, from sockets of its own: the process that made the
//! namespace was the container's, so those sockets are in its cgroup. Neighbour discovery, without which IPv6 does not
//! work, and resets, as IPv4 has ARP and no hook sees either.
//!
//! A raw socket that was made before the enrolment looks the same. So nothing passes here that could carry more than
//! its own header beyond the link.

use abi::{ICMPV6, PrefixKey, TCP, Zone};
use aya_ebpf::{btf_maps::lpm_trie::Key, programs::SkBuffContext};

use crate::{
    maps::PREFIXES,
    packet::{Packet, RST},
};

/// ICMPv6: router solicitation, neighbour solicitation, neighbour advertisement (RFC 4861).
const DISCOVERY: [u8; 3] = [133, 135, 136];
/// Their hop limit: whoever gets one with less knows that it was routed.
const ON_LINK: u8 = 255;

/// Whether a packet of a raw socket that nobody asked for is the kernel's own.
#[inline(never)]
pub fn speaks(ctx: &SkBuffContext, packet: &Packet, cgroup_id: u64) -> u64 {
    u64::from(match packet.l4_proto {
        ICMPV6 => {
            let hop_limit: u8 = ctx.load(7).unwrap_or(0);
            let kind: u8 = packet.byte(ctx, 0);
            hop_limit == ON_LINK && DISCOVERY.contains(&kind) && is_near(packet, cgroup_id)
        }
        TCP => packet.byte(ctx, 13) & RST != 0 && packet.payload(ctx).0 == 0,
        _ => false,
    })
}

/// Whether a destination is on the container's link.
#[inline(always)]
fn is_near(packet: &Packet, cgroup_id: u64) -> bool {
    let remote = &packet.remote;
    let of_link = remote[0] == 0xff && remote[1] == 2 || remote[0] == 0xfe && remote[1] & 0xc0 == 0x80;
    // What has a zone is of its own networks.
    let key = Key::new(192, PrefixKey { cgroup_id_be: cgroup_id.to_be_bytes(), addr: *remote });
    of_link || PREFIXES.get(&key).is_some_and(|prefix| prefix.zone != Zone::Elsewhere as u8)
}
