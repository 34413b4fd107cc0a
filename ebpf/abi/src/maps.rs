//! Keys and values of the pinned maps.

use crate::{Address, COMM_LEN, CloseReason, Direction, Flow, Hook, Reason, Verdict};

/// Names remembered per container and address.
pub const DNS_NAMES: usize = 4;
/// Port ranges per domain or prefix.
pub const PORT_RANGES: usize = 16;
/// Room for a DNS name in presentation form.
pub const NAME_LEN: usize = 256;
/// Members of [`LossPoint`](crate::LossPoint).
pub const LOSS_POINTS: usize = crate::LossPoint::ALL.len();
/// Members of [`Hook`](crate::Hook).
pub const HOOKS: usize = Hook::ALL.len();
/// Denials of one container that get a record of their own in one [`BUDGET_WINDOW_NS`]; more are folded.
pub const DENIAL_BUDGET: u64 = 128;
/// A power of two, because the programs divide by it: 134 ms.
pub const BUDGET_WINDOW_NS: u64 = 1 << 27;
/// Most entries of one container in `folds`; what finds no room is counted in [`Ledger::overflow`].
pub const FOLD_QUOTA: u64 = 256;

/// Cgroup storage: who the attach point is. Zero until enrolment wrote it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Inode number of the enrolled cgroup; 0 is nobody.
    pub cgroup_id: u64,
    /// When it was enrolled: what a socket was permitted under an earlier enrolment is over.
    pub enrolled_ns: u64,
}

/// `container_map`, by cgroup id: what the programs need to know of a container.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Container {
    /// Where DNS to an IPv4 address is redirected to: the resolver view. Without a port: such DNS is denied.
    pub resolver: Address,
    /// Where DNS to a native IPv6 address is redirected to, likewise.
    pub resolver6: Address,
    /// UDP flows without a datagram for this long are ended by the sweeper.
    pub udp_idle_ns: u64,
    /// Most flows this container may have open at once.
    pub flow_quota: u64,
    /// The proxy's IPv4 address, mapped; all zero: none.
    pub proxy: Address,
    /// The proxy's IPv6 address; all zero: IPv6 connections are handed to `proxy` in its mapped form, and no
    /// IPv6 datagrams are.
    pub proxy6: Address,
    /// Port of `resolver`, host order; 0: there is none.
    pub resolver_port: u16,
    /// Port of `resolver6`, host order; 0: there is none.
    pub resolver6_port: u16,
    /// Port of the proxy's catch-all, host order; 0: none, and TCP that no rule knows is denied.
    pub catch_all: u16,
    #[doc(hidden)]
    pub pad: [u8; 6],
    /// Bits of [`socket_kind`]: kinds of socket that a rule permits besides TCP, UDP and ICMP.
    pub kinds: u32,
}

/// Bits of [`Container::kinds`].
pub mod socket_kind {
    /// `IPPROTO_MPTCP`.
    pub const MPTCP: u32 = 1;
    /// `IPPROTO_SCTP`.
    pub const SCTP: u32 = 1 << 1;
    /// `IPPROTO_UDPLITE`.
    pub const UDPLITE: u32 = 1 << 2;
}

/// `bypass_map`, by cgroup id.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bypass {
    /// Bypass is on until this time.
    pub deadline_ns: u64,
    /// When this period of bypass began; flows carry it, and are cut when it is over.
    pub epoch: u64,
}

/// Key of `dns_cache`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DnsKey {
    /// The container that asked.
    pub cgroup_id: u64,
    /// An address it was answered.
    pub addr: Address,
}

/// A name that led to an address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsName {
    /// Until when the name permits; after that it only attributes. 0: free slot.
    pub expires_ns: u64,
    /// Key of `domain_names` and `route_map`.
    pub domain: u32,
    #[doc(hidden)]
    pub pad: u32,
}

/// Value of `dns_cache`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsEntry {
    /// Up to four names; slots with `domain == 0` are free.
    pub names: [DnsName; DNS_NAMES],
    /// The name stamped last.
    pub latest: u32,
    #[doc(hidden)]
    pub pad: u32,
}

/// Value of `domain_names`, by domain identity. Identities are allocated, never reused.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainName {
    /// The container whose view answered.
    pub cgroup_id: u64,
    /// Bytes used of `name`.
    pub len: u32,
    #[doc(hidden)]
    pub pad: u32,
    /// Lower-case presentation form, without the final dot.
    pub name: [u8; NAME_LEN],
}

/// One permitted range of ports of one transport.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortRange {
    /// First port, host order.
    pub first: u16,
    /// Last port, inclusive.
    pub last: u16,
    /// Port of the proxy's listener that this is handed to, host order; 0: it goes straight there.
    pub listener: u16,
    /// `IPPROTO_*`; 0 marks an unused slot. ICMP stands for ICMPv6 too, and has no ports.
    pub l4_proto: u8,
    #[doc(hidden)]
    pub pad: u8,
}

/// What a domain (`route_map`) or a prefix (`prefix_map`) is permitted: the first range that fits decides.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Used slots first.
    pub ranges: [PortRange; PORT_RANGES],
}

/// Value of `prefix_map`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// What is permitted there.
    pub routes: Routes,
    /// [`Zone`](crate::Zone).
    pub zone: u8,
    #[doc(hidden)]
    pub pad: [u8; 7],
}

/// Data of a `prefix_map` (LPM trie) key; its prefix length is 64 plus the address's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrefixKey {
    /// The container, big endian, so that its bits come first.
    pub cgroup_id_be: [u8; 8],
    /// The address.
    pub addr: Address,
}

/// Key of `flows`: one socket can be many flows (unconnected UDP, reconnect).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// `bpf_get_socket_cookie`.
    pub cookie: u64,
    /// What the container tried to reach.
    pub remote: Address,
    /// Counts the socket's connects.
    pub generation: u32,
    /// Host order.
    pub port: u16,
    /// `IPPROTO_*`.
    pub l4_proto: u8,
    #[doc(hidden)]
    pub pad: u8,
}

/// Socket storage: what a socket carries for life.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sock {
    /// The owner: the attach point at the socket's creation, or at its first use under this enrolment.
    pub owner: Identity,
    /// Bypass period of the connected flow; 0 if not bypassed.
    pub bypass_epoch: u64,
    /// The flow that was opened last.
    pub key: FlowKey,
    /// The last redirect on this socket: what the container asked for ...
    pub intended: Address,
    /// ... and where its packets go instead. For TCP, where the connection goes, redirected or not.
    pub actual: Address,
    /// Where the TCP segment would have gone that was denied last: TCP sends it again, unasked.
    pub denied: Address,
    /// Name of the creating or connecting process.
    pub comm: [u8; COMM_LEN],
    /// Thread group of the caller.
    pub pid: u32,
    /// User of the caller.
    pub uid: u32,
    /// Counts connects.
    pub generation: u32,
    /// Flows opened by this socket.
    pub opened: u32,
    /// Sequence number after the peer's FIN.
    pub fin_end: u32,
    /// Sequence number after our FIN.
    pub fin_out_end: u32,
    /// Port of `intended`, host order.
    pub intended_port: u16,
    /// Port of `actual`, host order; 0: `actual` means nothing.
    pub actual_port: u16,
    /// Port of `denied`, host order; 0: `denied` means nothing.
    pub denied_port: u16,
    #[doc(hidden)]
    pub pad: [u8; 6],
    /// Bits of [`sock_flag`].
    pub flags: u32,
}

/// Bits of [`Sock::flags`].
pub mod sock_flag {
    /// A flow of this socket was redirected; `intended` and `actual` are valid.
    pub const REDIRECTED: u32 = 1;
    /// The last descriptor was closed.
    pub const RELEASED: u32 = 1 << 1;
    /// The peer sent a FIN; `fin_end` is valid.
    pub const FIN_IN: u32 = 1 << 2;
    /// The peer sent a RST.
    pub const RST_IN: u32 = 1 << 3;
    /// Retransmission gave up.
    pub const TIMED_OUT: u32 = 1 << 4;
    /// The handshake finished.
    pub const ESTABLISHED: u32 = 1 << 5;
    /// The handshake began, so `sock_ops` will see its end.
    pub const STARTED: u32 = 1 << 6;
    /// We sent a FIN; `fin_out_end` is valid.
    pub const FIN_OUT: u32 = 1 << 7;
    /// It was met first, under this enrolment, by a packet of its own: it was connected before.
    pub const PRE_ENROLMENT: u32 = 1 << 8;
}

/// Value of `ledger`, by cgroup id (0 collects what had no identity). Monotone: only atomic adds.
///
/// `denied + opened` is the number of attempts; `opened - closed` is the number of open flows. At rest
/// `denied + closed == submitted + folded`, and `folded` is the sum of the container's `folds` and `overflow`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Denied attempts.
    pub denied: u64,
    /// Flows opened, allowed or bypassed.
    pub opened: u64,
    /// Flows that ended and left the table.
    pub closed: u64,
    /// Records handed to the ring.
    pub submitted: u64,
    /// Denied attempts that were counted instead: past the budget, or while the ring was full.
    pub folded: u64,
    /// Entries that this container made in `folds`.
    pub fold_keys: u64,
    /// Folded attempts that found no room in `folds`, by [`Hook`](crate::Hook).
    pub overflow: [u64; HOOKS],
    /// When the entry was made: a cgroup id that is used again gets another one.
    pub since_ns: u64,
}

/// Key of `folds`: what denied attempts have in common. The programs find it in a [`Flow`](crate::Flow), field by
/// field.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FoldKey {
    /// The container.
    pub cgroup_id: u64,
    /// What it tried to reach.
    pub dst: Address,
    /// Host order.
    pub dst_port: u16,
    /// `IPPROTO_*`.
    pub l4_proto: u8,
    /// [`Verdict`](crate::Verdict).
    pub verdict: u8,
    /// [`Reason`](crate::Reason).
    pub reason: u8,
    /// [`Hook`](crate::Hook).
    pub hook: u8,
    /// [`CloseReason`](crate::CloseReason).
    pub close_reason: u8,
    /// [`Direction`](crate::Direction).
    pub direction: u8,
}

impl FoldKey {
    /// The key of a flow's denial.
    pub const fn of(flow: &Flow) -> Self {
        Self {
            cgroup_id: flow.cgroup_id,
            dst: flow.dst,
            dst_port: flow.dst_port,
            l4_proto: flow.l4_proto,
            verdict: flow.verdict,
            reason: flow.reason,
            hook: flow.hook,
            close_reason: flow.close_reason,
            direction: flow.direction,
        }
    }

    /// The key under which the reader notes what is documented of [`Ledger::overflow`].
    pub const fn various(cgroup_id: u64, hook: Hook) -> Self {
        Self {
            cgroup_id,
            dst: [0; 16],
            dst_port: 0,
            l4_proto: 0,
            verdict: Verdict::Denied as u8,
            reason: Reason::Various as u8,
            hook: hook as u8,
            close_reason: CloseReason::None as u8,
            direction: Direction::Outbound as u8,
        }
    }
}

/// Value of `folds`. `count` is monotone; the rest tells of the first attempt.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fold {
    /// Attempts.
    pub count: u64,
    /// When the first was denied.
    pub first_ns: u64,
    /// When the last was denied.
    pub last_ns: u64,
    /// Name of the calling process.
    pub comm: [u8; COMM_LEN],
    /// Thread group of the caller.
    pub pid: u32,
    /// User of the caller.
    pub uid: u32,
    /// Identity of the latest name for `dst`; 0 if none is known.
    pub domain: u32,
    /// The socket's address family as given to `socket()`, where `sock_create` decided; else 0.
    pub socket_family: u16,
    /// The socket's type as given to `socket()`, where `sock_create` decided; else 0.
    pub socket_type: u8,
    /// Bits of [`flow_flag`](crate::flow_flag).
    pub flags: u8,
}

/// Value of `fold_readings`: how much of an entry of `folds`, or of [`Ledger::overflow`], is documented.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// The entry's [`Fold::first_ns`], or [`Ledger::since_ns`]: a note about another entry says nothing.
    pub first_ns: u64,
    /// Attempts.
    pub count: u64,
}

impl Noted {
    /// Attempts that it says are documented of the entry that was made at `first_ns`; 0 if it is about an earlier one.
    pub const fn of(self, first_ns: u64) -> u64 {
        if self.first_ns == first_ns { self.count } else { 0 }
    }
}

/// Value of `budgets`, by cgroup id: what a container has used of [`DENIAL_BUDGET`]. Only a guide: processors
/// may race on it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// The running [`BUDGET_WINDOW_NS`], counted from boot.
    pub window: u64,
    /// Records in it.
    pub used: u64,
}

/// Key of `metrics_map`, a debugging surface outside the ledger: denied attempts and flows that ended. Counts may be
/// evicted.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MetricKey {
    /// The container.
    pub cgroup_id: u64,
    /// Identity of the latest name of the destination; 0 if none is known.
    pub domain: u32,
    /// Destination port, host order.
    pub port: u16,
    /// `IPPROTO_*`.
    pub l4_proto: u8,
    /// [`Verdict`](crate::Verdict).
    pub verdict: u8,
}
