//! STUN servers (RFC 8489): a binding request is answered with where it came from.

use std::{collections::HashMap, io, net::SocketAddr, sync::Arc};

use tokio::net::UdpSocket;

use super::tally::{L4, Tally};

/// Serves on `local`.
pub async fn start(local: SocketAddr, tally: &Arc<Tally>) -> io::Result<()> {
    let socket = UdpSocket::bind(local).await?;
    let tally = Arc::clone(tally);
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        let mut peers = HashMap::new();
        loop {
            // An answer to an earlier request was refused; the next one is another matter.
            let Ok((len, peer)) = socket.recv_from(&mut buffer).await else { continue };
            let id = *peers.entry(peer).or_insert_with(|| tally.open(L4::Udp, local, peer));
            tally.add(id, len, 0);
            if let Some(answer) = answer(&buffer[..len], peer) {
                tally.add(id, 0, socket.send_to(&answer, peer).await.unwrap_or_default());
            }
        }
    });
    Ok(())
}

/// The answer to a binding request; `None` to anything else.
fn answer(request: &[u8], peer: SocketAddr) -> Option<Vec<u8>> {
    let (header, _) = request.split_at_checked(20)?;
    // Type and cookie.
    if header[..2] != [0x00, 0x01] || header[4..8] != [0x21, 0x12, 0xa4, 0x42] {
        return None;
    }
    let key = &header[4..];
    let (family, address) = match peer {
        SocketAddr::V4(v4) => (1, v4.ip().octets().to_vec()),
        SocketAddr::V6(v6) => (2, v6.ip().octets().to_vec()),
    };
    let hidden = |bytes: &[u8]| -> Vec<u8> { bytes.iter().zip(key).map(|(a, b)| a ^ b).collect() };
    let value = [&[0, family], hidden(&peer.port().to_be_bytes()).as_slice(), &hidden(&address)].concat();
    let len = value.len() as u8;
    // A success, with one attribute: XOR-MAPPED-ADDRESS.
    Some([&[0x01, 0x01, 0, len + 4], key, &[0x00, 0x20, 0, len], &value].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request and answers of RFC 5769, but for the attributes that only some servers send.
    #[test]
    fn a_request_is_answered_as_the_standard_s_samples_are() {
        let key = b"\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";
        let request = [b"\x00\x01\x00\x00", key.as_slice()].concat();
        let v4 = [b"\x01\x01\x00\x0c", key.as_slice(), b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43"];
        assert_eq!(answer(&request, "192.0.2.1:32853".parse().unwrap()), Some(v4.concat()));
        let v6 = [
            b"\x01\x01\x00\x18",
            key.as_slice(),
            b"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9",
        ];
        let peer = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        assert_eq!(answer(&request, peer), Some(v6.concat()));
        for other in [&request[..19], &v4.concat(), b""] {
            assert_eq!(answer(other, peer), None);
        }
    }
}
