//! Datagram sockets by transport and destination.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{FromRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{setsockopt, sockopt},
        time::TimeVal,
    },
};

use crate::{
    actor::{Stop, option::set},
    scenario::types::DatagramProto,
    world::AGENT_LINK,
};

/// `SOCK_DCCP`.
const SOCK_DCCP: libc::c_int = 6;
/// `DCCP_SOCKOPT_SERVICE` (`linux/dccp.h`).
const DCCP_SOCKOPT_SERVICE: libc::c_int = 2;
/// How long an SCTP or DCCP handshake may keep a call, seconds.
const HANDSHAKE_SECONDS: i64 = 2;

/// A socket that may send to `dst`.
pub fn open(proto: DatagramProto, dst: SocketAddr) -> Result<OwnedFd, Stop> {
    let family = if dst.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let (kind, protocol) = match proto {
        DatagramProto::Udp => (libc::SOCK_DGRAM, 0),
        DatagramProto::Udplite => (libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE),
        DatagramProto::Sctp => (libc::SOCK_SEQPACKET, libc::IPPROTO_SCTP),
        DatagramProto::Dccp => (SOCK_DCCP, libc::IPPROTO_DCCP),
    };
    // SAFETY: a plain system call without pointers.
    let raw = Errno::result(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })
        .map_err(Stop::errno("socket"))?;
    // SAFETY: `raw` was just opened and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    if matches!(proto, DatagramProto::Sctp | DatagramProto::Dccp) {
        setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(HANDSHAKE_SECONDS, 0))
            .map_err(Stop::errno("setsockopt SO_SNDTIMEO"))?;
    }
    if proto == DatagramProto::Dccp {
        set(&fd, libc::SOL_DCCP, DCCP_SOCKOPT_SERVICE, &1_u32, "DCCP_SOCKOPT_SERVICE")?;
    }
    to_many(&fd, dst.ip())?;
    Ok(fd)
}

/// What multicast and broadcast want set first.
fn to_many(fd: &OwnedFd, dst: IpAddr) -> Result<(), Stop> {
    match dst {
        IpAddr::V4(v4) if v4.is_multicast() => {
            // SAFETY: all zero is a valid ip_mreqn: any group, any address.
            let mut interface: libc::ip_mreqn = unsafe { std::mem::zeroed() };
            interface.imr_ifindex = AGENT_LINK.cast_signed();
            set(fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &interface, "IP_MULTICAST_IF")
        }
        IpAddr::V6(v6) if v6.is_multicast() => {
            let link = AGENT_LINK.cast_signed();
            set(fd, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, &link, "IPV6_MULTICAST_IF")
        }
        // Which address is a network's broadcast is not the socket's to know.
        IpAddr::V4(v4) if v4 == Ipv4Addr::BROADCAST || v4.octets()[..3] == [192, 0, 2] => {
            setsockopt(fd, sockopt::Broadcast, &true).map_err(Stop::errno("setsockopt SO_BROADCAST"))
        }
        _ => Ok(()),
    }
}
