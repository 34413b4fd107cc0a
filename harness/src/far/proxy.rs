//! The proxy of a world: forwards what a rule's listener is handed to that rule's host, as an opaque
//! listener of a real one does, and resets what its catch-all is handed. It decides nothing.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream, UdpSocket},
};

use crate::{
    scenario::types::{PortSpec, Proxy, Rule, Scenario},
    world::World,
};

/// Longest datagram.
const LONGEST: usize = 65_535;

/// What the proxy of a case listens for.
pub(crate) struct Plan {
    listeners: Vec<Listener>,
    catch_all: Option<u16>,
}

/// A port, and where it leads.
#[derive(Clone)]
struct Listener {
    port: u16,
    udp: bool,
    hosts: Vec<IpAddr>,
    host_port: u16,
}

impl Plan {
    /// The listeners that the rules of a case name, those of its steps included.
    ///
    /// # Errors
    /// Why a listener leads nowhere.
    pub fn of(proxy: &Proxy, scenario: &Scenario) -> Result<Self, String> {
        let lists = scenario.steps.iter().filter_map(|step| step.rules.as_ref());
        let mut listeners: Vec<Listener> = Vec::new();
        for rule in scenario.rules.iter().chain(lists.flatten()) {
            if let Some(listener) = Listener::of(rule, scenario)?
                && !listeners.iter().any(|other| (other.port, other.udp) == (listener.port, listener.udp))
            {
                listeners.push(listener);
            }
        }
        Ok(Self { listeners, catch_all: proxy.catch_all })
    }

    /// Binds every listener, over both families, and serves.
    pub async fn start(self) -> io::Result<()> {
        let (v4, v6) = World::proxy();
        for address in [IpAddr::V4(v4), IpAddr::V6(v6)] {
            for listener in &self.listeners {
                let local = SocketAddr::new(address, listener.port);
                let to = listener.hosts.iter().find(|host| host.is_ipv4() == address.is_ipv4());
                let to = to.map(|host| SocketAddr::new(*host, listener.host_port));
                if listener.udp {
                    tokio::spawn(datagrams(Arc::new(UdpSocket::bind(local).await?), to));
                } else {
                    tokio::spawn(connections(TcpListener::bind(local).await?, to));
                }
            }
            if let Some(port) = self.catch_all {
                tokio::spawn(connections(TcpListener::bind(SocketAddr::new(address, port)).await?, None));
            }
        }
        Ok(())
    }
}

impl Listener {
    fn of(rule: &Rule, scenario: &Scenario) -> Result<Option<Self>, String> {
        let Some(port) = rule.listener else { return Ok(None) };
        let host = scenario.hosts.iter().find(|(name, _)| name.eq_ignore_ascii_case(&rule.dst));
        let hosts = match (host, rule.dst.parse::<IpAddr>()) {
            (Some((_, host)), _) => host.addr.clone(),
            (None, Ok(address)) => vec![address],
            // A wildcard or a prefix says nothing of where a connection was meant to go; a real proxy reads
            // the name in it.
            (None, Err(_)) => {
                return Err(format!("listener {port}: {} is no host of the case", rule.dst));
            }
        };
        let host_port = match &rule.port {
            Some(PortSpec::One(port)) => Some(*port),
            Some(PortSpec::Range(range)) => range.split('-').next().and_then(|first| first.parse().ok()),
            None => match rule.proto.as_str() {
                "https" => Some(443),
                "http" => Some(80),
                "ssh" => Some(22),
                _ => None,
            },
        };
        let host_port = host_port.ok_or_else(|| format!("listener {port}: the rule has no port"))?;
        Ok(Some(Self { port, udp: rule.proto == "udp", hosts, host_port }))
    }
}

/// Forwards connections; without a destination, reads what the client says first and resets.
async fn connections(listener: TcpListener, to: Option<SocketAddr>) {
    loop {
        // A peer that was gone before it was accepted is none.
        let Ok((client, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            // How it ends is seen by the client.
            let _ = forward(client, to).await;
        });
    }
}

async fn forward(mut client: TcpStream, to: Option<SocketAddr>) -> io::Result<()> {
    let upstream = match to {
        Some(to) => TcpStream::connect(to).await.ok(),
        None => {
            let mut first = [0; 1];
            client.read_exact(&mut first).await?;
            None
        }
    };
    let Some(mut upstream) = upstream else { return client.set_zero_linger() };
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}

/// Forwards datagrams, each client's through a socket of its own.
async fn datagrams(socket: Arc<UdpSocket>, to: Option<SocketAddr>) {
    let Some(to) = to else { return };
    let mut buffer = vec![0; LONGEST];
    let mut upstreams: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let upstream = match upstreams.get(&client) {
            Some(upstream) => Arc::clone(upstream),
            None => {
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let Ok(upstream) = UdpSocket::bind(any).await else { continue };
                if upstream.connect(to).await.is_err() {
                    continue;
                }
                let upstream = Arc::new(upstream);
                tokio::spawn(answers(Arc::clone(&upstream), Arc::clone(&socket), client));
                upstreams.insert(client, Arc::clone(&upstream));
                upstream
            }
        };
        // What the host refuses is lost, as datagrams are.
        let _ = upstream.send(buffer.get(..length).unwrap_or_default()).await;
    }
}

async fn answers(upstream: Arc<UdpSocket>, socket: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; LONGEST];
    while let Ok(length) = upstream.recv(&mut buffer).await {
        let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), client).await;
    }
}
