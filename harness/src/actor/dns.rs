//! Look-ups as the agent: one UDP query to the first nameserver of /etc/resolv.conf.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use nix::sys::socket::MsgFlags;

use super::{
    Report, Stop,
    udp::{self, Socket},
};
use crate::scenario::types::Family;

/// What an agent's libc would do without `options timeout:`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Both families; `NODATA` if the name has neither.
pub fn run(name: &str, report: &mut Report) -> Result<(), Stop> {
    let mut found = ask(name, RecordType::A, report)?;
    found.extend(ask(name, RecordType::AAAA, report)?);
    if found.is_empty() {
        return Err(no_address(name));
    }
    report.resolved = found;
    Ok(())
}

/// The first address of `name`; without a family, IPv4 if it has one.
pub fn one(name: &str, family: Option<Family>, report: &mut Report) -> Result<IpAddr, Stop> {
    let kinds: &[RecordType] = match family {
        Some(Family::V4) => &[RecordType::A],
        Some(Family::V6) => &[RecordType::AAAA],
        None => &[RecordType::A, RecordType::AAAA],
    };
    for &kind in kinds {
        report.resolved = ask(name, kind, report)?;
        if let Some(&first) = report.resolved.first() {
            return Ok(first);
        }
    }
    Err(no_address(name))
}

fn no_address(name: &str) -> Stop {
    Stop::new("NODATA", format!("`{name}` exists but has no such address"))
}

fn ask(name: &str, kind: RecordType, report: &mut Report) -> Result<Vec<IpAddr>, Stop> {
    let (server, timeout) = resolver()?;
    let absolute = Name::from_str(&format!("{}.", name.trim_end_matches('.')))
        .map_err(|error| Stop::new("EINVAL", format!("`{name}` is not a name: {error}")))?;
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(absolute, kind));
    let bytes = query.to_vec().map_err(|error| Stop::new("EINVAL", format!("`{name}`: {error}")))?;

    report.dst = Some(server);
    let socket = Socket::open(server)?;
    socket.connect(server)?;
    report.src = socket.local();
    socket.send(&bytes).map_err(Stop::errno("send to the nameserver"))?;
    let deadline = Instant::now() + timeout;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        if !udp::readable(&socket, deadline) {
            return Err(Stop::new("timeout", format!("no answer from {server} about {name}")));
        }
        let (len, _) = socket
            .receive(&mut buffer, MsgFlags::empty())
            .map_err(Stop::errno("receive from the nameserver"))?;
        let Ok(answer) = Message::from_vec(&buffer[..len]) else {
            continue;
        };
        if answer.metadata.id != query.metadata.id {
            continue;
        }
        return match answer.metadata.response_code {
            ResponseCode::NoError => Ok(addresses(&answer)),
            ResponseCode::NXDomain => Err(Stop::new("NXDOMAIN", format!("{server} knows no {name}"))),
            ResponseCode::Refused => {
                Err(Stop::new("REFUSED", format!("{server} refused to answer about {name}")))
            }
            ResponseCode::ServFail => {
                Err(Stop::new("SERVFAIL", format!("{server} failed to answer about {name}")))
            }
            other => Err(Stop::new(&other.to_str().to_uppercase(), format!("{server} about {name}"))),
        };
    }
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
fn resolver() -> Result<(SocketAddr, Duration), Stop> {
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
