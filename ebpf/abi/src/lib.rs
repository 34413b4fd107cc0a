//! The shapes that cross a boundary: kernel to reader, manager to kernel.
//!
//! This crate knows nobody. It has no logic beyond naming, encoding and decoding, and every shape in it is
//! `repr(C)` without padding, so that both sides of the kernel boundary agree byte for byte.
//!
//! Conventions: addresses are 16 bytes in network order, IPv4 as `::ffff:a.b.c.d`; ports and
//! protocol numbers are in host order; times are nanoseconds of `CLOCK_BOOTTIME`; byte counts are
//! L4 payload.
#![cfg_attr(not(feature = "user"), no_std)]

mod enums;
mod maps;
mod record;
#[cfg(feature = "user")]
pub mod spool;
#[cfg(feature = "user")]
mod user;

pub use enums::{CloseReason, Direction, Hook, LossPoint, Reason, Unknown, Verdict, Zone, fault};
pub use maps::{
    BUDGET_WINDOW_NS, Budget, Bypass, Container, DENIAL_BUDGET, DNS_NAMES, DnsEntry, DnsKey, DnsName,
    DomainName, FOLD_QUOTA, FlowKey, Fold, FoldKey, HOOKS, Identity, LOSS_POINTS, Ledger, MetricKey,
    NAME_LEN, Noted, PORT_RANGES, PortRange, Prefix, PrefixKey, Routes, Sock, sock_flag, socket_kind,
};
pub use record::{Address, COMM_LEN, Flow, Record, flow_flag, v4_mapped};
#[cfg(feature = "user")]
pub use user::{Enrolment, pin};

/// Version of every shape in this crate. The manager writes it to the pinned `abi_version` map; a
/// reader or manager that finds another one refuses to go on.
pub const ABI_VERSION: u32 = 4;

/// `IPPROTO_ICMP`.
pub const ICMP: u8 = 1;
/// `IPPROTO_TCP`.
pub const TCP: u8 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u8 = 17;
/// `IPPROTO_ICMPV6`.
pub const ICMPV6: u8 = 58;
/// `IPPROTO_SCTP`.
pub const SCTP: u8 = 132;
/// `IPPROTO_UDPLITE`.
pub const UDPLITE: u8 = 136;
