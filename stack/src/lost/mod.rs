//! What emitters lost in their own memory: Envoy and CoreDNS tell of what they did by and by, and what a kill finds them
//! holding is told nowhere. It is derived: the kernel's flow to them is in the store, and no document of theirs is.
//!
//! A flow is told of by one document, however many requests there were on it: of which of them nothing is told is not derived. Of
//! questions over UDP it is how many: each is a datagram, which the kernel counts.
//!
//! The reverse is looked at as well: a document of theirs whose flow is nowhere.

mod compare;
mod read;
mod report;

use std::net::{IpAddr, Ipv6Addr};

pub use compare::compare;
pub use report::{Lost, Row, Tally};
use serde_json::{Value, json};

use crate::{Lane, Listeners};

/// Where name servers are asked.
const DNS: u64 = 53;

/// How exactly the kernel's time and an emitter's agree, milliseconds: one machine's clock, read at two places.
pub const EXACT: i64 = 1000;

/// Whose documents are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Emitter {
    /// Envoy.
    Proxy,
    /// CoreDNS.
    Resolver,
}

impl Emitter {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Proxy, Self::Resolver];

    /// Its lane.
    #[must_use]
    pub const fn lane(self) -> Lane {
        match self {
            Self::Proxy => Lane::Envoy,
            Self::Resolver => Lane::Coredns,
        }
    }

    /// Whether a flow with these attributes was handed to it. Questions are also under a bypass, under which nothing else is.
    #[must_use]
    pub fn was_handed(self, attributes: &Value) -> bool {
        let port = |name: &str| attributes.get(name).and_then(Value::as_u64);
        match (self, attributes.get("reason").and_then(Value::as_str)) {
            (Self::Proxy, Some("redirected")) | (Self::Resolver, Some("dns")) => true,
            (Self::Resolver, Some("bypass")) => {
                port("dst_port") == Some(DNS) && port("actual_dst_port") != Some(DNS)
            }
            _ => false,
        }
    }

    /// The same, as the store is asked for such flows.
    #[must_use]
    pub fn handed(self) -> Value {
        let reason = |reason: &str| json!({"term": {"attributes.reason": reason}});
        match self {
            Self::Proxy => reason("redirected"),
            Self::Resolver => json!({"bool": {"minimum_should_match": 1, "should": [reason("dns"), {"bool": {
                "filter": [reason("bypass"), {"term": {"attributes.dst_port": DNS}}],
                "must_not": {"term": {"attributes.actual_dst_port": DNS}},
            }}]}}),
        }
    }

    /// What it is called in a sentence.
    #[must_use]
    pub const fn called(self) -> &'static str {
        match self {
            Self::Proxy => "the proxy",
            Self::Resolver => "CoreDNS",
        }
    }

    /// Whether a connection to this port of it on which the container said nothing is told of. Envoy chooses a chain, whose log
    /// tells, only once it looked at what was said; what it hands on as it is needs no looking.
    #[must_use]
    pub const fn tells_of_silence(self, port: u16, listeners: &Listeners) -> bool {
        match self {
            Self::Proxy => port != listeners.https && port != listeners.http && port != listeners.catch_all,
            Self::Resolver => false,
        }
    }
}

/// What a flow and its documents have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The container's address; IPv4 in its mapped form, which is how the store orders addresses.
    ip: Ipv6Addr,
    /// Its port.
    port: u16,
    /// The emitter's port, where its documents say so; else 0.
    at: u16,
}

impl Key {
    /// Of a source, and of the emitter's port if that is known of both.
    #[must_use]
    pub fn new(ip: IpAddr, port: u16, at: Option<u16>) -> Self {
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { ip, port, at: at.unwrap_or_default() }
    }
}

/// Whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// Label.
    pub agent: String,
    /// Label.
    pub project: String,
    /// The runtime's identifier.
    pub container_id: String,
}

impl Who {
    /// Whether this, as an emitter says it, may be that, as the kernel's record has it: whom one of them does not know is anybody.
    fn may_be(&self, other: &Self) -> bool {
        self.container_id == other.container_id
            || self.container_id.is_empty()
            || other.container_id.is_empty()
    }
}

/// A flow to an emitter that ended.
#[derive(Clone, Debug)]
pub struct Flow {
    /// What its documents have too.
    pub key: Key,
    /// When it began, milliseconds since 1970.
    pub begin: i64,
    /// When it ended.
    pub end: i64,
    /// `event_id`; empty if it has none.
    pub id: String,
    /// Whose it is.
    pub who: Who,
    /// Whether the emitter took it: one that was refused or got no answer left nothing to tell.
    pub taken: bool,
    /// Whether the container said nothing on it, of which the emitter does not tell.
    pub silent: bool,
    /// Documents that there should be, where it is known: one for each question over UDP. Else 0.
    pub questions: u64,
}

/// A document of the emitter.
#[derive(Clone, Debug)]
pub struct Document {
    /// What its flow has too.
    pub key: Key,
    /// When what it tells of began, milliseconds since 1970.
    pub begin: i64,
    /// `event_id`; empty if it has none.
    pub id: String,
    /// Whose it says it is.
    pub who: Who,
    /// Whether its flow is over by now. A request's connection may go on.
    pub over: bool,
}

/// What is looked at, and how exactly times agree; milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Flows that ended, and documents of what began, since this are judged.
    pub from: i64,
    /// And until this: what is younger may still be on its way.
    pub until: i64,
    /// A document may have a time of so much before its flow began.
    pub before: i64,
    /// And of so much after it ended.
    pub after: i64,
}

impl Window {
    fn is_within(&self, time: i64) -> bool {
        (self.from..=self.until).contains(&time)
    }
}
