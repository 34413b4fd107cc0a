//! A world without enforcement: every action against every server, the three counts compared, and
//! nothing left behind. Needs root.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use harness::{
    actor::{Action, Report, Running},
    far::{Connection, L4},
    owner::Owner,
    reexec,
    scenario::types::{Agent, Connect, ConnectVia, End, Exec, Family, Host, Send, SendVia, Socket},
    wire::{TcpConnection, WireSummary},
    world::{World, sweep},
};
use indexmap::IndexMap;
use libtest_mimic::{Arguments, Failed, Trial};

/// First argument of the process that [`sweeps`] kills.
const VICTIM: &str = "__victim";

type Outcome = Result<(), Failed>;
type Test = fn() -> Outcome;

/// Far more than anything here takes; a wait that ends here is a failure.
const LONG: Duration = Duration::from_secs(20);

fn main() {
    if reexec::role().is_some() {
        return;
    }
    if std::env::args().nth(1).as_deref() == Some(VICTIM) {
        victim();
    }
    let tests: [(&str, Test); _] = [
        ("bytes_agree_for_every_size_and_family", bytes_agree),
        ("udp_by_every_call", udp_by_every_call),
        ("udp_servers", udp_servers),
        ("datagrams_in_fragments", datagrams_in_fragments),
        ("a_late_answer_is_no_packet_of_the_agent", late_answer),
        ("refused", refused),
        ("silent", silent),
        ("ends", ends),
        ("held", held),
        ("resolve", resolve),
        ("programs", programs),
        ("web", web),
        ("a_real_server_program", server_program),
        ("a_server_program_that_does_not_serve", broken_server_programs),
        ("capabilities", capabilities),
        ("root_keeps_dockers_capabilities", root_agent),
        ("an_agent_lives_in_its_own_place", own_place),
        ("nothing_remains", nothing_remains),
        ("eight_worlds_at_once", eight_worlds),
        ("time_outs_end_the_process_group", time_out),
        ("errors_name_the_cause", errors),
        ("sweep_takes_what_the_dead_left", sweeps),
        ("a_kept_world_stays", kept),
        ("fast_enough", fast_enough),
    ];
    let trials = tests.into_iter().map(|(name, test)| Trial::test(name, test)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Fails with `what` and the value.
fn ensure(condition: bool, what: impl FnOnce() -> String) -> Outcome {
    if condition { Ok(()) } else { Err(what().into()) }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, left: T, right: T) -> Outcome {
    ensure(left == right, || format!("{what}: {left:?} is not {right:?}"))
}

fn from<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("the test's own JSON")
}

fn agent(name: &str) -> Agent {
    from(serde_json::json!({"agent": name}))
}

fn hosts() -> IndexMap<String, Host> {
    from(serde_json::json!({
        "echo.test": {"addr": ["198.51.100.7", "2001:db8:1::7"], "ttl": 42, "serve": [
            {"tcp": 7}, {"udp": 7}, {"tcp": 9, "reply": "sink"}, {"udp": 9, "reply": "sink"},
            {"tcp": 19, "reply": "source", "bytes": 100_000}, {"udp": 19, "reply": "source", "bytes": 500},
            {"tcp": 20, "reply": "reset"}, {"tcp": 21, "reply": "hold"}, {"tcp": 22, "reply": "close", "bytes": 300},
        ]},
        "web.test": {"addr": ["198.51.100.8"], "serve": [
            {"http": 80, "bytes": 1234, "status": 418}, {"tls": 443, "bytes": 4321},
        ]},
        "silent.test": {"addr": ["198.51.100.9", "2001:db8:1::9"], "silent": true, "serve": [{"tcp": 80}]},
        "v6only.test": {"addr": ["2001:db8:1::10"]},
    }))
}

fn world(id: &str) -> Result<World, Failed> {
    Ok(World::new(id, &hosts(), &[agent("scout"), agent("other")])?)
}

fn connect(to: &str) -> Connect {
    from(serde_json::json!({"to": to}))
}

fn send(to: &str) -> Send {
    from(serde_json::json!({"to": to}))
}

fn exec(run: &[&str]) -> Action {
    Action::Exec(Exec { run: run.iter().map(|&word| word.to_owned()).collect(), ..Exec::default() })
}

fn act(world: &World, action: impl Into<Action2>) -> Result<Report, Failed> {
    Ok(world.spawn_actor(0, &action.into().0)?.wait(LONG)?)
}

/// So that tests may pass the parts of an action.
struct Action2(Action);
impl From<Action> for Action2 {
    fn from(action: Action) -> Self {
        Self(action)
    }
}
impl From<Connect> for Action2 {
    fn from(connect: Connect) -> Self {
        Self(Action::Connect(connect))
    }
}
impl From<Send> for Action2 {
    fn from(send: Send) -> Self {
        Self(Action::Send(send))
    }
}

fn outcome(report: &Report, expected: &str) -> Outcome {
    ensure(report.outcome == expected, || format!("not {expected}: {report:?}"))
}

/// The connection as the server saw it, once it has read `received`.
fn server_side(world: &World, report: &Report, l4: L4, received: u64) -> Result<Connection, Failed> {
    let find = |all: &[Connection]| all.iter().find(|c| c.l4 == l4 && Some(c.peer) == report.src).cloned();
    let read = |all: &[Connection]| find(all).is_some_and(|c| c.received >= received);
    ensure(world.far().wait(Instant::now() + LONG, read), || {
        format!("{report:?}: {:?}", world.far().connections())
    })?;
    Ok(find(&world.far().connections()).expect("just found"))
}

fn wire_side(summary: &WireSummary, report: &Report) -> Result<TcpConnection, Failed> {
    let mut found =
        summary.connections.iter().filter(|c| Some(c.agent) == report.src && Some(c.far) == report.dst);
    found.next().cloned().ok_or_else(|| format!("{report:?} is not in {summary:?}").into())
}

fn bytes_agree() -> Outcome {
    let world = world("bytes")?;
    for via in [ConnectVia::Connect, ConnectVia::Nonblock] {
        for address in ["198.51.100.7", "[2001:db8:1::7]"] {
            for bytes in [1, 1460, 100_000, 1_000_000] {
                let action = Connect { send: bytes, receive: bytes, via, ..connect(&format!("{address}:7")) };
                let report = act(&world, action)?;
                outcome(&report, "ok")?;
                equal("the actor's bytes", (report.sent, report.received), (bytes, bytes))?;
                let server = server_side(&world, &report, L4::Tcp, bytes)?;
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

fn udp_by_every_call() -> Outcome {
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
            let all = world.far().connections();
            let server = all.iter().find(|c| Some(c.peer.port()) == port && Some(c.local) == report.dst);
            equal("the server's bytes", server.map(|c| (c.received, c.sent)), Some((300, 300)))?;
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

fn udp_servers() -> Outcome {
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

fn datagrams_in_fragments() -> Outcome {
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

fn late_answer() -> Outcome {
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

fn refused() -> Outcome {
    let world = world("refused")?;
    for via in [ConnectVia::Connect, ConnectVia::Nonblock] {
        for address in ["198.51.100.7", "[2001:db8:1::7]"] {
            outcome(&act(&world, Connect { via, ..connect(&format!("{address}:81")) })?, "ECONNREFUSED")?;
        }
    }
    Ok(())
}

fn silent() -> Outcome {
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

fn ends() -> Outcome {
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
        let server = server_side(&world, &report, L4::Tcp, 100_000)?;
        equal("the server's bytes", server.received, 100_000)?;
        equal("the wire's bytes", wire_side(&world.wire(), &report)?.bytes_out, 100_000)?;
    }
    Ok(())
}

fn held() -> Outcome {
    let world = world("held")?;
    let action =
        Connect { send: 10, timeout: Some(Duration::from_millis(200)), ..connect("198.51.100.7:21") };
    let report = act(&world, action)?;
    outcome(&report, "timeout")?;
    equal("sent", report.sent, 10)
}

fn resolve() -> Outcome {
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

fn programs() -> Outcome {
    let world = world("programs")?;
    let report = act(
        &world,
        exec(&["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "http://web.test/"]),
    )?;
    outcome(&report, "ok")?;
    equal("curl", report.stdout.as_str(), "418 1234")?;
    let report = act(&world, exec(&["dig", "+noall", "+answer", "echo.test", "AAAA"]))?;
    outcome(&report, "ok")?;
    ensure(report.stdout.contains("42\tIN\tAAAA\t2001:db8:1::7"), || report.stdout.clone())?;
    let report = act(&world, exec(&["dig", "+tcp", "+short", "echo.test"]))?;
    equal("dig over TCP", report.stdout.as_str(), "198.51.100.7\n")?;
    let report = act(&world, exec(&["nc", "-v", "-w", "1", "198.51.100.7", "81"]))?;
    outcome(&report, "exit 1")?;
    ensure(report.stderr.contains("refused"), || format!("{report:?}"))?;
    let report = act(&world, exec(&["nc", "-d", "198.51.100.7", "22"]))?;
    equal("nc reads", report.stdout.len(), 300)?;
    outcome(&act(&world, exec(&["sh", "-c", "exit 7"]))?, "exit 7")?;
    outcome(&act(&world, exec(&["sh", "-c", "kill -9 $$"]))?, "killed")?;
    let report = act(&world, exec(&["head", "-c", "1000000", "/dev/zero"]))?;
    outcome(&report, "ok")?;
    equal("bounded output", report.stdout.len(), 64 * 1024)
}

fn web() -> Outcome {
    let world = world("web")?;
    let report = act(
        &world,
        exec(&["curl", "-sS", "-k", "-v", "-o", "/dev/null", "-w", "%{size_download}", "https://web.test/"]),
    )?;
    outcome(&report, "ok")?;
    equal("over TLS", report.stdout.as_str(), "4321")?;
    let all = world.far().connections();
    let connection = all.iter().find(|c| c.local.port() == 443).ok_or("no connection")?;
    ensure(connection.sent > 4321, || format!("ciphertext is longer than text: {connection:?}"))?;
    let wire = world.wire();
    let seen = wire.connections.iter().find(|c| c.far.port() == 443).ok_or("not on the wire")?;
    equal("ciphertext out", seen.bytes_out, connection.received)?;
    // curl has its body and closes; the server's close_notify (24 bytes) may come too late to be acknowledged.
    let late = connection.sent - seen.bytes_in;
    ensure(late == 0 || late == 24, || format!("ciphertext in: {seen:?} {connection:?}"))
}

/// A program that ends when the process it started has left its process group, and so outlives it.
fn escape() -> Action {
    let until = r#"until [ "$(cut -d' ' -f6 /proc/$!/stat)" = $! ]; do :; done"#;
    exec(&["sh", "-c", &format!("setsid sleep 1000 & {until}")])
}

fn socket(family: &str, kind: &str, protocol: &str, to: Option<&str>) -> Action {
    let text = str::to_owned;
    Action::Socket(Socket {
        family: text(family),
        kind: text(kind),
        protocol: Some(text(protocol)),
        to: to.map(text),
        hdrincl: false,
        qdisc_bypass: false,
    })
}

fn capabilities() -> Outcome {
    let with = Agent { caps: vec!["net_raw".to_owned()], ..agent("raw") };
    let world = World::new("caps", &hosts(), &[agent("plain"), with])?;
    let raw = socket("inet", "raw", "icmp", Some("198.51.100.7:0"));
    outcome(&act(&world, raw.clone())?, "EPERM")?;
    equal("nothing was sent", world.wire().counts.len(), 0)?;
    outcome(&world.spawn_actor(1, &raw)?.wait(LONG)?, "ok")?;
    let seen: Vec<_> =
        world.wire().counts.into_iter().map(|c| (c.dst, c.l4_proto, c.packets, c.bytes)).collect();
    equal("the ping", seen, vec![("198.51.100.7".to_owned(), "icmp".to_owned(), 1, 8)])?;
    outcome(&act(&world, socket("inet", "dgram", "icmp", Some("198.51.100.7:0")))?, "ok")?;
    outcome(&act(&world, socket("inet6", "dgram", "icmpv6", Some("[2001:db8:1::7]:0")))?, "ok")?;
    outcome(&act(&world, socket("inet", "nonsense", "icmp", None))?, "EINVAL")?;
    let status = act(&world, exec(&["cat", "/proc/self/status"]))?.stdout;
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    equal("uid", line("Uid:"), "Uid:\t65534\t65534\t65534\t65534".to_owned())?;
    equal("groups", line("Groups:").trim().to_owned(), "Groups:".to_owned())?;
    equal("effective", line("CapEff:"), "CapEff:\t0000000000000000".to_owned())?;
    equal("bounding", line("CapBnd:"), format!("CapBnd:\t00000000{DOCKER_LESS_NET_RAW}"))
}

/// Docker's default is a80425fb; bit 13 is NET_RAW.
const DOCKER_LESS_NET_RAW: &str = "a80405fb";

fn root_agent() -> Outcome {
    let world = World::new("root", &hosts(), &[Agent { uid: Some(0), ..agent("root") }])?;
    let status = act(&world, exec(&["cat", "/proc/self/status"]))?.stdout;
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        ensure(status.contains(&format!("{set}:\t00000000{DOCKER_LESS_NET_RAW}")), || status.clone())?;
    }
    outcome(&act(&world, socket("inet", "raw", "icmp", None))?, "EPERM")
}

fn own_place() -> Outcome {
    let world = world("place")?;
    for i in 0..2 {
        let end = world.agent(i);
        let of =
            |action: &Action| -> Result<Report, Failed> { Ok(world.spawn_actor(i, action)?.wait(LONG)?) };
        let cgroup = of(&exec(&["cat", "/proc/self/cgroup"]))?.stdout;
        let unified = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned();
        ensure(!unified.is_empty() && end.cgroup.ends_with(&unified[1..]), || format!("{cgroup} {end:?}"))?;
        let inode = fs::metadata(&end.cgroup)?.ino();
        equal("cgroup id", end.cgroup_id, inode)?;
        let resolv = of(&exec(&["cat", "/etc/resolv.conf"]))?.stdout;
        equal("resolver", resolv.lines().next(), Some("nameserver 203.0.113.53"))?;
        let report = of(&Action::Connect(connect("198.51.100.7:7")))?;
        equal("source address", report.src.map(|src| src.ip()), Some(end.address))?;
        let report = of(&Action::Connect(connect("[2001:db8:1::7]:7")))?;
        equal("source address", report.src.map(|src| src.ip()), Some(end.v6))?;
        // The far side runs what the harness gives it, where the agent's resolver is to listen.
        for resolver in end.resolvers {
            let bound = world.far().run(async move { tokio::net::UdpSocket::bind(resolver).await.map(drop) });
            ensure(matches!(bound, Some(Ok(()))), || format!("{resolver} {bound:?}"))?;
        }
    }
    let own = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    ensure(!own.contains("203.0.113.53"), || "the machine's own resolv.conf changed".to_owned())?;
    equal("the authority", World::authority(), SocketAddr::from(([203, 0, 113, 53], 53)))
}

/// Names of this process's namespaces with `id` in them.
fn namespaces(id: &str) -> Vec<String> {
    let prefix = format!("clw-{}-{id}-", Owner::current());
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn nothing_remains() -> Outcome {
    let world = world("remains")?;
    equal("namespaces", namespaces("remains").len(), 3)?;
    let cgroups: Vec<_> = world.agents().map(|end| end.cgroup.clone()).collect();
    let files = format!("/run/clawker-lab/{}/remains-0", Owner::current());
    ensure(Path::new(&files).exists(), || format!("{files} is missing"))?;
    let mut held: Running = world
        .spawn_actor(0, &Action::Connect(Connect { pause: Some(LONG), ..connect("198.51.100.7:21") }))?;
    // A process that left its group is still in its cgroup.
    let report = act(&world, escape())?;
    outcome(&report, "ok")?;
    let procs = fs::read_to_string(cgroups[0].join("cgroup.procs"))?;
    let pids: Vec<u32> = procs.lines().filter_map(|line| line.parse().ok()).collect();
    equal("processes", pids.len(), 2)?;
    ensure(pids.contains(&held.id()), || format!("{pids:?} lacks {}", held.id()))?;
    let orphan = pids.into_iter().find(|&pid| pid != held.id()).ok_or("no orphan")?;
    let inodes: BTreeSet<u64> = namespaces("remains")
        .iter()
        .map(|name| Ok(fs::metadata(Path::new("/run/netns").join(name))?.ino()))
        .collect::<std::io::Result<_>>()?;
    drop(world);
    held.kill();
    drop(held);
    // Without a name, a namespace and its links live as long as a descriptor or a thread of it.
    let users = fs::read_dir("/proc/self/fd")?.flatten().map(|entry| entry.path());
    let threads = fs::read_dir("/proc/self/task")?.flatten().map(|entry| entry.path().join("ns/net"));
    let users = users.chain(threads).filter_map(|path| Some(fs::metadata(path).ok()?.ino()));
    equal("users of the namespaces", users.filter(|inode| inodes.contains(inode)).count(), 0)?;
    equal("namespaces", namespaces("remains"), Vec::new())?;
    ensure(cgroups.iter().all(|cgroup| !cgroup.exists()), || format!("{cgroups:?}"))?;
    ensure(!Path::new(&files).exists(), || format!("{files} is still there"))?;
    // init reaps it; it is dead as soon as its cgroup was empty.
    let state = fs::read_to_string(format!("/proc/{orphan}/stat")).unwrap_or_default();
    ensure(!alive(orphan) || state.contains(") Z "), || format!("the orphan lives: {state}"))
}

fn eight_worlds() -> Outcome {
    let one = |i: usize| -> Outcome {
        let world = world(&format!("par{i}"))?;
        for agent in 0..2 {
            let action = Connect { send: 50_000, receive: 50_000, ..connect("echo.test:7") };
            let report = world.spawn_actor(agent, &Action::Connect(action))?.wait(LONG)?;
            outcome(&report, "ok")?;
            let wire = wire_side(&world.wire(), &report)?;
            equal("bytes", (wire.bytes_out, wire.bytes_in), (50_000, 50_000))?;
        }
        equal("questions", world.far().queries().len(), 2)
    };
    let before = fs::read_link("/proc/thread-self/ns/net")?;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|i| scope.spawn(move || one(i))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| Failed::from("panicked"))?)
    })?;
    equal("the caller's namespace", fs::read_link("/proc/thread-self/ns/net")?, before)
}

/// Answers each connection with what it finds, from a child in a session of its own.
const SERVER: &str = r#"
import os, socket
if os.fork() == 0:
    os.setsid()
    server = socket.create_server(("::", 99), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        peer, _ = server.accept()
        text = open("/srv/words/first").read() + open("/etc/hosts").read() + open("/srv/made").read()
        peer.sendall(text.encode())
        peer.close()
os.wait()
"#;

fn server_program() -> Outcome {
    let words = "first words, ";
    let hosts = serde_json::json!({"real.test": {"addr": ["198.51.100.99", "2001:db8:99::1"], "serve": [{
        "tcp": 99,
        "run": ["python3", "-c", SERVER],
        "prepare": [["sh", "-c", "printf ', made by '$(id -u) > made"]],
        "files": {"words/first": words, "/etc/hosts": "other hosts"},
    }]}});
    let text = format!("{words}other hosts, made by 65534");
    let before = fs::read_to_string("/etc/hosts")?;
    let world = World::new("program", &from(hosts), &[agent("scout")])?;
    let folder = format!("/run/clawker-lab/{}/program-far0", Owner::current());
    ensure(Path::new(&folder).exists(), || format!("{folder} is not there"))?;
    let cgroup = world.agent(0).cgroup.with_file_name("program-far0");
    let processes = fs::read_to_string(cgroup.join("cgroup.procs"))?;
    ensure(processes.lines().count() == 2, || format!("not the server and its child: {processes}"))?;
    for address in ["198.51.100.99", "[2001:db8:99::1]"] {
        let received = text.len() as u64;
        let report =
            act(&world, Connect { receive: received, end: End::Peer, ..connect(&format!("{address}:99")) })?;
        outcome(&report, "ok")?;
        equal("its text", report.received, received)?;
    }
    equal("the machine's own file", fs::read_to_string("/etc/hosts")?, before)?;
    drop(world);
    ensure(!cgroup.exists(), || format!("{} is left, and who is in it", cgroup.display()))?;
    ensure(!Path::new(&folder).exists(), || format!("{folder} is left"))
}

fn broken_server_programs() -> Outcome {
    let error = |serve: serde_json::Value| {
        let hosts = serde_json::json!({"real.test": {"addr": ["198.51.100.99"], "serve": [serve]}});
        World::new("broken", &from(hosts), &[]).err().map(|error| error.to_string()).unwrap_or_default()
    };
    for (serve, said) in [
        (serde_json::json!({"tcp": 99, "run": ["no-such-server"]}), "cannot run no-such-server"),
        (serde_json::json!({"tcp": 99, "run": ["sh", "-c", "echo out of cheese; exit 3"]}), "out of cheese"),
        (
            serde_json::json!({"tcp": 99, "run": ["sleep", "1000"], "prepare": [["sh", "-c", "echo no key; exit 4"]]}),
            "ended with exit 4: no key",
        ),
        (
            serde_json::json!({"tcp": 99, "run": ["sleep", "1000"], "files": {"/etc/not/there": ""}}),
            "this machine has no /etc/not/there",
        ),
    ] {
        let text = error(serve);
        ensure(text.contains("host `real.test` port 99") && text.contains(said), || text.clone())?;
    }
    Ok(())
}

fn time_out() -> Outcome {
    let world = world("timeout")?;
    let running = world.spawn_actor(0, &exec(&["sh", "-c", "sleep 1000 & echo begun; wait"]))?;
    let id = running.id();
    let report = running.wait(Duration::from_millis(300))?;
    outcome(&report, "timeout")?;
    equal("output so far", report.stdout.as_str(), "begun\n")?;
    ensure(!alive(id), || "the shell lives".to_owned())?;
    let own = Action::Exec(Exec {
        run: vec!["sleep".into(), "1000".into()],
        timeout: Some(Duration::from_millis(50)),
        ..Exec::default()
    });
    outcome(&act(&world, own)?, "timeout")
}

fn errors() -> Outcome {
    let text = |result: Result<World, _>| {
        result.err().map(|error: harness::world::WorldError| error.to_string()).unwrap_or_default()
    };
    let bad = text(World::new("a/b", &hosts(), &[]));
    ensure(bad.contains("a/b"), || bad.clone())?;
    let agents = [Agent { caps: vec!["net_rwa".to_owned()], ..agent("scout") }];
    let bad = text(World::new("errcap", &hosts(), &agents));
    ensure(bad.contains("net_rwa") && bad.contains("scout"), || bad.clone())?;
    let two: IndexMap<String, Host> = from(serde_json::json!({
        "a.test": {"addr": ["198.51.100.7"], "serve": [{"tcp": 7}, {"http": 7}]}
    }));
    let bad = text(World::new("errport", &two, &[agent("scout")]));
    ensure(bad.contains("a.test") && bad.contains("7") && bad.contains("in use"), || bad.clone())?;
    let none: IndexMap<String, Host> =
        from(serde_json::json!({"a.test": {"addr": ["198.51.100.7"], "serve": [{"bytes": 7}]}}));
    let bad = text(World::new("errnone", &none, &[agent("scout")]));
    ensure(bad.contains("exactly one port"), || bad.clone())?;
    for id in ["errcap", "errport", "errnone"] {
        equal("left by a failed start", namespaces(id), Vec::new())?;
    }
    let first = world("errtwice")?;
    let bad = text(World::new("errtwice", &hosts(), &[agent("scout")]));
    ensure(bad.contains("errtwice") && bad.contains("exists"), || bad.clone())?;
    equal("the first is untouched", namespaces("errtwice").len(), 3)?;
    let missing = first
        .spawn_actor(0, &exec(&["no-such-program"]))
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    ensure(missing.contains("no-such-program"), || missing.clone())
}

/// Has a world and an actor in it, says the actor's process id, and waits to be killed.
fn victim() -> ! {
    let world = World::new("victim", &hosts(), &[agent("scout")]).expect("a world");
    let hold = Action::Connect(Connect { pause: Some(LONG), ..connect("198.51.100.7:21") });
    let running = world.spawn_actor(0, &hold).expect("an actor");
    println!("{}", running.id());
    let escaped = world.spawn_actor(0, &escape()).expect("an actor").wait(LONG);
    println!("{}", escaped.expect("a report").outcome);
    loop {
        thread::park();
    }
}

fn sweeps() -> Outcome {
    let mut victim = std::process::Command::new("/proc/self/exe")
        .arg(VICTIM)
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(victim.stdout.take().ok_or("no output")?).lines();
    let actor: u32 = lines.next().ok_or("no line")??.parse()?;
    equal("the second actor", lines.next().ok_or("no line")??, "ok".to_owned())?;
    let world = world("sweep")?;
    let folder = world.agent(0).cgroup.ancestors().nth(2).ok_or("a shallow cgroup")?.to_owned();
    let owner = Owner::of(victim.id()).ok_or("the victim is gone")?;
    let (cgroup, prefix) = (folder.join(owner.to_string()), format!("clw-{owner}-"));
    let names = || -> Vec<_> {
        let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        names
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|name| name.starts_with(&prefix))
            .collect()
    };
    let swept = sweep()?;
    equal("the living are left alone", names().len(), 2)?;
    ensure(alive(actor) && cgroup.exists(), || format!("the victim lives, yet: {swept:?}"))?;

    victim.kill()?;
    victim.wait()?;
    let swept = sweep()?;
    ensure(swept.cgroups >= 1 && swept.namespaces >= 2 && swept.processes >= 1, || format!("{swept:?}"))?;
    ensure(!cgroup.exists() && names().is_empty(), || {
        format!("{} or {:?} is left", cgroup.display(), names())
    })?;
    // Killed with its harness; init may still have to reap it.
    let state = fs::read_to_string(format!("/proc/{actor}/stat")).unwrap_or_default();
    ensure(!alive(actor) || state.contains(") Z "), || format!("the actor lives: {state}"))?;
    ensure(!Path::new(&format!("/run/clawker-lab/{owner}")).exists(), || "files are left".to_owned())?;
    outcome(&act(&world, connect("198.51.100.7:7"))?, "ok")
}

fn kept() -> Outcome {
    let world = world("kept")?;
    let cgroups: Vec<_> = world.agents().map(|end| end.cgroup.clone()).collect();
    world.keep();
    let names = namespaces("kept");
    let stayed = names.len() == 3 && cgroups.iter().all(|cgroup| cgroup.exists());
    for name in &names {
        // The kept world is like any that `ip netns` made.
        let listed =
            std::process::Command::new("ip").args(["netns", "exec", name, "ip", "-br", "link"]).output()?;
        ensure(String::from_utf8_lossy(&listed.stdout).contains("UP"), || format!("{name}: {listed:?}"))?;
        ensure(std::process::Command::new("ip").args(["netns", "del", name]).status()?.success(), || {
            name.clone()
        })?;
    }
    for cgroup in &cgroups {
        fs::remove_dir(cgroup)?;
    }
    fs::remove_dir_all(format!("/run/clawker-lab/{}/kept-0", Owner::current()))?;
    fs::remove_dir_all(format!("/run/clawker-lab/{}/kept-1", Owner::current()))?;
    ensure(stayed, || format!("{names:?} {cgroups:?}"))
}

fn fast_enough() -> Outcome {
    // Bounds far above what is printed below, for a busy machine.
    let start = Instant::now();
    let world = World::new("fast", &hosts(), &[agent("scout")])?;
    let creation = start.elapsed();
    let mut actors: Vec<_> = (0..20)
        .map(|_| {
            let start = Instant::now();
            act(&world, connect("198.51.100.7:81")).map(|_| start.elapsed())
        })
        .collect::<Result<_, _>>()?;
    actors.sort();
    let start = Instant::now();
    drop(world);
    eprintln!("creation {creation:?}, actor {:?} (median), removal {:?}", actors[10], start.elapsed());
    ensure(creation < Duration::from_millis(500), || format!("creation took {creation:?}"))?;
    ensure(actors[10] < Duration::from_millis(100), || format!("an actor took {:?}", actors[10]))
}
