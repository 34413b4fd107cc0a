//! Sockets of any kind.

use std::{
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, SockaddrStorage, sendto},
};

use super::{Report, Stop, frame, option::set, payload, udp::local};
use crate::{
    scenario::types::Socket,
    world::{AGENT_LINK, FAR_MAC},
};

/// Makes the socket, and sends one datagram if told to. ICMP gets an echo request.
pub fn run(socket: &Socket, report: &mut Report) -> Result<(), Stop> {
    let family = number(&socket.family, &FAMILIES)?;
    let kind = number(&socket.kind, &KINDS)?;
    let mut protocol = socket.protocol.as_deref().map_or(Ok(0), |name| number(name, &PROTOCOLS))?;
    if family == libc::AF_PACKET {
        // Protocol 0 receives nothing, and sends what the address says.
        protocol = 0;
    }
    // SAFETY: a plain system call without pointers.
    let raw = Errno::result(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })
        .map_err(Stop::errno("socket"))?;
    // SAFETY: `raw` was just opened and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    let Some(to) = &socket.to else { return Ok(()) };
    let dst: SocketAddr = to
        .parse()
        .map_err(|_| Stop::new("EINVAL", format!("`{to}` is not address:port or [address]:port")))?;
    report.dst = Some(dst);
    let sent = match family {
        libc::AF_PACKET => {
            if socket.qdisc_bypass {
                set(&fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1_i32, "PACKET_QDISC_BYPASS")?;
            }
            let data = if kind == libc::SOCK_RAW { frame::ethernet(dst)? } else { frame::ip(dst)? };
            link(&fd, &data, dst)
        }
        libc::AF_INET | libc::AF_INET6 => {
            let data = match protocol {
                _ if socket.hdrincl => frame::ip(dst)?,
                libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE if kind == libc::SOCK_RAW => frame::udp(dst)?,
                _ => datagram(protocol),
            };
            if socket.hdrincl {
                let (level, name) = if family == libc::AF_INET {
                    (libc::IPPROTO_IP, libc::IP_HDRINCL)
                } else {
                    (libc::IPPROTO_IPV6, IPV6_HDRINCL)
                };
                set(&fd, level, name, &1_i32, "IP_HDRINCL")?;
            }
            // A raw IPv6 socket takes the port as a protocol number and refuses another than its own.
            let mut target = dst;
            if kind == libc::SOCK_RAW {
                target.set_port(0);
            }
            sendto(fd.as_raw_fd(), &data, &SockaddrStorage::from(target), MsgFlags::empty())
        }
        // AF_VSOCK above all: it would leave the machine.
        _ => return Err(Stop::new("EINVAL", "only internet and packet sockets have a `to`")),
    };
    report.src = local(&fd);
    report.sent = sent.map_err(Stop::errno("sendto"))? as u64;
    Ok(())
}

/// `sendto()` with the address of the link's other end.
fn link(fd: &OwnedFd, data: &[u8], dst: SocketAddr) -> nix::Result<usize> {
    // SAFETY: all zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let protocol = if dst.is_ipv4() { libc::ETH_P_IP } else { libc::ETH_P_IPV6 };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (protocol as u16).to_be();
    address.sll_ifindex = AGENT_LINK.cast_signed();
    address.sll_halen = FAR_MAC.len() as u8;
    address.sll_addr[..FAR_MAC.len()].copy_from_slice(&FAR_MAC);
    // SAFETY: data and address are readable for their lengths.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            data.as_ptr().cast(),
            data.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    Errno::result(sent).map(isize::unsigned_abs)
}

/// `IPV6_HDRINCL` (`linux/in6.h`).
const IPV6_HDRINCL: libc::c_int = 36;

const FAMILIES: [(&str, libc::c_int); 21] = [
    ("unix", libc::AF_UNIX),
    ("inet", libc::AF_INET),
    ("inet6", libc::AF_INET6),
    ("netlink", libc::AF_NETLINK),
    ("packet", libc::AF_PACKET),
    ("vsock", libc::AF_VSOCK),
    ("xdp", libc::AF_XDP),
    ("key", libc::AF_KEY),
    ("alg", libc::AF_ALG),
    ("tipc", libc::AF_TIPC),
    ("rxrpc", libc::AF_RXRPC),
    ("can", libc::AF_CAN),
    ("rds", libc::AF_RDS),
    ("llc", libc::AF_LLC),
    ("kcm", AF_KCM),
    ("smc", AF_SMC),
    ("mctp", AF_MCTP),
    ("pppox", libc::AF_PPPOX),
    ("bluetooth", libc::AF_BLUETOOTH),
    ("ax25", libc::AF_AX25),
    ("phonet", libc::AF_PHONET),
];
/// `AF_KCM`, `AF_SMC` and `AF_MCTP` (`linux/socket.h`).
const AF_KCM: libc::c_int = 41;
const AF_SMC: libc::c_int = 43;
const AF_MCTP: libc::c_int = 45;

const KINDS: [(&str, libc::c_int); 7] = [
    ("stream", libc::SOCK_STREAM),
    ("dgram", libc::SOCK_DGRAM),
    ("raw", libc::SOCK_RAW),
    ("rdm", libc::SOCK_RDM),
    ("seqpacket", libc::SOCK_SEQPACKET),
    ("dccp", 6),
    ("packet", 10),
];

const PROTOCOLS: [(&str, libc::c_int); 11] = [
    ("icmp", libc::IPPROTO_ICMP),
    ("icmpv6", libc::IPPROTO_ICMPV6),
    ("igmp", libc::IPPROTO_IGMP),
    ("tcp", libc::IPPROTO_TCP),
    ("udp", libc::IPPROTO_UDP),
    ("dccp", libc::IPPROTO_DCCP),
    ("sctp", libc::IPPROTO_SCTP),
    ("l2tp", 115),
    ("raw", libc::IPPROTO_RAW),
    ("udplite", libc::IPPROTO_UDPLITE),
    ("mptcp", libc::IPPROTO_MPTCP),
];

/// Family, kind and protocol as `socket()` takes them; `None` if one is neither name nor number.
pub(crate) fn numbers(socket: &Socket) -> Option<(libc::c_int, libc::c_int, libc::c_int)> {
    let protocol = socket.protocol.as_deref().map_or(Ok(0), |name| number(name, &PROTOCOLS));
    Some((number(&socket.family, &FAMILIES).ok()?, number(&socket.kind, &KINDS).ok()?, protocol.ok()?))
}

/// Names of `socket.family`.
pub(crate) fn families() -> impl Iterator<Item = &'static str> {
    FAMILIES.into_iter().map(|(name, _)| name)
}

/// Names of `socket.kind`.
pub(crate) fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.into_iter().map(|(name, _)| name)
}

/// Names of `socket.protocol`.
pub(crate) fn protocols() -> impl Iterator<Item = &'static str> {
    PROTOCOLS.into_iter().map(|(name, _)| name)
}

fn number(text: &str, names: &[(&str, libc::c_int)]) -> Result<libc::c_int, Stop> {
    let named = names.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    named.or_else(|| text.parse().ok()).ok_or_else(|| {
        let known: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        Stop::new("EINVAL", format!("`{text}` is neither a number nor one of {}", known.join(", ")))
    })
}

/// 16 bytes; for ICMP a valid echo request, with the checksum that raw IPv4 sockets do not add.
fn datagram(protocol: libc::c_int) -> Vec<u8> {
    let mut data = payload(16);
    let kind = match protocol {
        libc::IPPROTO_ICMP => 8,
        libc::IPPROTO_ICMPV6 => 128,
        _ => return data,
    };
    data[..8].copy_from_slice(&[kind, 0, 0, 0, 0, 1, 0, 1]);
    let sum: u32 = data.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    data[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    data
}
