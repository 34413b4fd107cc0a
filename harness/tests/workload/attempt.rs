//! What an agent does in one step.

use std::net::IpAddr;

use harness::model::Proto;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::scenario::{ADDRESSES, NAME, NAMED};

/// Ports that are served, over both transports.
const SERVED: [u16; 2] = [443, 123];
/// First of the ports that floods go to; none is served.
const UNSERVED: u16 = 1000;

/// One step of one agent.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Whose; of fewer agents, one of them.
    pub agent: usize,
    /// Where to: an address of a host, or the name.
    pub to: To,
    /// What.
    pub call: Call,
}

/// A destination.
#[derive(Clone, Copy, Debug)]
pub enum To {
    /// Index into [`ADDRESSES`].
    Address(usize),
    /// The name, over IPv6 or IPv4.
    Name(bool),
}

/// What is called.
#[derive(Clone, Debug)]
pub enum Call {
    /// A connection that carries so much both ways.
    Connect { port: u16, bytes: u32 },
    /// Datagrams from one socket.
    Send { port: u16, count: u32, via: &'static str },
    /// Many attempts: to a port that is served, or to several that are not.
    Flood { tcp: bool, ports: Option<u16>, count: u32, rate: Option<u32> },
}

fn call() -> impl Strategy<Value = Call> {
    let port = || proptest::sample::select(&SERVED[..]);
    let via = proptest::sample::select(&["sendto", "sendmsg", "connected"][..]);
    let ports = proptest::option::of(1..50_u16);
    prop_oneof![
        3 => (port(), 0..3000_u32).prop_map(|(port, bytes)| Call::Connect { port, bytes }),
        3 => (port(), 1..20_u32, via).prop_map(|(port, count, via)| Call::Send { port, count, via }),
        2 => (any::<bool>(), ports, 1..200_u32, proptest::option::of(200..2000_u32))
            .prop_map(|(tcp, ports, count, rate)| Call::Flood { tcp, ports, count, rate }),
    ]
}

/// Any step of one of so many agents.
pub fn any_of(agents: usize) -> impl Strategy<Value = Attempt> {
    let to = prop_oneof![
        4 => (0..ADDRESSES.len()).prop_map(To::Address),
        1 => any::<bool>().prop_map(To::Name),
    ];
    (0..agents, to, call()).prop_map(|(agent, to, call)| Attempt { agent, to, call })
}

/// One whose outcome does not depend on what other steps look up at the same time.
pub fn any_at_once(agents: usize) -> impl Strategy<Value = Attempt> {
    any_of(agents).prop_map(|attempt| match attempt.to {
        To::Name(v6) => Attempt { to: To::Address(usize::from(v6)), ..attempt },
        To::Address(_) => attempt,
    })
}

impl Attempt {
    /// Its transport.
    pub const fn l4_proto(&self) -> Proto {
        match self.call {
            Call::Connect { .. } | Call::Flood { tcp: true, .. } => Proto::Tcp,
            Call::Send { .. } | Call::Flood { tcp: false, .. } => Proto::Udp,
        }
    }

    /// The address that it goes to, where its name, if it has one, resolves.
    pub fn address(&self) -> IpAddr {
        match self.to {
            To::Address(index) => ADDRESSES[index],
            To::Name(v6) => NAMED[usize::from(v6)],
        }
    }

    /// The ports that it goes to, first and last.
    pub const fn ports(&self) -> (u16, u16) {
        match self.call {
            Call::Connect { port, .. } | Call::Send { port, .. } => (port, port),
            // No further than it comes.
            Call::Flood { ports: Some(ports), count, .. } => {
                let ports = if count < ports as u32 { count as u16 } else { ports };
                (UNSERVED, UNSERVED + ports - 1)
            }
            Call::Flood { ports: None, .. } => (SERVED[0], SERVED[0]),
        }
    }

    /// Flows that it opens if it is let through.
    pub fn flows(&self) -> u64 {
        match self.call {
            Call::Connect { .. } | Call::Send { .. } => 1,
            Call::Flood { count, .. } => count.into(),
        }
    }

    /// What its call returns once it is let through.
    pub const fn permitted_outcome(&self) -> &'static str {
        match self.call {
            Call::Flood { tcp: true, ports: Some(_), .. } => "ECONNREFUSED",
            _ => "ok",
        }
    }

    /// As a step of a scenario.
    pub fn step(&self) -> Value {
        let (port, _) = self.ports();
        let (to, family) = match self.to {
            To::Name(v6) => (format!("{NAME}:{port}"), Some(if v6 { "v6" } else { "v4" })),
            To::Address(_) => (std::net::SocketAddr::new(self.address(), port).to_string(), None),
        };
        let (action, mut call) = match self.call {
            Call::Connect { bytes, .. } => ("connect", json!({"to": to, "send": bytes, "receive": bytes})),
            Call::Send { count, via, .. } => ("send", json!({"to": to, "count": count, "via": via})),
            Call::Flood { tcp, ports, count, rate } => {
                let proto = if tcp { "tcp" } else { "udp" };
                let mut flood =
                    json!({"to": to, "proto": proto, "count": count, "ports": ports.unwrap_or(1)});
                if let Some(rate) = rate {
                    flood["rate"] = rate.into();
                }
                ("flood", flood)
            }
        };
        if let Some(family) = family {
            call["family"] = family.into();
        }
        json!({action: call})
    }
}
