//! A STUN binding request (RFC 8489).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use super::{Report, Stop, destination, payload};
use crate::scenario::types::Stun;

/// How long the answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Type of a binding request, and of its answer.
const REQUEST: [u8; 2] = [0x00, 0x01];
const SUCCESS: [u8; 2] = [0x01, 0x01];
const XOR_MAPPED_ADDRESS: [u8; 2] = [0x00, 0x20];
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Bytes of a message before its attributes.
const HEADER: usize = 20;

/// Asks from where it was heard; the answer must name the port that it has.
pub fn run(stun: &Stun, report: &mut Report) -> Result<(), Stop> {
    let dst = destination(&stun.to, Some(stun.family), report)?;
    let any: SocketAddr = match dst {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).map_err(Stop::io("bind"))?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(Stop::io("setsockopt SO_RCVTIMEO"))?;
    let local = socket.local_addr().map_err(Stop::io("getsockname"))?;
    report.src = Some(local);
    // Cookie and transaction; the answer repeats both.
    let key = [COOKIE.as_slice(), &payload(12)].concat();
    let request = [REQUEST.as_slice(), &[0, 0], &key].concat();
    report.sent = socket.send_to(&request, dst).map_err(Stop::io("sendto"))? as u64;
    let mut buffer = [0; 1500];
    let (len, from) = socket.recv_from(&mut buffer).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Stop::new("timeout", format!("no answer from {dst}")),
        _ => Stop::io("recvfrom")(error),
    })?;
    report.received = len as u64;
    let heard = mapped(&buffer[..len], &key)
        .ok_or_else(|| Stop::new("EPROTO", format!("what {from} answered is no answer to a binding")))?;
    if from != dst || heard.port() != local.port() {
        return Err(Stop::new("EPROTO", format!("{from} heard {heard}, which is not port {}", local.port())));
    }
    Ok(())
}

/// The mapped address in the answer to the request with this cookie and transaction.
fn mapped(message: &[u8], key: &[u8]) -> Option<SocketAddr> {
    let (header, mut attributes) = message.split_at_checked(HEADER)?;
    if header[..2] != SUCCESS || header[4..] != *key {
        return None;
    }
    loop {
        let (head, rest) = attributes.split_at_checked(4)?;
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = rest.get(..len)?;
        if head[..2] == XOR_MAPPED_ADDRESS {
            let plain: Vec<u8> = value.get(4..)?.iter().zip(key).map(|(a, b)| a ^ b).collect();
            let port = u16::from_be_bytes([value[2] ^ key[0], value[3] ^ key[1]]);
            let address = match value[1] {
                1 => IpAddr::from(<[u8; 4]>::try_from(plain).ok()?),
                2 => IpAddr::from(<[u8; 16]>::try_from(plain).ok()?),
                _ => return None,
            };
            return Some(SocketAddr::new(address, port));
        }
        attributes = rest.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sample responses of RFC 5769, 2.2 and 2.3, without what follows the address.
    #[test]
    fn samples_of_the_standard_are_read() {
        let key = b"\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";
        let software = b"\x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20";
        let v4 = b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43";
        let v6 = b"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9";
        let message = |address: &[u8]| [b"\x01\x01\x00\x3c", key.as_slice(), software, address].concat();
        assert_eq!(mapped(&message(v4), key), "192.0.2.1:32853".parse().ok());
        assert_eq!(mapped(&message(v6), key), "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().ok());
        assert_eq!(mapped(&message(v4), b"another transactions"), None);
        assert_eq!(mapped(&message(&v4[..10]), key), None);
        assert_eq!(mapped(&message(b""), key), None);
    }
}
