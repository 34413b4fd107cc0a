//! CoreDNS in front of a case's resolver views: configured as it ships, beside the hosts of the far side, and its log where
//! the collector reads it.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use stack::{
    Lane,
    coredns::{LINE, View, corefile, is_served},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    FireError,
    act::uninterrupted,
    cell::Case,
    containers,
    server::Server,
    streams::{STREAM_LIMIT, once},
};
use crate::{
    docker::{Network, Order},
    judge::{AgentEvidence, attribute},
    plane::Plane,
    scenario::types::Rule,
    world::World,
};

/// Where it serves nobody, beside the proxy; those of agents follow.
const PORT: u16 = 5300;
/// Its file, in its folder.
const COREFILE: &str = "Corefile";
/// How long it may take until it listens, or has taken up another file.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Where it says what it serves, on the far side's loopback.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9153);

/// A running CoreDNS.
pub(super) struct Coredns {
    server: Server,
    folder: TempDir,
    log: TempDir,
    /// How many agents it serves.
    rooms: usize,
}

/// Where the DNS of agent `room` is sent to.
pub(super) fn addresses(room: usize) -> [SocketAddr; 2] {
    hosts().map(|address| SocketAddr::new(address, port(room)))
}

/// Where the resolver view of agent `room` listens, behind it.
pub(super) fn view(room: usize) -> SocketAddr {
    ([127, 0, 0, 1], port(room)).into()
}

fn hosts() -> [IpAddr; 2] {
    let (v4, v6) = World::proxy();
    [v4.into(), v6.into()]
}

fn port(room: usize) -> u16 {
    // There are never so many.
    let number = u16::try_from(room).unwrap_or(u16::MAX - PORT - 1);
    PORT + 1 + number
}

impl Coredns {
    /// Starts it on the far side of `world` with the rules of each agent, and waits until it listens.
    pub fn start(
        case: Case<'_, '_>,
        world: &World,
        rules: &[Vec<Rule>],
        plane: &Plane,
    ) -> Result<Self, FireError> {
        let name = format!("coredns-{}", case.id);
        let folder = plane.folder(&name).map_err(problem("make its folder"))?;
        let log = plane.log_folder(&name).map_err(problem("make its log's folder"))?;
        configure(case, world, rules, &folder)?;
        let far =
            world.far_house().ok_or_else(|| FireError::Coredns("the far side is no container".to_owned()))?;
        let order = Order::new("coredns", "coredns", Network::Of(far.to_owned()))
            .sees(folder.path(), "/etc/coredns")
            .keeps(log.path(), "/var/log/coredns");
        let server = Server::new(plane.docker().start(order)?);
        let coredns = Self { server, folder, log, rooms: rules.len() };
        coredns.serves(world)?;
        Ok(coredns)
    }

    /// Has it know the containers that `world` has now, without a restart.
    pub fn apply(&self, case: Case<'_, '_>, world: &World, rules: &[Vec<Rule>]) -> Result<(), FireError> {
        configure(case, world, rules, &self.folder)?;
        self.is_back(world)
    }

    /// Ends it as an operator would, and starts it again.
    pub fn restart(&self, world: &World) -> Result<(), FireError> {
        self.server.is_back()?;
        {
            let mut container = self.server.container();
            container.stop()?;
            container.start()?;
        }
        self.serves(world)
    }

    /// All that it said on its standard output and error.
    pub fn log(&self) -> Result<String, FireError> {
        self.server.log()
    }

    /// Kills it, and has it back after `length`.
    pub fn leave(&self, length: Duration) -> Result<(), FireError> {
        self.server.leave(length)
    }

    /// Waits until it serves, if it was stopped.
    pub fn is_back(&self, world: &World) -> Result<(), FireError> {
        self.server.is_back()?;
        self.serves(world)
    }

    /// Ends it, and returns the documents of all that it logged once each of its lines has one. Those of whoever was no
    /// container are among them.
    pub fn documents(self, case: Case<'_, '_>, agents: &[AgentEvidence]) -> Result<Vec<Value>, FireError> {
        self.server.container().stop()?;
        let mut lines: HashMap<Line, usize> = HashMap::new();
        for line in self.logged()?.lines().filter_map(Line::read) {
            *lines.entry(line).or_default() += 1;
        }
        let (lab, stream) = (case.lab, Lane::Coredns.stream());
        let ids: HashSet<&str> = agents.iter().map(|agent| agent.container_id.as_str()).collect();
        let is_ours = |document: &Value| {
            let id = attribute(document, "container_id").as_str().unwrap_or_default();
            ids.contains(id)
                || id.is_empty() && Line::of(document).is_some_and(|line| lines.contains_key(&line))
        };
        let mut end = Instant::now() + STREAM_LIMIT;
        loop {
            uninterrupted()?;
            let mut documents = lab.endpoint.documents(&stream, is_ours);
            once(&mut documents);
            let mut found: HashMap<Line, usize> = HashMap::new();
            for line in documents.iter().filter_map(Line::of) {
                *found.entry(line).or_default() += 1;
            }
            let missing =
                lines.iter().find(|(line, count)| found.get(line).is_none_or(|found| found < *count));
            let Some((line, _)) = missing else { return Ok(documents) };
            if lab.is_disturbed() {
                end = Instant::now() + STREAM_LIMIT;
            }
            if Instant::now() >= end {
                let why = lab.plane().map_or_else(String::new, Plane::explain);
                let problem = format!("a line of its log has no document: {line:?}: {why}");
                return Err(FireError::Coredns(problem));
            }
            thread::sleep(LOOK);
        }
    }

    /// All that it logged up to now.
    fn logged(&self) -> Result<String, FireError> {
        let read = || -> io::Result<String> {
            let mut text = Vec::new();
            for entry in fs::read_dir(self.log.path())? {
                let entry = entry?;
                let name = entry.file_name();
                if name == "current" || name.as_encoded_bytes().starts_with(b"@") {
                    text.extend(fs::read(entry.path())?);
                }
            }
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        read().map_err(problem("read its log"))
    }

    /// Waits until it serves its file, and can be asked at each of its addresses.
    fn serves(&self, world: &World) -> Result<(), FireError> {
        let file = fs::read_to_string(self.folder.path().join(COREFILE)).map_err(problem("read its file"))?;
        self.until("does not serve its file", || {
            let page = world.far().run(page()).and_then(Result::ok).unwrap_or_default();
            Ok(is_served(&file, &page))
        })?;
        // In whatever order it takes them.
        let agents = (0..self.rooms).flat_map(addresses);
        for at in hosts().map(|address| SocketAddr::new(address, PORT)).into_iter().chain(agents) {
            let connects = || {
                let connected = async move { TcpStream::connect(at).await.is_ok() };
                Ok(world.far().run(connected).unwrap_or(false))
            };
            self.until(&format!("does not listen on {at}"), connects)?;
        }
        Ok(())
    }

    fn until(&self, what: &str, mut holds: impl FnMut() -> Result<bool, FireError>) -> Result<(), FireError> {
        let deadline = Instant::now() + LIMIT;
        while !holds()? {
            uninterrupted()?;
            if !self.server.container().is_running() || Instant::now() >= deadline {
                let logged = self.logged()?;
                let from = logged.ceil_char_boundary(logged.len().saturating_sub(2000));
                return Err(FireError::Coredns(format!("it {what}; it logged last:\n{}", &logged[from..])));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// What it says of itself.
async fn page() -> io::Result<String> {
    let mut stream = TcpStream::connect(METRICS).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

/// Writes its file, moved into its place.
fn configure(
    case: Case<'_, '_>,
    world: &World,
    rules: &[Vec<Rule>],
    folder: &TempDir,
) -> Result<(), FireError> {
    let containers = containers(case, world, rules)?;
    let views: Vec<View<'_>> = containers
        .iter()
        .enumerate()
        .map(|(room, container)| View { container, port: port(room), resolver: view(room) })
        .collect();
    let text = corefile(&hosts(), PORT, &views, METRICS);
    let (path, new) = (folder.path().join(COREFILE), folder.path().join("Corefile.new"));
    let write = || fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
    write().map_err(problem("write its file"))
}

fn problem(what: &str) -> impl FnOnce(io::Error) -> FireError {
    move |error| FireError::Coredns(format!("cannot {what}: {error}"))
}

/// What tells a question from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Line {
    src_ip: String,
    src_port: u64,
    dns_id: u64,
    qtype: String,
    qname: String,
}

impl Line {
    /// Of a line of the log, if it is about a question.
    fn read(line: &str) -> Option<Self> {
        let (_, line) = line.split_once(&format!(" [INFO] {LINE} "))?;
        // asker agent project container address port protocol id type class code flags size size duration name
        let fields: Vec<&str> = line.splitn(16, ' ').collect();
        let field = |at: usize| fields.get(at).copied();
        Some(Self {
            src_ip: field(4)?.trim_matches(['[', ']']).to_owned(),
            src_port: field(5)?.parse().ok()?,
            dns_id: field(7)?.parse().ok()?,
            qtype: field(8)?.to_owned(),
            qname: field(15)?.to_owned(),
        })
    }

    /// Of a document, if it is of such a line.
    fn of(document: &Value) -> Option<Self> {
        let text = |name| Some(attribute(document, name).as_str()?.to_owned());
        Some(Self {
            src_ip: text("src_ip")?,
            src_port: attribute(document, "src_port").as_u64()?,
            dns_id: attribute(document, "dns_id").as_u64()?,
            qtype: text("qtype")?,
            qname: text("qname")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_and_its_document_are_the_same_question() {
        let line = r"2026-11-29T16:41:42.12345 [INFO] clawker container =YQ== = =b25l [2001:db8::2] 4000 tcp 7 AAAA IN NXDOMAIN qr,aa 32 48 0.25s a\ b.test.";
        let document = json!({"attributes": {
            "src_ip": "2001:db8::2", "src_port": 4000, "dns_id": 7, "qtype": "AAAA", "qname": r"a\ b.test.",
        }});
        assert!(Line::read(line).is_some());
        assert_eq!(Line::read(line), Line::of(&document));
        assert_eq!(
            Line::read("2026-11-29T16:41:42.12345 [ERROR] plugin/errors: 2 a.test. A: unreachable"),
            None
        );
    }
}
