//! Where views listen and ask.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where a container's DNS goes, where its view listens, and where that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverAddresses {
    /// Where DNS to IPv4 name servers goes. Without one, that is denied.
    pub v4: Option<SocketAddrV4>,
    /// Where DNS to native IPv6 name servers goes. Without one, that is denied.
    pub v6: Option<SocketAddrV6>,
    /// The DNS server that the view asks.
    pub upstream: SocketAddr,
    /// Where the view listens if another server stands at `v4` and `v6`, and asks it. Without one, it stands there itself.
    #[serde(default)]
    pub view: Option<SocketAddr>,
}

impl ResolverAddresses {
    /// DNS goes to one address of each family, or of one, where the view listens.
    ///
    /// # Errors
    /// If there is none, or two of one family, or one that no container could be sent to.
    pub fn new(listen: &[SocketAddr], upstream: SocketAddr) -> Result<Self> {
        let mut new = Self { v4: None, v6: None, upstream, view: None };
        for address in listen {
            let refuse = |problem| Error::Resolver { address: *address, problem };
            let taken = match one(*address)? {
                SocketAddr::V4(v4) => new.v4.replace(v4).is_some(),
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

    /// The same with another server there, behind which the view listens at `view`.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub fn behind(self, view: SocketAddr) -> Result<Self> {
        let view = one(view)?;
        if self.front().any(|front| front == view) {
            let problem =
                "DNS is redirected to it, so another server is there; a view behind that has its own";
            return Err(Error::Resolver { address: view, problem });
        }
        Ok(Self { view: Some(view), ..self })
    }

    /// Every address that the view listens on.
    pub(crate) fn listen(self) -> impl Iterator<Item = SocketAddr> {
        let front = self.front().filter(move |_| self.view.is_none());
        self.view.into_iter().chain(front)
    }

    /// Whether the server in front of the view may ask from there: it has the address that DNS goes to, or is on the
    /// same machine.
    pub(crate) fn is_front(self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        let known = |address: SocketAddr| address.ip() == source;
        source.is_loopback() || self.front().any(known) || self.view.is_some_and(known)
    }

    /// Where DNS goes.
    fn front(self) -> impl Iterator<Item = SocketAddr> {
        self.v4.map(SocketAddr::V4).into_iter().chain(self.v6.map(SocketAddr::V6))
    }
}

/// The address, in its one form, if it is one that can be sent to.
fn one(address: SocketAddr) -> Result<SocketAddr> {
    let refuse = |problem| Err(Error::Resolver { address, problem });
    let ip = address.ip().to_canonical();
    if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
        return refuse("DNS is sent to it, so it must be one address and one port");
    }
    // A redirect has no place for an interface.
    if matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return refuse("a link-local address is not the same on every link");
    }
    Ok(SocketAddr::new(ip, address.port()))
}

/// Where DNS goes, a line each, and on to where.
impl fmt::Display for ResolverAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, front) in self.front().enumerate() {
            write!(f, "{}{front}", if i == 0 { "" } else { "\n" })?;
        }
        self.view.map_or(Ok(()), |view| write!(f, "\n> {view}"))
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

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_view_behind_another_server_answers_that_server_alone() {
        let upstream = address("203.0.113.53:53");
        let front =
            ResolverAddresses::new(&[address("198.18.0.3:53"), address("[2001:db8::3]:53")], upstream)
                .expect("addresses");
        let view = front.behind(address("198.18.0.1:5301")).expect("another address");
        assert_eq!(view.listen().collect::<Vec<_>>(), [address("198.18.0.1:5301")]);
        assert_eq!(view.to_string(), "198.18.0.3:53\n[2001:db8::3]:53\n> 198.18.0.1:5301");
        for (source, may) in [
            ("198.18.0.3", true),
            ("::ffff:198.18.0.3", true),
            ("2001:db8::3", true),
            ("198.18.0.1", true),
            ("127.0.0.1", true),
            ("::1", true),
            ("198.18.0.2", false),
            ("2001:db8::4", false),
        ] {
            assert_eq!(view.is_front(source.parse().expect("an address")), may, "{source}");
        }
        for (taken, problem) in [
            ("[::ffff:198.18.0.3]:53", "another server is there"),
            ("0.0.0.0:5301", "one address"),
            ("127.0.0.1:0", "one port"),
            ("[fe80::1]:53", "link-local"),
        ] {
            let error = front.behind(address(taken)).expect_err(problem).to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn addresses_that_were_written_before_views_could_stand_behind_are_read() {
        let text = r#"{"v4": "192.0.2.1:5300", "v6": null, "upstream": "203.0.113.53:53"}"#;
        let read: ResolverAddresses = serde_json::from_str(text).expect("addresses");
        let written = ResolverAddresses::new(&[address("192.0.2.1:5300")], address("203.0.113.53:53"))
            .expect("addresses");
        assert_eq!(read, written);
    }
}
