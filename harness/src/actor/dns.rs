//! Look-ups as the agent: one UDP query to the first nameserver of /etc/resolv.conf.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{DNSClass, Name, RData, RecordType},
};
use nix::sys::socket::MsgFlags;

use super::{
    Report, Stop,
    udp::{self, Socket},
};
use crate::scenario::types::Family;

/// What an agent's libc would do without `options timeout:`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Both families, over one socket as libc asks; `NODATA` if the name has neither.
pub fn run(name: &str, report: &mut Report) -> Result<(), Stop> {
    let client = Client::open()?;
    report.dst = Some(client.server);
    report.src = client.socket.local();
    let mut found = client.ask(name, RecordType::A)?;
    found.extend(client.ask(name, RecordType::AAAA)?);
    report.resolved = found;
    if report.resolved.is_empty() { Err(no_address(name)) } else { Ok(()) }
}

/// The first address of `name`; without a family, IPv4 if it has one.
pub fn one(name: &str, family: Option<Family>, report: &mut Report) -> Result<IpAddr, Stop> {
    let kinds: &[RecordType] = match family {
        Some(Family::V4 | Family::Mapped) => &[RecordType::A],
        Some(Family::V6) => &[RecordType::AAAA],
        None => &[RecordType::A, RecordType::AAAA],
    };
    let client = Client::open()?;
    for &kind in kinds {
        report.resolved = client.ask(name, kind)?;
        if let Some(&first) = report.resolved.first() {
            return Ok(first);
        }
    }
    Err(no_address(name))
}

fn no_address(name: &str) -> Stop {
    Stop::new("NODATA", format!("`{name}` exists but has no such address"))
}

/// A socket connected to the nameserver: one flow, whatever it is asked.
struct Client {
    socket: Socket,
    server: SocketAddr,
    timeout: Duration,
}

impl Client {
    fn open() -> Result<Self, Stop> {
        let (server, timeout) = resolver()?;
        let socket = Socket::open(server)?;
        socket.connect(server)?;
        Ok(Self { socket, server, timeout })
    }

    fn ask(&self, name: &str, kind: RecordType) -> Result<Vec<IpAddr>, Stop> {
        let server = self.server;
        let absolute = Name::from_str(&format!("{}.", name.trim_end_matches('.')))
            .map_err(|error| Stop::new("EINVAL", format!("`{name}` is not a name: {error}")))?;
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(absolute, kind));
        let bytes = query.to_vec().map_err(|error| Stop::new("EINVAL", format!("`{name}`: {error}")))?;
        self.socket.send(&bytes).map_err(Stop::errno("send to the nameserver"))?;
        let deadline = Instant::now() + self.timeout;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            if !udp::readable(&self.socket, deadline) {
                return Err(Stop::new("timeout", format!("no answer from {server} about {name}")));
            }
            let (len, _) = self
                .socket
                .receive(&mut buffer, MsgFlags::empty())
                .map_err(Stop::errno("receive from the nameserver"))?;
            let Ok(answer) = Message::from_vec(&buffer[..len]) else { continue };
            if answer.metadata.id != query.metadata.id {
                continue;
            }
            return match answer.metadata.response_code {
                ResponseCode::NoError => Ok(addresses(&answer)),
                code => Err(Stop { outcome: word(code), detail: format!("{server} about {name}") }),
            };
        }
    }
}

/// A code as outcomes have it.
pub(super) fn word(code: ResponseCode) -> String {
    match code {
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        other => other.to_str().to_uppercase(),
    }
}

/// A type by its name or number.
pub(crate) fn kind(text: &str) -> Option<RecordType> {
    text.parse::<u16>().ok().map(RecordType::from).or_else(|| RecordType::from_str(text).ok())
}

/// A class by its name or number.
pub(crate) fn class(text: &str) -> Option<DNSClass> {
    text.parse::<u16>().ok().map(DNSClass::from).or_else(|| DNSClass::from_str(text).ok())
}

fn addresses(answer: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(v4) => Some(IpAddr::V4(v4.0)),
        RData::AAAA(v6) => Some(IpAddr::V6(v6.0)),
        _ => None,
    };
    answer.answers.iter().filter_map(|record| address(&record.data)).collect()
}

/// Address and time-out of the first nameserver.
pub(super) fn resolver() -> Result<(SocketAddr, Duration), Stop> {
    let text = fs::read_to_string("/etc/resolv.conf")
        .map_err(|error| Stop::new("EINVAL", format!("/etc/resolv.conf: {error}")))?;
    let mut server = None;
    let mut timeout = DEFAULT_TIMEOUT;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") if server.is_none() => {
                server = words.next().and_then(|word| word.parse().ok())
            }
            Some("options") => {
                let seconds = words.find_map(|word| word.strip_prefix("timeout:")?.parse().ok());
                timeout = seconds.map_or(timeout, Duration::from_secs);
            }
            _ => {}
        }
    }
    let server: IpAddr = server.ok_or_else(|| Stop::new("EINVAL", "/etc/resolv.conf names no server"))?;
    Ok((SocketAddr::new(server, 53), timeout))
}
