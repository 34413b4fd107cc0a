//! The authoritative DNS server of the scenario's names, over UDP and TCP.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType},
};
use indexmap::IndexMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

use super::tally::Tally;
use crate::scenario::types::Host;

/// What the server takes over UDP, bytes (RFC 9715).
const LONGEST_DATAGRAM: u16 = 1232;

/// One question that reached the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Lower case, presentation form, without the final dot.
    pub name: String,
    /// `A`, `AAAA`, `HTTPS`, …
    pub kind: String,
    /// When it was read.
    pub at: Instant,
    /// Who asked.
    pub peer: SocketAddr,
}

struct Zone {
    hosts: HashMap<String, Answers>,
    /// What was asked already, of names that rebind.
    asked: Mutex<HashSet<(String, RecordType)>>,
    tally: Arc<Tally>,
}

/// What a name resolves to.
struct Answers {
    ttl: u32,
    first: Vec<IpAddr>,
    /// From the second question of a type on; empty if nothing changes.
    later: Vec<IpAddr>,
}

/// Serves `hosts` on `local`.
pub async fn start(local: SocketAddr, hosts: &IndexMap<String, Host>, tally: &Arc<Tally>) -> io::Result<()> {
    let udp = UdpSocket::bind(local).await?;
    let tcp = TcpListener::bind(local).await?;
    let answers =
        |host: &Host| Answers { ttl: host.ttl, first: host.addr.clone(), later: host.rebinds.clone() };
    let hosts = hosts.iter().map(|(name, host)| (plain(name), answers(host))).collect();
    let zone = Arc::new(Zone { hosts, asked: Mutex::default(), tally: Arc::clone(tally) });
    tokio::spawn(serve_tcp(tcp, Arc::clone(&zone)));
    tokio::spawn(async move {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            let Ok((len, peer)) = udp.recv_from(&mut buffer).await else {
                continue;
            };
            if let Some(answer) = zone.answer(&buffer[..len], peer, true) {
                // A peer that is gone is not the server's concern.
                let _ = udp.send_to(&answer, peer).await;
            }
        }
    });
    Ok(())
}

async fn serve_tcp(listener: TcpListener, zone: Arc<Zone>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(converse(stream, peer, Arc::clone(&zone)));
            }
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// RFC 1035, 4.2.2: each message is preceded by its length.
async fn converse(mut stream: TcpStream, peer: SocketAddr, zone: Arc<Zone>) -> io::Result<()> {
    loop {
        let len = stream.read_u16().await?;
        let mut message = vec![0; usize::from(len)];
        stream.read_exact(&mut message).await?;
        let Some(answer) = zone.answer(&message, peer, false) else {
            return Ok(());
        };
        let len = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&[&len.to_be_bytes(), answer.as_slice()].concat()).await?;
    }
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

impl Zone {
    /// What a name resolves to now that it is asked for.
    fn now<'a>(&self, name: &str, kind: RecordType, answers: &'a Answers) -> &'a [IpAddr] {
        if answers.later.is_empty() {
            return &answers.first;
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.insert((name.to_owned(), kind)) { &answers.first } else { &answers.later }
    }

    /// The answer to `request`, or `None` to what is no query at all.
    fn answer(&self, request: &[u8], peer: SocketAddr, datagram: bool) -> Option<Vec<u8>> {
        let request = Message::from_vec(request).ok()?;
        if request.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut response = Message::response(request.metadata.id, request.metadata.op_code);
        response.metadata.recursion_desired = request.metadata.recursion_desired;
        response.metadata.authoritative = true;
        response.add_queries(request.queries.iter().cloned());
        if request.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(LONGEST_DATAGRAM);
            response.set_edns(edns);
        }
        match request.queries.as_slice() {
            [query] if request.metadata.op_code == OpCode::Query => {
                let name = plain(&query.name().to_string());
                self.tally.asked(Query {
                    name: name.clone(),
                    kind: query.query_type().to_string(),
                    at: Instant::now(),
                    peer,
                });
                response.metadata.response_code = match self.hosts.get(&name) {
                    Some(answers) if query.query_class() == DNSClass::IN => {
                        let addresses = self.now(&name, query.query_type(), answers);
                        response.add_answers(records(
                            query.name(),
                            query.query_type(),
                            answers.ttl,
                            addresses,
                        ));
                        ResponseCode::NoError
                    }
                    _ => ResponseCode::NXDomain,
                };
            }
            _ => response.metadata.response_code = ResponseCode::NotImp,
        }
        let bytes = response.to_vec().ok()?;
        if datagram && bytes.len() > usize::from(request.max_payload()) {
            return response.truncate().to_vec().ok();
        }
        Some(bytes)
    }
}

fn records(name: &Name, kind: RecordType, ttl: u32, addresses: &[IpAddr]) -> Vec<Record> {
    addresses
        .iter()
        .filter_map(|address| match (address, kind) {
            (IpAddr::V4(v4), RecordType::A) => Some(RData::A((*v4).into())),
            (IpAddr::V6(v6), RecordType::AAAA) => Some(RData::AAAA((*v6).into())),
            _ => None,
        })
        .map(|data| Record::from_rdata(name.clone(), ttl, data))
        .collect()
}
