//! Rules as the maps hold them, without a kernel: what the programs would decide, for tests that
//! need no root.

use std::net::IpAddr;

use abi::{Prefix, PrefixKey, Zone};
use aya::maps::lpm_trie::Key;
use policy::{Decision, Destination, Facts, Permit as Permitted, decide, permits as in_routes};
use rules::Rule;

use crate::{
    error::Result,
    network::{Network, Proxy},
    permit::{Permit, permits},
    routes,
};

/// One container's rules, compiled.
pub struct Compiled {
    permits: Vec<Permit>,
    prefixes: Vec<(Key<PrefixKey>, Prefix)>,
    proxy: Proxy,
}

/// One attempt's circumstances.
struct Now<'a> {
    compiled: &'a Compiled,
    names: &'a [String],
    bypassed: bool,
}

impl Compiled {
    /// Compiles a list, for a container of that network and proxy.
    ///
    /// # Errors
    /// At the first rule that cannot be, or if a destination has too many separate port ranges.
    pub fn new(rules: &[Rule], network: &Network, proxy: &Proxy) -> Result<Self> {
        let permits = permits(rules)?;
        let prefixes = routes::of_prefixes(&permits, network, 0)?;
        Ok(Self { permits, prefixes, proxy: *proxy })
    }

    /// What the shipped matrix decides; `names` are those that lead to `ip` and are valid.
    pub fn decide(&self, ip: IpAddr, port: u16, l4_proto: u8, names: &[String], bypassed: bool) -> Decision {
        let addr = routes::address(ip.to_canonical());
        decide(&Now { compiled: self, names, bypassed }, &Destination { addr: &addr, port, l4_proto })
    }
}

impl Facts for Now<'_> {
    fn bypassed(&self) -> bool {
        self.bypassed
    }

    fn has_resolver(&self, _dst: &Destination<'_>) -> bool {
        true
    }

    fn proxy(&self) -> (bool, bool) {
        (self.compiled.proxy.v4.is_some(), self.compiled.proxy.v6.is_some())
    }

    fn address(&self, dst: &Destination<'_>) -> (Zone, Permitted) {
        match routes::longest(&self.compiled.prefixes, dst.addr) {
            Some(prefix) => (
                Zone::try_from(prefix.zone).unwrap_or(Zone::OwnSubnet),
                in_routes(&prefix.routes, dst.l4_proto, dst.port),
            ),
            None => (Zone::Elsewhere, Permitted::NO),
        }
    }

    fn domain(&self, dst: &Destination<'_>) -> Permitted {
        self.names
            .iter()
            .filter_map(|name| routes::of_name(&self.compiled.permits, name).ok())
            .map(|routes| in_routes(&routes, dst.l4_proto, dst.port))
            .find(|permitted| *permitted != Permitted::NO)
            .unwrap_or(Permitted::NO)
    }

    fn catch_all(&self) -> Option<u16> {
        self.compiled.proxy.catch_all
    }
}
