//! The maps, all pinned by the manager under their names here.

use abi::{
    Budget, Bypass, Container, DnsEntry, DnsKey, DomainName, Flow, FlowKey, Fold, FoldKey, Identity, Ledger,
    MetricKey, Noted, Prefix, PrefixKey, Record, Routes, Sock,
};
#[expect(deprecated, reason = "its successor, BPF_MAP_TYPE_CGRP_STORAGE, needs Linux 6.2")]
use aya_ebpf::btf_maps::CgroupStorage;
use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, RingBuf, SkStorage},
    macros::btf_map,
};

/// Who the attach point is; written by user space after attaching. Zero: not enrolled.
#[btf_map(name = "identity")]
#[expect(deprecated, reason = "as above")]
pub static IDENTITY: CgroupStorage<Identity> = CgroupStorage::new();

/// What a socket carries for life.
#[btf_map(name = "socks")]
pub static SOCKS: SkStorage<Sock> = SkStorage::new();

/// Cgroup id → settings.
#[btf_map(name = "container_map")]
pub static CONTAINERS: HashMap<u64, Container, 4096> = HashMap::new();

/// Cgroup id → bypass.
#[btf_map(name = "bypass_map")]
pub static BYPASS: HashMap<u64, Bypass, 4096> = HashMap::new();

/// Container and address → names.
#[btf_map(name = "dns_cache")]
pub static DNS_CACHE: HashMap<DnsKey, DnsEntry, 65536> = HashMap::new();

/// Domain identity → permitted port ranges.
#[btf_map(name = "route_map")]
pub static ROUTES: HashMap<u32, Routes, 65536> = HashMap::new();

/// Container and address range → what it is, and permitted port ranges.
#[btf_map(name = "prefix_map")]
pub static PREFIXES: LpmTrie<PrefixKey, Prefix, 65536> = LpmTrie::new();

/// Domain identity → name, for user space.
#[btf_map(name = "domain_names")]
pub static DOMAIN_NAMES: HashMap<u32, DomainName, 65536, 1> = HashMap::new();

/// Open flows.
#[btf_map(name = "flows")]
pub static FLOWS: HashMap<FlowKey, Flow, 65536> = HashMap::new();

/// Cookies of closed sockets that had several flows, and when; the sweeper ends those flows. Losing
/// an entry only delays a flow's end to its idle time.
#[btf_map(name = "tombstones")]
pub static TOMBSTONES: LruHashMap<u64, u64, 65536> = LruHashMap::new();

/// Cgroup id → counters. Never evicting, never reset.
#[btf_map(name = "ledger")]
pub static LEDGER: HashMap<u64, Ledger, 4097> = HashMap::new();

/// Denied attempts that are counted instead of recorded.
#[btf_map(name = "folds")]
pub static FOLDS: HashMap<FoldKey, Fold, 16384> = HashMap::new();

/// How much of an entry's count is documented; written by the reader alone. Overflow has entries too.
#[btf_map(name = "fold_readings")]
pub static FOLD_READINGS: HashMap<FoldKey, Noted, 49152, 1> = HashMap::new();

/// Cgroup id → how much of its records' budget is used.
#[btf_map(name = "budgets")]
pub static BUDGETS: HashMap<u64, Budget, 4097> = HashMap::new();

/// A debugging surface outside the ledger.
#[btf_map(name = "metrics_map")]
pub static METRICS: LruHashMap<MetricKey, u64, 16384> = LruHashMap::new();

/// Records on their way to the reader.
#[btf_map(name = "events_ringbuf")]
pub static EVENTS: RingBuf<Record, 1_048_576> = RingBuf::new();

/// One entry: `abi::ABI_VERSION`, written by the manager.
#[btf_map(name = "abi_version")]
pub static ABI_VERSION: Array<u32, 1> = Array::new();
