//! A container, as the proxy and the resolver know it.

use std::net::IpAddr;

use rules::Rule;
use serde::{Deserialize, Serialize};

/// What is told of a container: by its address the proxy knows it, by its labels its documents do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Docker's identifier, or whatever else is unique.
    pub container_id: String,
    /// Label `dev.clawker.agent`, byte for byte.
    pub agent: String,
    /// Label `dev.clawker.project`, byte for byte.
    pub project: String,
    /// Its addresses in the network that it shares with the proxy.
    pub addresses: Vec<IpAddr>,
    /// What it may reach.
    pub rules: Vec<Rule>,
}
