//! Where views listen and ask.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where a container's view listens, and where it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverAddresses {
    /// For DNS to IPv4 name servers. Without one, that is denied.
    pub v4: Option<SocketAddrV4>,
    /// For DNS to native IPv6 name servers. Without one, that is denied.
    pub v6: Option<SocketAddrV6>,
    /// The DNS server that it asks.
    pub upstream: SocketAddr,
}

impl ResolverAddresses {
    /// A view that listens on one address of each family, or of one.
    ///
    /// # Errors
    /// If there is none, or two of one family, or one that no container could be sent to.
    pub fn new(listen: &[SocketAddr], upstream: SocketAddr) -> Result<Self> {
        let mut new = Self { v4: None, v6: None, upstream };
        for address in listen {
            let refuse = |problem| Error::Resolver { address: *address, problem };
            let ip = address.ip().to_canonical();
            if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
                return Err(refuse("DNS is redirected to it, so it must be one address and one port"));
            }
            let taken = match SocketAddr::new(ip, address.port()) {
                SocketAddr::V4(v4) => new.v4.replace(v4).is_some(),
                // A redirect has no place for an interface.
                SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
                    return Err(refuse("a link-local address is not the same on every link"));
                }
                SocketAddr::V6(v6) => new.v6.replace(v6).is_some(),
            };
            if taken {
                return Err(refuse("there is another of this family; a view has one of each at most"));
            }
        }
        match (new.v4, new.v6) {
            (None, None) => Err(Error::Resolver {
                address: upstream,
                problem: "no address was given that a view which asks it would listen on",
            }),
            _ => Ok(new),
        }
    }

    /// Every address it listens on.
    pub(crate) fn listen(self) -> impl Iterator<Item = SocketAddr> {
        self.v4.map(SocketAddr::V4).into_iter().chain(self.v6.map(SocketAddr::V6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_listens_on_one_address_of_each_family() {
        let view = |listen: &[&str]| {
            let listen: Vec<_> = listen.iter().map(|address| address.parse().expect("an address")).collect();
            ResolverAddresses::new(&listen, ([203, 0, 113, 53], 53).into()).map_err(|error| error.to_string())
        };
        let both = view(&["[2001:db8::1]:5300", "192.0.2.1:5300"]).expect("one of each");
        assert_eq!(both.listen().map(|address| address.is_ipv4()).collect::<Vec<_>>(), [true, false]);
        let mapped = view(&["[::ffff:192.0.2.1]:5300"]).expect("an IPv4 address in IPv6 clothes");
        assert_eq!(mapped.v4, Some("192.0.2.1:5300".parse().expect("an address")));
        for (listen, problem) in [
            (&["192.0.2.1:5300", "192.0.2.2:5300"][..], "another of this family"),
            (&["192.0.2.1:5300", "[::ffff:192.0.2.1]:53"], "another of this family"),
            (&["[fe80::1]:5300"], "link-local"),
            (&["0.0.0.0:5300"], "one address"),
            (&["192.0.2.1:0"], "one port"),
            (&[], "no address"),
        ] {
            let error = view(listen).expect_err(problem);
            assert!(error.contains(problem), "{error}");
        }
    }
}
