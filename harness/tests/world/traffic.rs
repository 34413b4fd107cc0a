//! Every action against every server: what the agent, the server and the wire count.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use harness::{
    actor::Action,
    far::{Connection, L4},
    scenario::types::{Connect, ConnectVia, End, Family, Send, SendVia},
};

use super::stage::*;

pub fn bytes_agree() -> Outcome {
    let world = world("bytes")?;
    for via in [ConnectVia::Connect, ConnectVia::Nonblock] {
        for address in ["198.51.100.7", "[2001:db8:1::7]"] {
            for bytes in [1, 1460, 100_000, 1_000_000] {
                let action = Connect { send: bytes, receive: bytes, via, ..connect(&format!("{address}:7")) };
                let report = act(&world, action)?;
                outcome(&report, "ok")?;
                equal("the actor's bytes", (report.sent, report.received), (bytes, bytes))?;
                let server = server_side(&world, &report, L4::Tcp, (bytes, bytes))?;
                equal("the server's bytes", (server.received, server.sent), (bytes, bytes))?;
                equal("the server's end", Some(server.local), report.dst)?;
                let wire = wire_side(&world.wire(), &report)?;
                equal("the wire's bytes", (wire.bytes_out, wire.bytes_in), (bytes, bytes))?;
            }
        }
    }
    let summary = world.wire();
    equal("dropped by the capture", summary.kernel_drops, 0)?;
    let total = 2 * (1 + 1460 + 100_000 + 1_000_000);
    for dst in ["198.51.100.7:7", "[2001:db8:1::7]:7"] {
        let count = summary.counts.iter().find(|count| count.dst == dst && count.l4_proto == "tcp");
        equal("bytes by destination", count.map(|count| count.bytes), Some(total))?;
    }
    equal("destinations", summary.counts.len(), 2)
}

pub fn udp_by_every_call() -> Outcome {
    let world = world("udp")?;
    for via in [SendVia::Sendto, SendVia::Sendmsg, SendVia::Sendmmsg, SendVia::Connected] {
        for family in [Family::V4, Family::V6] {
            let action = Send { via, family, bytes: 100, count: 3, receive: 3, ..send("echo.test:7") };
            let report = act(&world, action)?;
            outcome(&report, "ok")?;
            equal("the actor's bytes", (report.sent, report.received), (300, 300))?;
            equal("the family", report.dst.map(|dst| dst.is_ipv6()), Some(family == Family::V6))?;
            // An unconnected socket has no address of its own, so the port finds the connection.
            let port = report.src.map(|src| src.port());
            let server = |all: &[Connection]| {
                let found = all.iter().find(|c| Some(c.peer.port()) == port && Some(c.local) == report.dst);
                found.map(|c| (c.received, c.sent))
            };
            // It counts an answer once it has sent it, when the agent may have it already.
            let told = world.far().wait(Instant::now() + LONG, |all| server(all) == Some((300, 300)));
            ensure(told, || format!("the server's bytes: {:?}", server(&world.far().connections())))?;
        }
    }
    let summary = world.wire();
    for dst in ["198.51.100.7:7", "[2001:db8:1::7]:7"] {
        let count = summary.counts.iter().find(|count| count.dst == dst && count.l4_proto == "udp");
        equal("the wire", count.map(|count| (count.packets, count.bytes)), Some((12, 1200)))?;
    }
    let names: BTreeSet<_> =
        world.far().queries().into_iter().map(|query| (query.name, query.kind)).collect();
    let expected =
        [("echo.test", "A"), ("echo.test", "AAAA")].map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    equal("questions", names, BTreeSet::from(expected))
}

pub fn udp_servers() -> Outcome {
    let world = world("udpservers")?;
    let report = act(&world, Send { count: 2, receive: 2, ..send("198.51.100.7:19") })?;
    outcome(&report, "ok")?;
    equal("from a source", (report.sent, report.received), (64, 1000))?;
    let report =
        act(&world, Send { pause: Some(Duration::from_millis(30)), count: 2, ..send("198.51.100.7:9") })?;
    outcome(&report, "ok")?;
    equal("to a sink", (report.sent, report.received), (64, 0))?;
    let report =
        act(&world, Send { count: 2000, bytes: 10, via: SendVia::Sendmmsg, ..send("198.51.100.7:9") })?;
    equal("in two calls", report.sent, 20_000)?;
    let count = world.wire().counts.into_iter().find(|count| count.dst == "198.51.100.7:9");
    equal("the wire", count.map(|count| (count.packets, count.bytes)), Some((2002, 20_064)))?;
    outcome(&act(&world, Send { bytes: 70_000, ..send("198.51.100.7:9") })?, "EMSGSIZE")?;
    outcome(
        &act(&world, Send { receive: 1, via: SendVia::Connected, ..send("198.51.100.7:99") })?,
        "ECONNREFUSED",
    )
}

pub fn datagrams_in_fragments() -> Outcome {
    let world = world("fragments")?;
    for address in ["198.51.100.7", "[2001:db8:1::7]"] {
        let report = act(&world, Send { bytes: 5000, receive: 1, ..send(&format!("{address}:7")) })?;
        outcome(&report, "ok")?;
        let dst = format!("{address}:7");
        let count = world.wire().counts.into_iter().find(|count| count.dst == dst);
        equal("bytes and fragments", count.map(|count| (count.packets, count.bytes)), Some((4, 5000)))?;
    }
    Ok(())
}

pub fn late_answer() -> Outcome {
    let world = world("late")?;
    // The actor is gone when the echo comes, and its kernel says so.
    let report = act(&world, send("198.51.100.7:7"))?;
    outcome(&report, "ok")?;
    let answered = |all: &[Connection]| all.iter().any(|c| c.l4 == L4::Udp && c.sent == 32);
    ensure(world.far().wait(Instant::now() + LONG, answered), || "no answer was sent".to_owned())?;
    let counts = world.wire().counts;
    let seen: Vec<_> = counts.iter().map(|c| (c.dst.as_str(), c.l4_proto.as_str(), c.packets)).collect();
    equal("the wire", seen, vec![("198.51.100.7:7", "udp", 1)])
}

pub fn refused() -> Outcome {
    let world = world("refused")?;
    for via in [ConnectVia::Connect, ConnectVia::Nonblock] {
        for address in ["198.51.100.7", "[2001:db8:1::7]"] {
            outcome(&act(&world, Connect { via, ..connect(&format!("{address}:81")) })?, "ECONNREFUSED")?;
        }
    }
    Ok(())
}

pub fn silent() -> Outcome {
    let world = world("silent")?;
    let timeout = Duration::from_millis(1500);
    for (via, to) in [
        (ConnectVia::Connect, "198.51.100.9:80"),
        (ConnectVia::Nonblock, "198.51.100.9:80"),
        (ConnectVia::Connect, "[2001:db8:1::9]:80"),
        // An address that no host has, and the other agent: the far side does not forward.
        (ConnectVia::Connect, "198.51.100.200:80"),
        (ConnectVia::Connect, "192.0.2.6:80"),
    ] {
        let start = Instant::now();
        let report = act(&world, Connect { via, timeout: Some(timeout), ..connect(to) })?;
        outcome(&report, "ETIMEDOUT")?;
        ensure(start.elapsed() < timeout + Duration::from_secs(1), || {
            format!("{to} took {:?}", start.elapsed())
        })?;
    }
    // No unreachable, no redirect: a connected datagram socket would be told of it.
    for to in ["198.51.100.9:9", "[2001:db8:1::9]:9"] {
        let report = act(
            &world,
            Send { via: SendVia::Connected, count: 2, pause: Some(Duration::from_millis(100)), ..send(to) },
        )?;
        outcome(&report, "ok")?;
    }
    let counts = world.wire().counts;
    for dst in ["198.51.100.9:80", "[2001:db8:1::9]:80"] {
        ensure(counts.iter().any(|c| c.dst == dst && c.packets >= 2 && c.bytes == 0), || {
            format!("{dst}: {counts:?}")
        })?;
    }
    Ok(())
}

pub fn ends() -> Outcome {
    let world = world("ends")?;
    let report = act(&world, Connect { send: 10, receive: 100_000, ..connect("198.51.100.7:19") })?;
    outcome(&report, "ok")?;
    equal("from a source", (report.sent, report.received), (10, 100_000))?;

    let report = act(&world, Connect { end: End::Peer, receive: 300, ..connect("198.51.100.7:22") })?;
    outcome(&report, "ok")?;
    equal("from a peer that closes", report.received, 300)?;
    let report = act(&world, Connect { end: End::Peer, receive: 301, ..connect("198.51.100.7:22") })?;
    outcome(&report, "EOF")?;

    outcome(&act(&world, Connect { send: 10, receive: 1, ..connect("198.51.100.7:20") })?, "ECONNRESET")?;

    let action = Connect {
        send: 1000,
        pause: Some(Duration::from_millis(20)),
        send_after: 500,
        ..connect("198.51.100.7:9")
    };
    let report = act(&world, action)?;
    outcome(&report, "ok")?;
    equal("sent before and after a pause", report.sent, 1500)?;
    equal("wire", wire_side(&world.wire(), &report)?.bytes_out, 1500)?;

    for end in [End::Reset, End::Kill] {
        let report = act(&world, Connect { send: 100_000, end, ..connect("198.51.100.7:9") })?;
        outcome(&report, "ok")?;
        let server = server_side(&world, &report, L4::Tcp, (100_000, 0))?;
        equal("the server's bytes", server.received, 100_000)?;
        equal("the wire's bytes", wire_side(&world.wire(), &report)?.bytes_out, 100_000)?;
    }
    Ok(())
}

pub fn held() -> Outcome {
    let world = world("held")?;
    let action =
        Connect { send: 10, timeout: Some(Duration::from_millis(200)), ..connect("198.51.100.7:21") };
    let report = act(&world, action)?;
    outcome(&report, "timeout")?;
    equal("sent", report.sent, 10)
}

pub fn resolve() -> Outcome {
    let world = world("resolve")?;
    let report = act(&world, Action::Resolve("ECHO.test".to_owned()))?;
    outcome(&report, "ok")?;
    let expected = vec!["198.51.100.7".parse()?, "2001:db8:1::7".parse()?];
    equal("addresses", report.resolved, expected)?;
    outcome(&act(&world, Action::Resolve("no.test".to_owned()))?, "NXDOMAIN")?;
    let report = act(&world, connect("no.test:80"))?;
    outcome(&report, "NXDOMAIN")?;
    outcome(&act(&world, Send { family: Family::V4, ..send("v6only.test:80") })?, "NODATA")?;
    let report = act(&world, connect("v6only.test:80"))?;
    outcome(&report, "ECONNREFUSED")?;
    let asked: Vec<_> = world.far().queries().into_iter().map(|query| (query.name, query.kind)).collect();
    equal("the first question", asked.first().cloned(), Some(("echo.test".to_owned(), "A".to_owned())))
}
