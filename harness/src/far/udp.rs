//! UDP servers.

use std::{collections::HashMap, io, net::SocketAddr, sync::Arc};

use tokio::net::UdpSocket;

use super::tally::{L4, Tally};
use crate::scenario::types::{Reply, Serve};

/// Longest UDP payload over IPv4.
const LONGEST: u64 = 65_507;

/// Serves on `local`.
pub async fn start(local: SocketAddr, serve: &Serve, tally: &Arc<Tally>) -> io::Result<()> {
    let reply = serve.reply;
    if !matches!(reply, Reply::Echo | Reply::Sink | Reply::Source) {
        return Err(io::Error::other("a udp server replies echo, sink or source"));
    }
    if serve.bytes > LONGEST {
        return Err(io::Error::other(format!("a datagram holds at most {LONGEST} bytes")));
    }
    let answer = vec![b's'; usize::try_from(serve.bytes).unwrap_or_default()];
    let socket = UdpSocket::bind(local).await?;
    let tally = Arc::clone(tally);
    tokio::spawn(async move {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let mut peers = HashMap::new();
        loop {
            let (len, peer) = match socket.recv_from(&mut buffer).await {
                Ok(datagram) => datagram,
                // An answer to an earlier datagram was refused; the next one is another matter.
                Err(_) => continue,
            };
            let id = *peers.entry(peer).or_insert_with(|| tally.open(L4::Udp, local, peer));
            tally.add(id, len, 0);
            let sent = match reply {
                Reply::Echo => socket.send_to(&buffer[..len], peer).await,
                Reply::Source => socket.send_to(&answer, peer).await,
                _ => continue,
            };
            tally.add(id, 0, sent.unwrap_or_default());
        }
    });
    Ok(())
}
