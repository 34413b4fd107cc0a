//! Rules as the maps hold them, without a kernel: what the programs would decide, for tests that
//! need no root.

use std::net::IpAddr;

use abi::{PrefixKey, Routes};
use aya::maps::lpm_trie::Key;
use policy::{Decision, Destination, Facts, decide, permits as in_routes};

use crate::{
    error::Result,
    routes,
    rules::{Permit, Rule, permits},
};

/// One container's rules, compiled.
pub struct Compiled {
    permits: Vec<Permit>,
    prefixes: Vec<(Key<PrefixKey>, Routes)>,
}

/// One attempt's circumstances.
struct Now<'a> {
    compiled: &'a Compiled,
    names: &'a [String],
    bypassed: bool,
}

impl Compiled {
    /// Compiles a list.
    ///
    /// # Errors
    /// At the first rule that cannot be, or if a destination has too many separate port ranges.
    pub fn new(rules: &[Rule]) -> Result<Self> {
        let permits = permits(rules)?;
        let prefixes = routes::of_prefixes(&permits, 0)?;
        Ok(Self { permits, prefixes })
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

    fn domain_permits(&self, dst: &Destination<'_>) -> bool {
        self.names.iter().any(|name| {
            routes::of_name(&self.compiled.permits, name)
                .is_ok_and(|routes| in_routes(&routes, dst.l4_proto, dst.port))
        })
    }

    fn address_permits(&self, dst: &Destination<'_>) -> bool {
        routes::longest(&self.compiled.prefixes, dst.addr)
            .is_some_and(|routes| in_routes(&routes, dst.l4_proto, dst.port))
    }
}
