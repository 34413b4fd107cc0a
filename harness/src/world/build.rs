//! Makes the namespaces and wires them up, over rtnetlink, in a thread of its own.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use futures_util::TryStreamExt as _;
use indexmap::IndexMap;
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        address::{AddressAttribute, AddressHeaderFlags},
        link::{InfoData, InfoVeth, LinkAttribute, State},
        neighbour::NeighbourState,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
    },
};

use super::{
    NETNS_PREFIX, WorldError,
    addresses::{self, V4_PREFIX, V6_PREFIX},
    netns::Netns,
};
use crate::{owner::Owner, scenario::types::Host, wire};

/// How long a veth pair may take to carry packets.
const OPERATIONAL_LIMIT: Duration = Duration::from_secs(5);
/// How long the kernel says nothing of its own that it would have said by then.
const SILENCE: Duration = Duration::from_millis(50);
/// Between two looks.
const LOOK: Duration = Duration::from_micros(500);
/// Locally administered; every veth is a network of its own.
pub const AGENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The other end's.
pub const FAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// `lo` is always first.
const LOOPBACK: u32 = 1;
/// The agent's end of its veth.
pub const AGENT_LINK: u32 = 2;
/// Its name.
pub const AGENT_INTERFACE: &str = "eth0";
/// The far end of agent 0's veth; agent `i` has `FAR_LINK + i`.
const FAR_LINK: u32 = 100_000;

/// The namespaces of one world, connected, and a capture socket for each veth.
pub struct Network {
    pub far: Netns,
    pub agents: Vec<Netns>,
    pub captures: Vec<OwnedFd>,
}

/// Where an agent's network namespace is to be.
#[derive(Clone, Copy)]
pub enum Home<'a> {
    /// That of this process.
    Process(u32),
    /// A new one, of the cgroup whose `cgroup.procs` this is.
    Cgroup(BorrowedFd<'a>),
}

/// Builds the network of world `id`, with these agents; the far side is in the namespace of process `far`, if that is said.
/// The work is done in a thread of its own, because a thread is in one network namespace at a time.
pub fn network(
    id: &str,
    hosts: &IndexMap<String, Host>,
    agents: &[Home<'_>],
    far: Option<u32>,
) -> Result<Network, WorldError> {
    let prefix = format!("{NETNS_PREFIX}-{}-{id}", Owner::current());
    let host_addresses: BTreeSet<IpAddr> =
        hosts.values().filter(|host| !host.silent).flat_map(|host| host.addr.iter().copied()).collect();
    thread::scope(|scope| {
        thread::Builder::new()
            .name("world-build".to_owned())
            .spawn_scoped(scope, || build(&prefix, &host_addresses, agents, far))
            .map_err(WorldError::io("start a thread"))?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn build(
    prefix: &str,
    hosts: &BTreeSet<IpAddr>,
    agents: &[Home<'_>],
    far: Option<u32>,
) -> Result<Network, WorldError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(WorldError::io("start a runtime"))?;
    // A netlink socket stays in the namespace that it was made in, so the thread walks through the
    // agents' namespaces once and ends in the far one.
    let mut rooms = Vec::with_capacity(agents.len());
    for (i, home) in agents.iter().enumerate() {
        let name = format!("{prefix}-{i}");
        let netns = match home {
            Home::Process(pid) => Netns::enter(*pid, &name)?,
            Home::Cgroup(procs) => Netns::create_in(*procs, &name)?,
        };
        quiet_kernel()?;
        rooms.push((netns, connect(&runtime)?));
    }
    let name = format!("{prefix}-far");
    let far = match far {
        Some(pid) => Netns::enter(pid, &name)?,
        None => Netns::create_and_enter(&name)?,
    };
    quiet_kernel()?;
    let far_handle = connect(&runtime)?;
    let mut captures = Vec::with_capacity(agents.len());
    runtime.block_on(async {
        // The one that a runtime gave it.
        remove_defaults(&far_handle).await?;
        up(&far_handle, LOOPBACK).await?;
        add_address(&far_handle, LOOPBACK, addresses::AUTHORITY.into(), 32).await?;
        add_address(&far_handle, LOOPBACK, addresses::PROXY_V4.into(), 32).await?;
        add_address(&far_handle, LOOPBACK, addresses::PROXY_V6.into(), 128).await?;
        for &host in hosts.iter().filter(|host| **host != IpAddr::V4(addresses::AUTHORITY)) {
            add_address(&far_handle, LOOPBACK, host, if host.is_ipv4() { 32 } else { 128 }).await?;
        }
        // What is for no host vanishes. Without a route, IPv6 would answer "unreachable".
        for route in [
            RouteMessageBuilder::<Ipv4Addr>::new().kind(RouteType::BlackHole).build(),
            RouteMessageBuilder::<Ipv6Addr>::new().kind(RouteType::BlackHole).build(),
        ] {
            add_route(&far_handle, route, "the far side's blackhole").await?;
        }
        for (i, (netns, handle)) in rooms.iter().enumerate() {
            join(&far_handle, netns, handle, i).await?;
        }
        for handle in rooms.iter().map(|(_, handle)| handle).chain([&far_handle]) {
            settled(handle).await?;
        }
        silent(rooms.iter().map(|(_, handle)| handle)).await?;
        Ok(())
    })?;
    for i in 0..agents.len() {
        let socket = wire::capture_socket(far_link(i)).map_err(WorldError::io("open a capture socket"))?;
        captures.push(socket);
    }
    Ok(Network { far, agents: rooms.into_iter().map(|(netns, _)| netns).collect(), captures })
}

const fn far_link(i: usize) -> u32 {
    FAR_LINK + i as u32
}

/// Settings of the calling thread's namespace. IPv4 defaults are inherited from the machine's first
/// namespace, so those that matter here are set; IPv6 must not wait for duplicate address detection.
fn quiet_kernel() -> Result<(), WorldError> {
    for (name, value) in [
        ("ipv4/ip_forward", "0"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        // Replies to probes of the cases must not depend on the kernel's rate limits.
        ("ipv4/icmp_ratelimit", "0"),
        ("ipv6/icmp/ratelimit", "0"),
        ("ipv6/conf/all/disable_ipv6", "0"),
        ("ipv6/conf/default/disable_ipv6", "0"),
        ("ipv6/conf/all/accept_dad", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
        // What the kernel tells of its multicast groups is repeated once after up to this, milliseconds. In a container's
        // namespace it is the container's, and would be recorded once that is enrolled.
        ("ipv6/conf/default/mldv2_unsolicited_report_interval", "1"),
        // TCP Fast Open as client and server, without a cookie first, on every listener: a case can then
        // have data in the SYN.
        ("ipv4/tcp_fastopen", "1543"),
        // ICMP datagram sockets for everyone, as Docker gives them.
        ("ipv4/ping_group_range", "0 2147483647"),
    ] {
        let path = format!("/proc/sys/net/{name}");
        fs::write(&path, value).map_err(WorldError::io(format!("set {path}")))?;
    }
    Ok(())
}

fn connect(runtime: &tokio::runtime::Runtime) -> Result<Handle, WorldError> {
    let _context = runtime.enter();
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(WorldError::io("open a netlink socket"))?;
    runtime.spawn(connection);
    Ok(handle)
}

/// A veth pair between the far side and agent `i`, with addresses and the agent's default routes.
async fn join(far: &Handle, netns: &Netns, agent: &Handle, i: usize) -> Result<(), WorldError> {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(AGENT_INTERFACE.to_owned())
        .index(AGENT_LINK)
        .address(AGENT_MAC.to_vec())
        .append_extra_attribute(LinkAttribute::NetNsFd(netns.fd().as_raw_fd()))
        .build();
    let link = LinkMessageBuilder::<LinkVeth>::new(&format!("a{i}"), AGENT_INTERFACE)
        .index(far_link(i))
        .address(FAR_MAC.to_vec())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    far.link().add(link).execute().await.map_err(netlink("create a veth pair"))?;
    // Not in the same message: an end of a veth cannot be up before it has its other end.
    up(agent, LOOPBACK).await?;
    up(far, far_link(i)).await?;
    up(agent, AGENT_LINK).await?;
    operational(far, far_link(i)).await?;
    operational(agent, AGENT_LINK).await?;
    for (handle, link, v4, v6) in [
        (far, far_link(i), addresses::far_v4(i), addresses::far_v6(i)),
        (agent, AGENT_LINK, addresses::agent_v4(i), addresses::agent_v6(i)),
    ] {
        add_address(handle, link, v4.into(), V4_PREFIX).await?;
        add_address(handle, link, v6.into(), V6_PREFIX).await?;
    }
    // A first packet that waits for its neighbour to be found may arrive after it was looked for.
    for (handle, link, mac, v4, v6) in [
        (far, far_link(i), AGENT_MAC, addresses::agent_v4(i), addresses::agent_v6(i)),
        (agent, AGENT_LINK, FAR_MAC, addresses::far_v4(i), addresses::far_v6(i)),
    ] {
        for address in [v4.into(), v6.into()] {
            let neighbour = handle.neighbours().add(link, address).link_local_address(&mac);
            let neighbour = neighbour.state(NeighbourState::Permanent);
            neighbour.execute().await.map_err(netlink(&format!("add the neighbour {address}")))?;
        }
    }
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().gateway(addresses::far_v4(i)).build();
    add_route(agent, v4, "the agent's IPv4 default").await?;
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().gateway(addresses::far_v6(i)).build();
    add_route(agent, v6, "the agent's IPv6 default").await
}

async fn up(handle: &Handle, link: u32) -> Result<(), WorldError> {
    let message = LinkUnspec::new_with_index(link).up().build();
    handle.link().set(message).execute().await.map_err(netlink(&format!("bring link {link} up")))
}

/// Waits until a link carries packets. The kernel enables the queue of the end that was up first in a
/// work item of its own; what is sent before that is dropped.
async fn operational(handle: &Handle, link: u32) -> Result<(), WorldError> {
    let deadline = Instant::now() + OPERATIONAL_LIMIT;
    loop {
        let found = handle.link().get().match_index(link).execute().try_next().await;
        let found = found.map_err(netlink(&format!("read the state of link {link}")))?;
        let is_up = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::OperState(State::Up));
        if found.is_some_and(|message| message.attributes.iter().any(is_up)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let problem = io::Error::new(io::ErrorKind::TimedOut, format!("link {link} is not operational"));
            return Err(WorldError::io("bring a veth pair up")(problem));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until every IPv6 address has its local route. Even without duplicate address detection, an
/// address is taken into use in a work item of its own; what comes for it before that is dropped.
async fn settled(handle: &Handle) -> Result<(), WorldError> {
    let deadline = Instant::now() + OPERATIONAL_LIMIT;
    loop {
        let addresses: Vec<_> =
            handle.address().get().execute().try_collect().await.map_err(netlink("read the addresses"))?;
        let every = RouteMessageBuilder::<Ipv6Addr>::new().build();
        let routes: Vec<_> =
            handle.route().get(every).execute().try_collect().await.map_err(netlink("read the routes"))?;
        let local: BTreeSet<Ipv6Addr> = routes
            .iter()
            .filter(|route| route.header.kind == RouteType::Local)
            .flat_map(|route| &route.attributes)
            .filter_map(|attribute| match attribute {
                RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(*address),
                _ => None,
            })
            .collect();
        let mut own =
            addresses.iter().flat_map(|address| &address.attributes).filter_map(
                |attribute| match attribute {
                    AddressAttribute::Address(IpAddr::V6(address)) => Some(address),
                    _ => None,
                },
            );
        if own.all(|address| local.contains(address)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let problem = io::Error::new(io::ErrorKind::TimedOut, "an IPv6 address has no local route");
            return Err(WorldError::io("take the addresses into use")(problem));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the kernel of every agent's namespace has said all it says of multicast groups by itself, which nothing
/// tells but that no packet leaves any more.
async fn silent(agents: impl Iterator<Item = &Handle> + Clone) -> Result<(), WorldError> {
    let deadline = Instant::now() + OPERATIONAL_LIMIT;
    let (mut left, mut since) = (0, Instant::now());
    loop {
        let mut now = 0;
        for handle in agents.clone() {
            let found = handle.link().get().match_index(AGENT_LINK).execute().try_next().await;
            let found = found.map_err(netlink("read the counters of an agent's link"))?;
            let packets = |attribute: &LinkAttribute| match attribute {
                LinkAttribute::Stats64(stats) => Some(stats.tx_packets),
                _ => None,
            };
            now += found.iter().flat_map(|message| &message.attributes).find_map(packets).unwrap_or(0);
        }
        if now != left {
            (left, since) = (now, Instant::now());
        }
        if since.elapsed() >= SILENCE || Instant::now() >= deadline {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Removes the default routes of a namespace.
async fn remove_defaults(handle: &Handle) -> Result<(), WorldError> {
    let routes = handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
    let routes: Vec<_> = routes.try_collect().await.map_err(netlink("read the routes"))?;
    let is_default = |route: &RouteMessage| {
        route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast
    };
    for route in routes.into_iter().filter(is_default) {
        handle.route().del(route).execute().await.map_err(netlink("remove a default route"))?;
    }
    Ok(())
}

async fn add_address(handle: &Handle, link: u32, address: IpAddr, prefix: u8) -> Result<(), WorldError> {
    let mut request = handle.address().add(link, address, prefix);
    request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    request.execute().await.map_err(netlink(&format!("add the address {address}/{prefix} to link {link}")))
}

async fn add_route(handle: &Handle, route: RouteMessage, what: &str) -> Result<(), WorldError> {
    handle.route().add(route).execute().await.map_err(netlink(&format!("add {what} route")))
}

fn netlink(what: &str) -> impl FnOnce(rtnetlink::Error) -> WorldError {
    move |source| WorldError::Netlink { what: what.to_owned(), source: Box::new(source) }
}
