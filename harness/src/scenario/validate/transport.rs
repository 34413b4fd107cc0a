//! Connections, datagrams, echo requests, groups, and what comes in.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{
    Check, hosts,
    steps::{self, is_name, target},
};
use crate::scenario::{
    address::{self, Refused, Target},
    cell::printable,
    types::{Accept, Connect, ConnectVia, DatagramProto, Family, Join, Origin, Ping, Send, SendVia},
};

/// Most datagrams of one step: more shows nothing more.
const MOST_DATAGRAMS: u32 = 100_000;
/// Largest payload of a UDP datagram over IPv4.
const LARGEST_DATAGRAM: u64 = 65_507;

pub(super) fn connection(check: &mut Check<'_>, path: &str, connect: &Connect) {
    let Connect { to, via, family, route, origin, send, .. } = connect;
    target(check, &format!("{path}.to"), to);
    of_address(check, path, to, *family);
    routed(check, path, to, *via == ConnectVia::RoutingHeader, *route);
    if matches!(via, ConnectVia::FastOpen | ConnectVia::FastOpenConnect) && *send == 0 {
        check.fault(&format!("{path}.via"), "Fast Open connects with the first data; there is none").help =
            Some("add `send: 1` or more".to_owned());
    }
    if *via == ConnectVia::Reconnect && origin.is_connected() {
        check.fault(&format!("{path}.origin"), "a socket that reconnects was not connected before");
    }
    held(check, path, to, *origin);
}

pub(super) fn datagrams(check: &mut Check<'_>, path: &str, send: &Send) {
    let to = format!("{path}.to");
    match send.to.parse() {
        Ok(Target::Address(address)) => {
            let refused = address::permitted_to_many(address.ip()).err();
            refuse(check, &to, address.ip(), refused);
        }
        _ => target(check, &to, &send.to),
    }
    if send.count == 0 {
        check.fault(&format!("{path}.count"), "no datagram is nothing to test");
    }
    many(check, path, send.count);
    if send.bytes > LARGEST_DATAGRAM {
        let message = format!("a UDP datagram holds at most {LARGEST_DATAGRAM} bytes");
        check.fault(&format!("{path}.bytes"), message);
    }
    if send.bytes == 0 && matches!(send.via, SendVia::Gso | SendVia::Splice) {
        check.fault(&format!("{path}.bytes"), "this call sends no empty datagram");
    }
    of_family(check, path, &send.to, send.family);
    routed(check, path, &send.to, send.via == SendVia::RoutingHeader, send.route);
    match (&send.other, send.via) {
        (None, SendVia::ConnectedOther) => {
            check.fault(&format!("{path}.via"), "`connected_other` needs an `other` to connect to");
        }
        (Some(other), SendVia::ConnectedOther | SendVia::Unspec | SendVia::Cork) => {
            let path = format!("{path}.other");
            match other.parse() {
                Ok(Target::Name(..)) => {
                    check.fault(&path, "`other` is an address; write `address:port`");
                }
                _ => target(check, &path, other),
            }
        }
        (Some(_), _) => {
            let message = "`other` is for `connected_other`, `unspec` and `cork`";
            check.fault_of_key(&format!("{path}.other"), message);
        }
        (None, _) => {}
    }
    let plain = matches!(send.via, SendVia::Sendto | SendVia::Connected);
    if matches!(send.proto, DatagramProto::Sctp | DatagramProto::Dccp) && !plain {
        check.fault(&format!("{path}.via"), "SCTP and DCCP have `sendto` and `connected`");
    }
    let connects = matches!(send.via, SendVia::Connected | SendVia::ConnectedOther | SendVia::Splice)
        || send.other.is_some() && send.via == SendVia::Unspec;
    if send.origin.is_connected() && !connects {
        let unconnected = if send.origin.is_early() { "before" } else { "moved_in" };
        check.fault(&format!("{path}.via"), "this call does not connect").help =
            Some(format!("use `via: connected`, or `origin: {unconnected}`"));
    }
    held(check, path, &send.to, send.origin);
}

pub(super) fn ping(check: &mut Check<'_>, path: &str, ping: &Ping) {
    let to = format!("{path}.to");
    match ping.to.parse::<IpAddr>() {
        Ok(address) => {
            let refused = address::permitted_to_many(address).err();
            refuse(check, &to, address, refused);
            if check.is_written(&format!("{path}.family")) {
                check
                    .fault_of_key(&format!("{path}.family"), "`family` is for names; an address has its own");
            }
        }
        Err(_) if ping.to.parse::<Target>().is_ok() => {
            check.fault(&to, "an echo request has no port; write a host or an address");
        }
        Err(_) => {
            check.require_host(&to, &ping.to);
            has_family(check, &to, &ping.to, Some(ping.family));
        }
    }
    if ping.family == Family::Mapped {
        check.fault(&format!("{path}.family"), "there is no ICMP from an IPv6 socket to an IPv4 address");
    }
    if ping.count == 0 {
        check.fault(&format!("{path}.count"), "no echo request is nothing to test");
    }
    many(check, path, ping.count);
    if ping.bytes > LARGEST_DATAGRAM {
        check.fault(
            &format!("{path}.bytes"),
            format!("an echo request holds at most {LARGEST_DATAGRAM} bytes"),
        );
    }
}

pub(super) fn accept(check: &mut Check<'_>, path: &str, accept: &Accept) {
    match (accept.tcp, accept.udp) {
        (Some(0), None) | (None, Some(0)) => {
            check.fault(path, "the agent listens on a port from 1 to 65535");
        }
        (Some(_), None) | (None, Some(_)) => {}
        _ => {
            check.fault(path, "`accept` has exactly one of `tcp` and `udp`, which is the port");
        }
    }
    if accept.udp.is_some() && accept.receive.max(accept.send) > LARGEST_DATAGRAM {
        check.fault(path, format!("a UDP datagram holds at most {LARGEST_DATAGRAM} bytes"));
    }
    if !matches!(accept.origin, Origin::Inside | Origin::Before) {
        check.fault(&format!("{path}.origin"), "who accepts listens `inside`, or `before` it is enrolled");
    }
    for (field, bytes) in [("receive", accept.receive), ("send", accept.send)] {
        steps::transfer(check, &format!("{path}.{field}"), bytes);
    }
    check.require_host(&format!("{path}.from"), &accept.from);
    has_family(check, &format!("{path}.from"), &accept.from, Some(accept.family));
}

/// A fault where a step sends more than a person would wait for.
fn many(check: &mut Check<'_>, path: &str, count: u32) {
    if count > MOST_DATAGRAMS {
        check.fault(&format!("{path}.count"), format!("a step sends at most {MOST_DATAGRAMS} datagrams"));
    }
}

/// A name leads to an address of the family that is asked for, or the step ends before it begins.
fn has_family(check: &mut Check<'_>, path: &str, name: &str, family: Option<Family>) {
    let (Some(family), Some(host)) = (family, check.scenario.host(name)) else { return };
    let v6 = family == Family::V6;
    if !host.addr.iter().any(|address| address.is_ipv6() == v6) {
        let family = if v6 { "IPv6" } else { "IPv4" };
        check.fault(path, format!("this host has no {family} address"));
    }
}

pub(super) fn join(check: &mut Check<'_>, path: &str, join: &Join) {
    if !address::is_group(join.group) {
        let message = format!("{} is not a group for documentation", join.group);
        check.fault(&format!("{path}.group"), message).help =
            Some(format!("use one of {}", address::groups()));
    }
}

/// A fault for an address that no datagram of a case may go to.
fn refuse(check: &mut Check<'_>, path: &str, address: IpAddr, refused: Option<Refused>) {
    let Some(refused) = refused else { return };
    if address.is_multicast() {
        check.fault(path, format!("{address} is not a group for documentation")).help =
            Some(format!("use one of {}", address::groups()));
    } else {
        hosts::refuse(check, path, refused);
    }
}

/// As [`of_address`], where the family is `v4` if it is not written.
pub(super) fn of_family(check: &mut Check<'_>, path: &str, to: &str, family: Family) {
    let says = is_name(to) || check.is_written(&format!("{path}.family"));
    of_address(check, path, to, says.then_some(family));
}

/// An address has its family, but an IPv4 address can be reached from an IPv6 socket.
fn of_address(check: &mut Check<'_>, path: &str, to: &str, family: Option<Family>) {
    let address = match to.parse() {
        Ok(Target::Address(address)) => address,
        Ok(Target::Name(name, _)) => return has_family(check, &format!("{path}.to"), &name, family),
        Err(_) => return,
    };
    match family {
        None => {}
        Some(Family::Mapped) if address.is_ipv4() => {}
        Some(_) => {
            check
                .fault_of_key(&format!("{path}.family"), "`family` is for names; an address has its own")
                .help = Some("only `mapped` says more, of an IPv4 address".to_owned());
        }
    }
}

/// A routing header and its field come together, and to an IPv6 address.
fn routed(check: &mut Check<'_>, path: &str, to: &str, via: bool, route: Option<Ipv6Addr>) {
    if let Some(refused) = route.and_then(|route| address::permitted(route.into()).err()) {
        hosts::refuse(check, &format!("{path}.route"), refused);
    }
    match (via, route.is_some()) {
        (true, false) => {
            check.fault(&format!("{path}.via"), "`routing_header` needs a `route`: the address to go by");
        }
        (false, true) => {
            check.fault_of_key(&format!("{path}.route"), "`route` is for `via: routing_header`");
        }
        (true, true) if to.parse::<SocketAddr>().is_ok_and(|to| to.is_ipv4()) => {
            check.fault(&format!("{path}.to"), "a routing header is of IPv6; this is an IPv4 address");
        }
        _ => {}
    }
}

/// Who holds a socket does not look up a name: that would be another socket, at another time.
fn held(check: &mut Check<'_>, path: &str, to: &str, origin: Origin) {
    if origin != Origin::Inside && to.parse::<SocketAddr>().is_err() {
        let message = format!("`{}` is a name, and this `origin` needs an address", printable(to));
        check.fault(&format!("{path}.to"), message).help = Some("write `address:port`".to_owned());
    }
}
