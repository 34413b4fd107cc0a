//! Flows and documents, as they are in a stream.

use std::net::IpAddr;

use serde_json::Value;

use super::{Document, Emitter, Flow, Key, Who};
use crate::Listeners;

impl Flow {
    /// A document of the reader's that has these attributes, and whose time is `end`, milliseconds since 1970. What was
    /// not handed to this emitter is none.
    ///
    /// # Errors
    /// Names an attribute that it must have.
    pub fn read(
        emitter: Emitter,
        attributes: &Value,
        end: i64,
        listeners: &Listeners,
    ) -> Result<Self, &'static str> {
        let of = Attributes(attributes);
        if !emitter.was_handed(attributes) {
            return Err("reason");
        }
        let at = of.port("actual_dst_port")?;
        let length =
            of.number("duration_ms").and_then(|length| i64::try_from(length).ok()).unwrap_or_default();
        Ok(Self {
            key: of.key((emitter == Emitter::Proxy).then_some(at))?,
            begin: end.saturating_sub(length),
            end,
            id: of.text("event_id").to_owned(),
            who: of.who(),
            taken: !matches!(of.text("close_reason"), "refused" | "timeout"),
            silent: of.number("bytes_out").unwrap_or_default() == 0
                && !emitter.tells_of_silence(at, listeners),
            questions: if emitter == Emitter::Resolver && of.text("l4_proto") == "udp" {
                of.number("packets_out").unwrap_or_default()
            } else {
                0
            },
        })
    }
}

impl Document {
    /// A document of this emitter's that has these attributes, and whose time is `begin`, milliseconds since 1970.
    ///
    /// # Errors
    /// Names an attribute that it must have.
    pub fn read(emitter: Emitter, attributes: &Value, begin: i64) -> Result<Self, &'static str> {
        let of = Attributes(attributes);
        let (at, over) = match emitter {
            // A connection's is written at its end.
            Emitter::Proxy => (Some(of.port("listener_port")?), of.text("l7_proto") == "tcp"),
            Emitter::Resolver => (None, of.text("l4_proto") == "udp"),
        };
        Ok(Self { key: of.key(at)?, begin, id: of.text("event_id").to_owned(), who: of.who(), over })
    }
}

struct Attributes<'v>(&'v Value);

impl Attributes<'_> {
    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64()
    }

    fn port(&self, name: &'static str) -> Result<u16, &'static str> {
        self.number(name).and_then(|port| port.try_into().ok()).ok_or(name)
    }

    fn key(&self, at: Option<u16>) -> Result<Key, &'static str> {
        let ip = self.text("src_ip").parse::<IpAddr>().map_err(|_| "src_ip")?;
        Ok(Key::new(ip, self.port("src_port")?, at))
    }

    fn who(&self) -> Who {
        let [agent, project, container_id] =
            ["agent", "project", "container_id"].map(|name| self.text(name).to_owned());
        Who { agent, project, container_id }
    }
}
