//! Fires one cell: builds its world, enrols its agents, runs its steps, settles, and gathers the
//! evidence. It judges nothing.

mod cell;
mod control;
mod settle;
mod steps;

use std::net::{IpAddr, Ipv4Addr};

pub use cell::{FireError, fire};

use crate::scenario::types::{PortSpec, Rule};

/// Where sentinels are sent: an address that no host of a case may have.
pub const SENTINEL: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 254));

/// A case's rules, as the manager reads them.
pub fn to_manager(rules: &[Rule]) -> Vec<manager::rules::Rule> {
    let port = |port: &PortSpec| match port {
        PortSpec::One(port) => manager::rules::Port::One(*port),
        PortSpec::Range(range) => manager::rules::Port::Range(range.clone()),
    };
    rules
        .iter()
        .map(|rule| manager::rules::Rule {
            dst: rule.dst.clone(),
            proto: rule.proto.clone(),
            port: rule.port.as_ref().map(port),
        })
        .collect()
}
