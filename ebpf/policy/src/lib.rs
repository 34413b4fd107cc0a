//! The decision matrix. The kernel programs and the tests run this very code.
//!
//! It knows the shared shapes and nothing else: no I/O, no maps, no clock. What it needs to know of
//! the world it asks for through [`Facts`], row by row, so that a look-up is made only when its row
//! is reached.
#![no_std]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

mod destination;
mod routes;
mod socket;

use abi::{Reason, Verdict};
pub use destination::{Destination, is_loopback, is_v4};
pub use routes::permits;
pub use socket::{AF_INET, socket_permitted};

/// Port of DNS, over UDP and TCP.
pub const DNS_PORT: u16 = 53;

/// What a decision may depend on, for one container at one instant.
pub trait Facts {
    /// Enforcement is switched off for this container.
    fn bypassed(&self) -> bool;
    /// This container has a resolver view of the destination's family to send DNS to.
    fn has_resolver(&self, dst: &Destination<'_>) -> bool;
    /// A name that currently leads to the destination is permitted its transport and port.
    fn domain_permits(&self, dst: &Destination<'_>) -> bool;
    /// An address range that holds the destination is permitted its transport and port.
    fn address_permits(&self, dst: &Destination<'_>) -> bool;
}

/// What to do with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it passes.
    pub verdict: Verdict,
    /// The row that decided.
    pub reason: Reason,
    /// Send it to the container's resolver view instead.
    pub to_resolver: bool,
}

impl Decision {
    const fn new(verdict: Verdict, reason: Reason) -> Self {
        Self { verdict, reason, to_resolver: false }
    }
}

/// The matrix: the first row that matches decides.
#[inline(always)]
pub fn decide<F: Facts>(facts: &F, dst: &Destination<'_>) -> Decision {
    let dns = dst.port == DNS_PORT;
    if facts.bypassed() {
        return Decision {
            to_resolver: dns && facts.has_resolver(dst),
            ..Decision::new(Verdict::Bypassed, Reason::Bypass)
        };
    }
    if dns {
        if facts.has_resolver(dst) {
            return Decision { to_resolver: true, ..Decision::new(Verdict::Allowed, Reason::Dns) };
        }
        return Decision::new(Verdict::Denied, Reason::Dns);
    }
    if is_loopback(dst.addr) {
        return Decision::new(Verdict::Allowed, Reason::Loopback);
    }
    if facts.domain_permits(dst) {
        return Decision::new(Verdict::Allowed, Reason::DomainRule);
    }
    if facts.address_permits(dst) {
        return Decision::new(Verdict::Allowed, Reason::AddressRule);
    }
    Decision::new(Verdict::Denied, Reason::NoRule)
}
