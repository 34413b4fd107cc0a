//! The command line.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Parser, builder::RangedU64ValueParser};

/// Bytes of a request, at most: what the collector takes itself, and what its processors may add.
pub const REQUEST: usize = 20 << 20;
/// Longest name of a lane or a node, bytes.
const NAME: usize = 64;

/// Keep OTLP log records on disk until the endpoint of their lane has answered for them.
#[derive(Clone, Debug, Parser)]
#[command(name = "relay", version)]
pub struct Options {
    /// Folder of the records that are kept: a file a lane. On a disk they also survive a restart of the machine.
    #[arg(long, default_value = "/var/lib/clawker-relay")]
    pub state_dir: PathBuf,

    /// A lane, and the OTLP/gRPC endpoint that its records are sent on to. Once for each lane; a request names its lane in
    /// the header `clawker-lane`.
    #[arg(long = "lane", value_name = "NAME=https://HOST:PORT", required = true)]
    pub lanes: Vec<Endpoint>,

    /// A lane whose senders give each record its `event_id`: what they send again is the same event. Once for each.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub numbered: Vec<String>,

    /// Address that records are received on, by OTLP/gRPC over TLS; with port 0 the chosen one is in the log.
    #[arg(long, default_value = "127.0.0.1:4320")]
    pub receive: SocketAddr,

    /// Authority of those who may send.
    #[arg(long, value_name = "PEM")]
    pub tls_ca: PathBuf,

    /// The relay's certificate as a server.
    #[arg(long, value_name = "PEM")]
    pub tls_cert: PathBuf,

    /// The key of --tls-cert.
    #[arg(long, value_name = "PEM")]
    pub tls_key: PathBuf,

    /// Authority of the endpoints' certificates.
    #[arg(long, value_name = "PEM")]
    pub forward_ca: PathBuf,

    /// The relay's certificate as a client.
    #[arg(long, value_name = "PEM")]
    pub forward_cert: PathBuf,

    /// The key of --forward-cert.
    #[arg(long, value_name = "PEM")]
    pub forward_key: PathBuf,

    /// Address of /metrics and /healthz; with port 0 the chosen one is in the log.
    #[arg(long, default_value = "127.0.0.1:9465")]
    pub listen: SocketAddr,

    /// Name of this node in `event_id`. Default: the host name.
    #[arg(long, value_parser = name)]
    pub node: Option<String>,

    /// Most bytes of records that are kept for a lane, MiB. A request that has no room is refused, and counted; its file may
    /// be twice as large.
    #[arg(long, default_value_t = 512, value_parser = RangedU64ValueParser::<u64>::new().range(32..=1 << 20))]
    pub room_mib: u64,
}

/// A lane and where its records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The lane's name.
    pub lane: String,
    /// `https://host:port`.
    pub url: String,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (lane, url) = text.split_once('=').ok_or("write NAME=https://HOST:PORT")?;
        if !url.starts_with("https://") {
            return Err(format!("{url} does not begin with https://: records leave over TLS alone"));
        }
        Ok(Self { lane: name(lane)?, url: url.to_owned() })
    }
}

/// A name that can be part of a file's name and of an identity.
pub fn name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > NAME || text.starts_with('.') || !text.bytes().all(fits) {
        return Err(format!(
            "a name has 1 to {NAME} of the characters A-Z a-z 0-9 - _ . and does not begin with a dot"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_a_name_and_a_secure_endpoint() {
        let endpoint = "envoy=https://127.0.0.1:4329".parse::<Endpoint>().expect("a lane");
        assert_eq!((endpoint.lane.as_str(), endpoint.url.as_str()), ("envoy", "https://127.0.0.1:4329"));
        for wrong in [
            "envoy",
            "=https://a:1",
            "../x=https://a:1",
            ".x=https://a:1",
            "envoy=http://a:1",
            "a b=https://a:1",
        ] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }
}
