//! Who an agent is, and where: its capabilities, cgroup, addresses and resolver.

use std::{fs, net::SocketAddr, os::unix::fs::MetadataExt};

use harness::{
    actor::{Action, Report},
    scenario::types::{Agent, Socket},
    world::World,
};
use libtest_mimic::Failed;

use super::stage::*;

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

pub fn capabilities() -> Outcome {
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

pub fn root_agent() -> Outcome {
    let world = World::new("root", &hosts(), &[Agent { uid: Some(0), ..agent("root") }])?;
    let status = act(&world, exec(&["cat", "/proc/self/status"]))?.stdout;
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        ensure(status.contains(&format!("{set}:\t00000000{DOCKER_LESS_NET_RAW}")), || status.clone())?;
    }
    outcome(&act(&world, socket("inet", "raw", "icmp", None))?, "EPERM")
}

pub fn own_place() -> Outcome {
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
