//! The grammar of a scenario file, after matrix expansion. Field names here are the YAML's.

mod application;
mod transport;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use indexmap::IndexMap;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    needs::{Requirement, UnknownRequirement},
    schema,
};
pub use application::{Destination, Http3, Quic, Stun, Websocket};
pub use transport::{Accept, DatagramProto, Join, Leak, Origin, Ping, PingVia, Place};

/// One cell: a scenario with its matrix variables put in.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = schema::scenario)]
pub struct Scenario {
    /// What is claimed, in one line; unique within the file's folder.
    pub name: String,
    /// Why the case exists.
    #[serde(default)]
    pub about: String,
    /// The gap of the tracker it shows, 1 to 11.
    #[serde(default)]
    #[schemars(range(min = 1, max = 11))]
    pub gap: Option<u32>,
    /// Words to select it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What the machine must have; the cell is skipped where it has not.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// The container under test; its labels and process attributes.
    #[serde(default)]
    pub agent: Option<Agent>,
    /// Several containers in one world; exclusive with `agent`.
    #[serde(default)]
    pub agents: Vec<Agent>,
    /// The egress rules of every agent here.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// What belongs to every agent's own network, besides the link to the far side.
    #[serde(default)]
    pub network: Network,
    /// The proxy that flows are handed to; absent: there is none.
    #[serde(default)]
    pub proxy: Option<Proxy>,
    /// The far side, by DNS name.
    #[serde(default)]
    pub hosts: IndexMap<String, Host>,
    /// Times that a test wants shorter than production.
    #[serde(default)]
    pub settings: Settings,
    /// Variables and their values; each combination is one cell. Empty once expanded.
    #[serde(default)]
    #[schemars(schema_with = "schema::matrix")]
    pub matrix: IndexMap<String, Vec<serde_json::Value>>,
    /// What the agent does, in order.
    #[schemars(length(min = 1))]
    pub steps: Vec<Step>,
    /// What must be true afterwards.
    pub expect: Expect,
}

impl Scenario {
    /// The host of that name, in capitals or not, as DNS has it.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|(host, _)| host.eq_ignore_ascii_case(name)).map(|(_, host)| host)
    }
}

/// Something that not every machine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Need {
    /// A feature (`mptcp`) or versions (`kernel>=6.1`, `kernel<6.1`) of the kernel.
    Kernel(#[schemars(schema_with = "schema::need")] String),
    /// `{program: nmap}`.
    Program(NeededProgram),
}

/// A program that a step runs and that not every machine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NeededProgram {
    /// Its name; looked for in the harness's `PATH`.
    pub program: String,
}

impl Need {
    /// What is asked for.
    pub fn requirement(&self) -> Result<Requirement, UnknownRequirement> {
        match self {
            Self::Kernel(text) => text.parse(),
            Self::Program(needed) => Ok(Requirement::Program(needed.program.clone())),
        }
    }
}

/// A container: raw labels, and what its processes may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Label `dev.clawker.agent`, byte for byte; also what a step's `by` names.
    pub agent: String,
    /// Label `dev.clawker.project`, byte for byte.
    #[serde(default)]
    pub project: String,
    /// User its processes run as. Default 65534.
    #[serde(default)]
    #[schemars(range(max = 4_294_967_294u32))]
    pub uid: Option<u32>,
    /// Capabilities beyond Docker's default less NET_RAW, e.g. `net_raw`.
    #[serde(default)]
    #[schemars(schema_with = "schema::capabilities")]
    pub caps: Vec<String>,
}

/// One egress rule; the same list that `ebpf-manager rules apply` reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A domain (`api.test`), a wildcard (`*.test`), an address or a prefix.
    #[schemars(schema_with = "schema::rule_destination")]
    pub dst: String,
    /// `tcp`, `udp`, `icmp`, a name that fixes transport and default port (`https` 443, `http` 80, `ssh` 22),
    /// or a transport whose sockets are not made unless a rule names it: `mptcp`, `sctp`, `udplite`.
    #[schemars(schema_with = "schema::proto")]
    pub proto: String,
    /// One port, or an inclusive range (`8000-8100`). Required where the proto has no default; `icmp` has none.
    #[serde(default)]
    #[schemars(schema_with = "schema::rule_port")]
    pub port: Option<PortSpec>,
    /// Port of the proxy's listener that its flows are handed to; absent: they go straight there.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub listener: Option<u16>,
}

/// An agent's own network. Whatever rules say, it reaches nothing there but `infrastructure`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Prefixes of it.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub subnets: Vec<IpNet>,
    /// The host's addresses in it.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// What the agent may reach there, as `address:port`: over TCP and UDP, and the address over ICMP.
    #[serde(default)]
    pub infrastructure: Vec<SocketAddr>,
}

/// A proxy on the far side. A listener that a rule names forwards to that rule's host and first port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// Port that takes TCP that no rule knows, and resets it. Absent: that is denied.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub catch_all: Option<u16>,
}

/// `443` or `"8000-8100"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, from = "PortText")]
pub enum PortSpec {
    /// One port.
    One(u16),
    /// An inclusive range, `first-last`.
    Range(String),
}

/// A port as it is written: one that a variable put between quotes is a port all the same.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum PortText {
    One(u16),
    Text(String),
}

impl From<PortText> for PortSpec {
    fn from(written: PortText) -> Self {
        match written {
            PortText::One(port) => Self::One(port),
            PortText::Text(text) => text.parse().map_or(Self::Range(text), Self::One),
        }
    }
}

/// A host on the far side.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its addresses, from the documentation ranges.
    #[schemars(length(min = 1))]
    pub addr: Vec<IpAddr>,
    /// DNS time to live, seconds. Default 300.
    #[serde(default = "default_ttl")]
    pub ttl: u32,
    /// Its servers. A port without one refuses.
    #[serde(default)]
    pub serve: Vec<Serve>,
    /// Drops every packet: nothing answers, not even a reset.
    #[serde(default)]
    pub silent: bool,
}

const fn default_ttl() -> u32 {
    300
}

/// One server: exactly one of the port fields.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = schema::one_server)]
pub struct Serve {
    /// TCP port.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub tcp: Option<u16>,
    /// UDP port.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub udp: Option<u16>,
    /// Plain HTTP/1.1 port.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub http: Option<u16>,
    /// HTTP/1.1 over TLS port, with a self-signed certificate for the host's name.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub tls: Option<u16>,
    /// UDP port of a QUIC server that sends back what comes on each stream.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub quic: Option<u16>,
    /// UDP port of an HTTP/3 server, which sends a request's body back.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub h3: Option<u16>,
    /// TCP port of a WebSocket server over plain HTTP/1.1, which sends every message back.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub websocket: Option<u16>,
    /// UDP port of a STUN server, which answers binding requests.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub stun: Option<u16>,
    /// What a TCP or UDP server does. Default `echo`.
    #[serde(default)]
    pub reply: Reply,
    /// Bytes that `source`, `http`, `tls` and `h3` send as their body. Default 0.
    #[serde(default)]
    pub bytes: u64,
    /// HTTP status. Default 200.
    #[serde(default)]
    #[schemars(range(min = 200, max = 599))]
    pub status: Option<u16>,
    /// A real server program and its arguments in place of the harness's own; no shell. It runs as
    /// `nobody` and may bind low ports; `/srv` is its own, for it alone, and its `HOME`. The world is
    /// ready when it listens on the port at every address of the host.
    #[serde(default)]
    pub run: Vec<String>,
    /// Programs that run before it, one after the other, in the same place: keys, a repository.
    #[serde(default)]
    pub prepare: Vec<Vec<String>>,
    /// Files that it finds: path, below `/srv` or from `/`, to content. A file from `/` must exist on
    /// the machine; the program sees this one in its place, and nobody else does.
    #[serde(default)]
    pub files: IndexMap<String, String>,
}

/// What a TCP or UDP server does with a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Send back what comes.
    #[default]
    Echo,
    /// Read, never send.
    Sink,
    /// Send `bytes` on accept (TCP) or on each datagram (UDP), and read.
    Source,
    /// TCP: read what the agent sends first, then reset.
    Reset,
    /// TCP: accept, then neither read nor close.
    Hold,
    /// TCP: send `bytes`, then close at once.
    Close,
}

/// Times that a test wants shorter than production.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// UDP flows idle for this long end. Default 30s.
    #[serde(default, with = "duration_text::option")]
    #[schemars(schema_with = "schema::duration")]
    pub udp_idle: Option<Duration>,
    /// Shortest enforcement validity of a DNS answer. Default 60s.
    #[serde(default, with = "duration_text::option")]
    #[schemars(schema_with = "schema::duration")]
    pub dns_ttl_floor: Option<Duration>,
    /// Most flows open at once, per agent. Default: the manager's.
    #[serde(default)]
    pub flow_quota: Option<u64>,
}

/// One thing that happens. Exactly one of the action fields is set.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = schema::one_action)]
pub struct Step {
    /// A TCP connection.
    #[serde(default)]
    pub connect: Option<Connect>,
    /// UDP datagrams.
    #[serde(default)]
    pub send: Option<Send>,
    /// A DNS look-up through the agent's resolver configuration.
    #[serde(default)]
    pub resolve: Option<String>,
    /// ICMP echo requests from an unprivileged ping socket.
    #[serde(default)]
    pub ping: Option<Ping>,
    /// A QUIC connection.
    #[serde(default)]
    pub quic: Option<Quic>,
    /// An HTTP/3 request.
    #[serde(default)]
    pub http3: Option<Http3>,
    /// A WebSocket.
    #[serde(default)]
    pub websocket: Option<Websocket>,
    /// A STUN binding request.
    #[serde(default)]
    pub stun: Option<Stun>,
    /// Take a connection or a datagram that comes from the far side.
    #[serde(default)]
    pub accept: Option<Accept>,
    /// Become a member of a multicast group.
    #[serde(default)]
    pub join: Option<Join>,
    /// Only make a socket.
    #[serde(default)]
    pub socket: Option<Socket>,
    /// Run a program, unmodified, as the agent.
    #[serde(default)]
    pub exec: Option<Exec>,
    /// Switch bypass for the agent, as an operator would.
    #[serde(default)]
    pub bypass: Option<BypassSwitch>,
    /// Replace the agent's rules.
    #[serde(default)]
    pub rules: Option<Vec<Rule>>,
    /// Let time pass.
    #[serde(default, with = "duration_text::option")]
    #[schemars(schema_with = "schema::duration")]
    pub wait: Option<Duration>,
    /// Run these steps at the same time.
    #[serde(default)]
    #[schemars(length(min = 2))]
    pub together: Option<Vec<Step>>,
    /// Which agent, where there are several. Default: the first.
    #[serde(default)]
    pub by: Option<String>,
    /// The cgroup that the agent's process is in: its `own` (default), or one `nested` in that.
    #[serde(default)]
    pub cgroup: Place,
    /// What the agent's own call must return: `ok` (default), an errno name such as `EPERM`,
    /// `NXDOMAIN`, `exit 7`.
    #[serde(default)]
    #[schemars(schema_with = "schema::outcome")]
    pub outcome: Option<String>,
}

/// A TCP connection and what is done with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// `name:port` or `address:port`; a name is resolved first, as the agent.
    #[schemars(schema_with = "schema::target")]
    pub to: String,
    /// How it is made, or how it sends. Default `connect`.
    #[serde(default)]
    pub via: ConnectVia,
    /// `v4`, `v6`, or `mapped`: an IPv4 address from an IPv6 socket. Default: IPv4, if the name has it.
    #[serde(default)]
    pub family: Option<Family>,
    /// For `via: routing_header`: the IPv6 address where the packets go first.
    #[serde(default)]
    pub route: Option<Ipv6Addr>,
    /// Where the socket comes from. Default `inside`.
    #[serde(default)]
    pub origin: Origin,
    /// Payload bytes to send.
    #[serde(default)]
    pub send: u64,
    /// Payload bytes to read before going on.
    #[serde(default)]
    pub receive: u64,
    /// Stay connected and silent for this long after that.
    #[serde(default, with = "duration_text::option")]
    #[schemars(schema_with = "schema::duration")]
    pub pause: Option<Duration>,
    /// Payload bytes to send after the pause.
    #[serde(default)]
    pub send_after: u64,
    /// How it ends. Default `close`.
    #[serde(default)]
    pub end: End,
    /// Give up after this long (`TCP_USER_TIMEOUT` and read time-out). Default 5s.
    #[serde(default, with = "duration_text::option")]
    #[schemars(schema_with = "schema::duration")]
    pub timeout: Option<Duration>,
}

/// System call of a TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum ConnectVia {
    /// `connect()` on a blocking socket.
    #[default]
    Connect,
    /// `connect()` on a non-blocking socket, then `poll()`.
    Nonblock,
    /// `bind()` first.
    Bind,
    /// An io_uring connects and sends.
    IoUring,
    /// The same, with a kernel thread that polls the ring.
    IoUringSqpoll,
    /// TCP Fast Open by `sendto(MSG_FASTOPEN)`: the first data is in the SYN.
    FastOpen,
    /// TCP Fast Open by `TCP_FASTOPEN_CONNECT`: the first `send()` connects.
    FastOpenConnect,
    /// Multipath TCP.
    Mptcp,
    /// Data goes through a pipe and `splice()`.
    Splice,
    /// Data goes from a file, by `sendfile()`.
    Sendfile,
    /// Data goes by `send(MSG_ZEROCOPY)`.
    Zerocopy,
    /// Connects, disconnects with `AF_UNSPEC`, and connects the same socket again.
    Reconnect,
    /// An IPv6 routing header sends the packets to `route` first.
    RoutingHeader,
}

/// How the agent ends a TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// `shutdown(SHUT_WR)`, read to the peer's end, `close()`.
    #[default]
    Close,
    /// `close()` with linger 0: a reset.
    Reset,
    /// The process is killed with SIGKILL.
    Kill,
    /// The peer closes first.
    Peer,
}

/// Datagrams from one socket to one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// `name:port` or `address:port`; a name is resolved first, as the agent.
    #[schemars(schema_with = "schema::target")]
    pub to: String,
    /// `udp` (default), `udplite`, `sctp` or `dccp`.
    #[serde(default)]
    pub proto: DatagramProto,
    /// How. Default `sendto`.
    #[serde(default)]
    pub via: SendVia,
    /// `v4` (default), `v6`, or `mapped`: an IPv4 address from an IPv6 socket.
    #[serde(default)]
    pub family: Family,
    /// Another `address:port`: where `connected_other` and `unspec` connect to first, and where
    /// `cork` sends its second half.
    #[serde(default)]
    pub other: Option<String>,
    /// For `via: routing_header`: the IPv6 address where the packets go first.
    #[serde(default)]
    pub route: Option<Ipv6Addr>,
    /// Where the socket comes from. Default `inside`.
    #[serde(default)]
    pub origin: Origin,
    /// Payload bytes a datagram. Default 32.
    #[serde(default = "default_bytes")]
    #[schemars(range(max = 65_507))]
    pub bytes: u64,
    /// Datagrams. Default 1.
    #[serde(default = "default_count")]
    #[schemars(range(min = 1, max = 100_000))]
    pub count: u32,
    /// Wait for this many answers before closing. Default 0.
    #[serde(default)]
    pub receive: u32,
    /// Time between datagrams.
    #[serde(default, with = "duration_text::option")]
    #[schemars(schema_with = "schema::duration")]
    pub pause: Option<Duration>,
}

impl Send {
    /// One UDP datagram of the default size, by `sendto()`.
    pub fn to(to: impl Into<String>) -> Self {
        Self {
            to: to.into(),
            proto: DatagramProto::Udp,
            via: SendVia::Sendto,
            family: Family::V4,
            other: None,
            route: None,
            origin: Origin::Inside,
            bytes: default_bytes(),
            count: default_count(),
            receive: 0,
            pause: None,
        }
    }
}

const fn default_bytes() -> u64 {
    32
}
const fn default_count() -> u32 {
    1
}

/// System call of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum SendVia {
    /// `sendto()` with an address.
    #[default]
    Sendto,
    /// `sendmsg()` with an address.
    Sendmsg,
    /// One `sendmmsg()` for all datagrams.
    Sendmmsg,
    /// `connect()`, then `send()`.
    Connected,
    /// `connect()` to `other`, then `sendto()` with an address.
    ConnectedOther,
    /// `sendto()` with an address whose family is `AF_UNSPEC`.
    Unspec,
    /// An io_uring's `sendmsg` with an address.
    IoUring,
    /// The same, with a kernel thread that polls the ring.
    IoUringSqpoll,
    /// An io_uring's zero-copy send with an address (Linux 6.0).
    IoUringZerocopy,
    /// `sendto(MSG_ZEROCOPY)` with an address.
    Zerocopy,
    /// One `sendto()` that the kernel cuts into datagrams (`UDP_SEGMENT`).
    Gso,
    /// `connect()`, then a pipe and `splice()`.
    Splice,
    /// Each datagram from two `sendto()`, the first with `MSG_MORE`.
    Cork,
    /// An IPv6 routing header sends the packets to `route` first.
    RoutingHeader,
}

/// Which address of a name to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
    /// IPv4, from an IPv6 socket to `::ffff:a.b.c.d`.
    Mapped,
}

/// `socket(family, type, protocol)`, by name or number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// `inet`, `inet6`, `packet`, `netlink`, `unix`, `vsock` and others, or a number.
    #[schemars(schema_with = "schema::socket_family")]
    pub family: String,
    /// `stream`, `dgram`, `raw`, `rdm`, `seqpacket`, `dccp`, `packet`, or a number.
    #[schemars(schema_with = "schema::socket_kind")]
    pub kind: String,
    /// `IPPROTO_*` number or name (`icmp`, `udp`, `sctp`, `raw`, `udplite`, `mptcp`). Default 0.
    #[serde(default)]
    #[schemars(schema_with = "schema::socket_protocol")]
    pub protocol: Option<String>,
    /// Send one datagram there with it: `address:port`. From `packet`, it is an Ethernet frame
    /// that holds a UDP datagram.
    #[serde(default)]
    #[schemars(schema_with = "schema::target")]
    pub to: Option<String>,
    /// For `raw`: the agent writes the IP header itself, and a UDP datagram behind it.
    #[serde(default)]
    pub hdrincl: bool,
    /// For `packet`: past the queueing discipline (`PACKET_QDISC_BYPASS`).
    #[serde(default)]
    pub qdisc_bypass: bool,
}

/// A real program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// Program and arguments; no shell.
    #[schemars(schema_with = "schema::program")]
    pub run: Vec<String>,
    /// Killed after this long. Default 30s.
    #[serde(default, with = "duration_text::option")]
    #[schemars(schema_with = "schema::duration")]
    pub timeout: Option<Duration>,
    /// Text its standard output must contain.
    #[serde(default)]
    pub stdout: Option<String>,
    /// Text its standard error must contain.
    #[serde(default)]
    pub stderr: Option<String>,
}

/// `on` for a time, or `off`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum BypassSwitch {
    /// On for this long; `{on: 5s}`.
    On(
        #[serde(with = "duration_text")]
        #[schemars(schema_with = "schema::duration")]
        Duration,
    ),
    /// Off now.
    Off,
}

/// What must be true afterwards.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Documents that must be there.
    #[serde(default)]
    pub documents: Vec<DocumentExpectation>,
    /// No other document of these agents in `clawker-egress`, redirected DNS aside. Default true.
    #[serde(default = "default_true")]
    pub nothing_else: bool,
    /// What the far side saw.
    #[serde(default)]
    pub wire: Vec<WireExpectation>,
    /// `known`: what `wire` says arrives by an escape that is known. If it is closed, the case fails.
    #[serde(default)]
    pub leak: Option<Leak>,
    /// `closed` (default): attempts = documents + accounted losses + open flows.
    #[serde(default)]
    pub ledger: LedgerExpectation,
}

const fn default_true() -> bool {
    true
}

/// A set of documents and what each of them must say.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = schema::one_count)]
pub struct DocumentExpectation {
    /// Data stream. Default `clawker-egress`.
    #[serde(default = "default_stream")]
    #[schemars(schema_with = "schema::stream")]
    pub stream: String,
    /// Which documents are meant: attribute = value.
    #[serde(default, rename = "where")]
    #[schemars(schema_with = "schema::attributes")]
    pub filter: BTreeMap<String, serde_json::Value>,
    /// How many there must be, exactly.
    #[serde(default)]
    pub exactly: Option<u64>,
    /// How many there must be, at least. Default 1 where `exactly` is absent.
    #[serde(default)]
    pub at_least: Option<u64>,
    /// What each of them must say: attribute = value.
    #[serde(default, rename = "match")]
    #[schemars(schema_with = "schema::attributes")]
    pub fields: BTreeMap<String, serde_json::Value>,
}

fn default_stream() -> String {
    super::fields::EGRESS_STREAM.to_owned()
}

/// What the far side saw.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = schema::seen)]
pub struct WireExpectation {
    /// Host name, `name:port`, or `address[:port]`.
    pub to: String,
    /// Only packets of this protocol: `tcp`, `udp`, `icmp`, `udplite`, `sctp`, `dccp`, `igmp`, or a number.
    #[serde(default)]
    pub proto: Option<String>,
    /// Packets from the agents to it, exactly (ARP, ND and bare resets aside).
    #[serde(default)]
    pub packets: Option<u64>,
    /// Packets, at least.
    #[serde(default)]
    pub at_least: Option<u64>,
    /// L4 payload bytes from the agents to it, each counted once.
    #[serde(default)]
    pub bytes: Option<u64>,
}

impl WireExpectation {
    /// Whether something must arrive.
    pub fn wants_packets(&self) -> bool {
        let more = |least: Option<u64>| least.is_some_and(|least| least > 0);
        more(self.packets) || more(self.at_least) || more(self.bytes)
    }
}

/// Whether the ledger must close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LedgerExpectation {
    /// attempts = documents + accounted losses + open flows, exactly.
    #[default]
    Closed,
    /// Not judged in this case.
    Any,
}

/// Durations as text: `250ms`, `2s`, `1m`.
pub mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Reads `250ms`, `2s`, `1m`.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: u64 =
            number.parse().map_err(|_| format!("`{text}` is not a duration such as 250ms, 2s or 1m"))?;
        match unit {
            "ms" => Ok(Duration::from_millis(number)),
            "s" => Ok(Duration::from_secs(number)),
            "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
            _ => Err(format!("`{text}` is not a duration such as 250ms, 2s or 1m")),
        }
    }

    /// The shortest text that [`parse`] reads back.
    pub fn text(duration: &Duration) -> String {
        let ms = duration.as_millis();
        if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
    }

    /// For serde's `with`.
    pub fn deserialize<'de, D: Deserializer<'de>>(de: D) -> Result<Duration, D::Error> {
        parse(&String::deserialize(de)?).map_err(D::Error::custom)
    }

    /// For serde's `with`.
    pub fn serialize<S: Serializer>(duration: &Duration, ser: S) -> Result<S::Ok, S::Error> {
        ser.serialize_str(&text(duration))
    }

    /// The same for an absent duration.
    pub mod option {
        use super::{Deserialize, Deserializer, Duration, Error, Serializer};

        /// For serde's `with`.
        pub fn deserialize<'de, D: Deserializer<'de>>(de: D) -> Result<Option<Duration>, D::Error> {
            Option::<String>::deserialize(de)?
                .map(|text| super::parse(&text).map_err(D::Error::custom))
                .transpose()
        }

        /// For serde's `with`.
        pub fn serialize<S: Serializer>(duration: &Option<Duration>, ser: S) -> Result<S::Ok, S::Error> {
            match duration {
                Some(duration) => ser.serialize_some(&super::text(duration)),
                None => ser.serialize_none(),
            }
        }
    }
}
