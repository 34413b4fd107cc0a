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

use abi::{Reason, TCP, Verdict, Zone};
pub use destination::{Destination, is_loopback, is_v4};
pub use routes::permits;
pub use socket::{AF_INET, socket_permitted};

/// Port of DNS, over UDP and TCP.
pub const DNS_PORT: u16 = 53;
/// Port of DNS over TLS, which the proxy's catch-all is not offered.
pub const DNS_TLS_PORT: u16 = 853;

/// What permits an attempt, and how. No enum with a port inside: the verifier refuses a program that keeps ahead of
/// time what one of its rows leaves unwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    given: bool,
    listener: u16,
}

impl Permit {
    /// Nothing permits it.
    pub const NO: Self = Self { given: false, listener: 0 };
    /// It goes straight there.
    pub const DIRECT: Self = Self { given: true, listener: 0 };

    /// It goes to the proxy's listener on this port; straight there for 0.
    #[inline(always)]
    #[must_use]
    pub const fn by(listener: u16) -> Self {
        Self { given: true, listener }
    }

    /// The listener; 0 for none.
    #[inline(always)]
    #[must_use]
    pub const fn listener(self) -> u16 {
        self.listener
    }
}

/// What a decision may depend on, for one container at one instant.
pub trait Facts {
    /// Enforcement is switched off for this container.
    fn bypassed(&self) -> bool;
    /// This container has a resolver view of the destination's family to send DNS to.
    fn has_resolver(&self, dst: &Destination<'_>) -> bool;
    /// Whether this container's proxy has an address: of IPv4, of IPv6.
    fn proxy(&self) -> (bool, bool);
    /// What the destination is to this container, and what its address permits transport and port.
    fn address(&self, dst: &Destination<'_>) -> (Zone, Permit);
    /// What a name that currently leads to the destination permits transport and port.
    fn domain(&self, dst: &Destination<'_>) -> Permit;
    /// Port of the proxy's catch-all, if there is one.
    fn catch_all(&self) -> Option<u16>;
}

/// Where a flow that passes is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Where it was meant to go.
    Direct,
    /// To the container's resolver view.
    Resolver,
    /// To the proxy, at the decision's listener.
    Proxy,
}

/// What to do with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it passes.
    pub verdict: Verdict,
    /// The row that decided.
    pub reason: Reason,
    /// Where it is sent, if it passes.
    pub route: Route,
    /// Port of the proxy that it is handed to; 0 on any other route. A field of its own, because Linux 5.10
    /// refuses a program that reads ahead what another route would leave unwritten.
    pub listener: u16,
}

impl Decision {
    /// Denied for a reason.
    #[must_use]
    pub const fn denied(reason: Reason) -> Self {
        Self { verdict: Verdict::Denied, reason, route: Route::Direct, listener: 0 }
    }

    const fn allowed(reason: Reason, route: Route) -> Self {
        Self { verdict: Verdict::Allowed, reason, route, listener: 0 }
    }

    const fn handed(listener: u16) -> Self {
        Self { verdict: Verdict::Allowed, reason: Reason::Redirected, route: Route::Proxy, listener }
    }
}

/// The matrix: the first row that matches decides.
#[inline(always)]
pub fn decide<F: Facts>(facts: &F, dst: &Destination<'_>) -> Decision {
    let dns = dst.is_dns();
    if facts.bypassed() {
        let route = if dns && facts.has_resolver(dst) { Route::Resolver } else { Route::Direct };
        return Decision { verdict: Verdict::Bypassed, reason: Reason::Bypass, route, listener: 0 };
    }
    if dns {
        if facts.has_resolver(dst) {
            return Decision::allowed(Reason::Dns, Route::Resolver);
        }
        return Decision::denied(Reason::Dns);
    }
    if is_loopback(dst.addr) {
        return Decision::allowed(Reason::Loopback, Route::Direct);
    }
    let (zone, by_address) = facts.address(dst);
    if !matches!(zone, Zone::Elsewhere) {
        return match zone {
            _ if by_address.given => Decision::allowed(Reason::Infrastructure, Route::Direct),
            Zone::Gateway => Decision::denied(Reason::Gateway),
            _ => Decision::denied(Reason::OwnSubnet),
        };
    }
    if let Some(decision) = ruled(facts, dst, facts.domain(dst), Reason::DomainRule) {
        return decision;
    }
    if let Some(decision) = ruled(facts, dst, by_address, Reason::AddressRule) {
        return decision;
    }
    match facts.catch_all() {
        Some(port) if dst.l4_proto == TCP && dst.port != DNS_TLS_PORT && handed(facts, dst) => {
            Decision::handed(port)
        }
        _ => Decision::denied(Reason::NoRule),
    }
}

/// Whether what goes to the destination can be handed to the proxy. Only a connection can leave its family: to a
/// mapped address the kernel sends no native IPv6 datagram.
#[inline(always)]
fn handed<F: Facts>(facts: &F, dst: &Destination<'_>) -> bool {
    let (v4, v6) = facts.proxy();
    if is_v4(dst.addr) { v4 } else { v6 || (v4 && dst.l4_proto == TCP) }
}

/// What a rule makes of an attempt, if one knows it. One whose listener cannot be reached permits nothing.
#[inline(always)]
fn ruled<F: Facts>(facts: &F, dst: &Destination<'_>, permit: Permit, reason: Reason) -> Option<Decision> {
    if permit == Permit::DIRECT {
        Some(Decision::allowed(reason, Route::Direct))
    } else if permit.given && handed(facts, dst) {
        Some(Decision::handed(permit.listener))
    } else {
        None
    }
}
