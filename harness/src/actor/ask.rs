//! One DNS question as the agent, of any name and type.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{
        Name,
        rdata::opt::{ClientSubnet, EdnsOption},
    },
};

use super::{Report, Stop, dns};
use crate::scenario::types::Ask;

/// What is taken over UDP, bytes (RFC 9715).
const LONGEST_DATAGRAM: u16 = 1232;

/// Asks, and takes whatever answers it.
pub fn run(ask: &Ask, report: &mut Report) -> Result<(), Stop> {
    let (own, timeout) = dns::resolver()?;
    let server = ask.at.map_or(own, |at| SocketAddr::new(at, own.port()));
    report.dst = Some(server);
    let question = question(ask)?;
    let bytes = question.to_vec().map_err(|error| Stop::new("EINVAL", error.to_string()))?;
    let answer = if ask.tcp {
        by_tcp(server, timeout, &bytes, report)?
    } else {
        by_udp(server, timeout, &bytes, report)?
    };
    let answer = Message::from_vec(&answer).map_err(|error| Stop::new("EPROTO", error.to_string()))?;
    if answer.metadata.id != question.metadata.id {
        return Err(Stop::new("EPROTO", "the answer is to another question"));
    }
    match answer.metadata.response_code {
        ResponseCode::NoError => Ok(()),
        code => Err(Stop::new(&dns::word(code), format!("{server} about {}", ask.name))),
    }
}

fn question(ask: &Ask) -> Result<Message, Stop> {
    let wrong = |what: &str| Stop::new("EINVAL", format!("`{}`: {what}", ask.name));
    let labels = ask.labels().map_err(|why| wrong(&why.to_string()))?;
    let name =
        Name::from_labels(labels.iter().map(Vec::as_slice)).map_err(|error| wrong(&error.to_string()))?;
    let mut query = Query::query(name, dns::kind(&ask.kind).ok_or_else(|| wrong("no type"))?);
    query.set_query_class(dns::class(&ask.class).ok_or_else(|| wrong("no class"))?);
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(query);
    if let Some(subnet) = ask.subnet {
        let mut edns = Edns::new();
        edns.set_max_payload(LONGEST_DATAGRAM);
        let option = ClientSubnet::new(subnet.network(), subnet.prefix_len(), 0);
        edns.options_mut().insert(EdnsOption::Subnet(option));
        message.set_edns(edns);
    }
    Ok(message)
}

fn by_udp(
    server: SocketAddr,
    timeout: Duration,
    question: &[u8],
    report: &mut Report,
) -> Result<Vec<u8>, Stop> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).map_err(Stop::io("bind"))?;
    socket.connect(server).map_err(Stop::io("connect"))?;
    report.src = socket.local_addr().ok();
    socket.set_read_timeout(Some(timeout)).map_err(Stop::io("set a time-out"))?;
    report.sent += socket.send(question).map_err(Stop::io("send to the name server"))? as u64;
    let mut answer = vec![0; usize::from(u16::MAX)];
    let length = socket.recv(&mut answer).map_err(|error| unanswered(&error, server))?;
    report.received += length as u64;
    answer.truncate(length);
    Ok(answer)
}

/// RFC 1035, 4.2.2: each message is preceded by its length.
fn by_tcp(
    server: SocketAddr,
    timeout: Duration,
    question: &[u8],
    report: &mut Report,
) -> Result<Vec<u8>, Stop> {
    let mut stream = TcpStream::connect(server).map_err(Stop::io("connect to the name server"))?;
    report.src = stream.local_addr().ok();
    stream.set_read_timeout(Some(timeout)).map_err(Stop::io("set a time-out"))?;
    let length =
        u16::try_from(question.len()).map_err(|_| Stop::new("EMSGSIZE", "the question is too long"))?;
    let framed = [&length.to_be_bytes(), question].concat();
    stream.write_all(&framed).map_err(Stop::io("send to the name server"))?;
    report.sent += framed.len() as u64;
    let mut length = [0; 2];
    stream.read_exact(&mut length).map_err(|error| unanswered(&error, server))?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).map_err(|error| unanswered(&error, server))?;
    report.received += (length.len() + answer.len()) as u64;
    Ok(answer)
}

fn unanswered(error: &std::io::Error, server: SocketAddr) -> Stop {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    if matches!(error.kind(), TimedOut | WouldBlock) {
        return Stop::new("timeout", format!("no answer from {server}"));
    }
    match error.raw_os_error() {
        Some(errno) => Stop::errno("receive from the name server")(nix::errno::Errno::from_raw(errno)),
        None => Stop::new("EPROTO", format!("receive from the name server: {error}")),
    }
}
