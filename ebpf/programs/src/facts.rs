//! The facts a decision needs, from the maps.

use abi::{Address, Container, DNS_NAMES, DnsEntry, DnsKey, Flow, PrefixKey, Zone};
use aya_ebpf::{btf_maps::lpm_trie::Key, helpers::generated::bpf_ktime_get_boot_ns};
use policy::{Destination, Facts, Permit};

use crate::maps::{BYPASS, DNS_CACHE, PREFIXES, ROUTES};

/// Nanoseconds of `CLOCK_BOOTTIME`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments, no side effects.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Epoch of the bypass that is on for this container now; 0 if it is off or over.
#[inline(always)]
pub fn bypass_epoch(cgroup_id: u64, now: u64) -> u64 {
    match BYPASS.get_ptr(cgroup_id) {
        // SAFETY: a live map value.
        Some(bypass) => unsafe { if now < (*bypass).deadline_ns { (*bypass).epoch } else { 0 } },
        None => 0,
    }
}

/// Whether what a bypass of this epoch permitted must end: `epoch` is not 0, and that bypass is over.
#[inline(always)]
pub fn bypass_over(epoch: u64, cgroup_id: u64) -> bool {
    epoch != 0 && bypass_epoch(cgroup_id, now()) != epoch
}

/// How many flows a container may have open: none where nothing is known of it.
#[inline(always)]
pub fn flow_quota(container: Option<*const Container>) -> u64 {
    match container {
        // SAFETY: a live map value.
        Some(container) => unsafe { (*container).flow_quota },
        None => 0,
    }
}

/// Where DNS to `dst` goes instead, address and port. It is of the same family: the kernel refuses to send a
/// native IPv6 datagram to a mapped address (errno 524, after the hook has permitted it).
///
/// # Safety
/// `container` is a live map value.
#[inline(always)]
pub unsafe fn resolver(container: *const Container, dst: &Address) -> (*const Address, *const u16) {
    // SAFETY: the caller's promise.
    unsafe {
        if policy::is_v4(dst) {
            (&raw const (*container).resolver, &raw const (*container).resolver_port)
        } else {
            (&raw const (*container).resolver6, &raw const (*container).resolver6_port)
        }
    }
}

/// The names that led a container to where a flow goes.
#[inline(always)]
pub fn names(flow: &Flow) -> Option<*const DnsEntry> {
    DNS_CACHE.get_ptr(DnsKey { cgroup_id: flow.cgroup_id, addr: flow.dst })
}

/// What decides a flow, when it starts.
pub struct Kernel<'a> {
    /// Whose it is, and when it starts.
    pub flow: &'a Flow,
    /// The names that led to its destination.
    pub names: Option<*const DnsEntry>,
    /// The settings of the container.
    pub container: Option<*const Container>,
}

impl Facts for Kernel<'_> {
    #[inline(always)]
    fn bypassed(&self) -> bool {
        self.flow.bypass_epoch != 0
    }

    #[inline(always)]
    fn has_resolver(&self, dst: &Destination<'_>) -> bool {
        match self.container {
            // SAFETY: a live map value.
            Some(container) => unsafe { *resolver(container, dst.addr).1 != 0 },
            None => false,
        }
    }

    #[inline(always)]
    fn proxy(&self) -> (bool, bool) {
        match self.container {
            // SAFETY: a live map value.
            Some(container) => unsafe { ((*container).proxy != [0; 16], (*container).proxy6 != [0; 16]) },
            None => (false, false),
        }
    }

    #[inline(always)]
    fn address(&self, dst: &Destination<'_>) -> (Zone, Permit) {
        let key =
            Key::new(192, PrefixKey { cgroup_id_be: self.flow.cgroup_id.to_be_bytes(), addr: *dst.addr });
        match PREFIXES.get(&key) {
            Some(prefix) => (
                Zone::try_from(prefix.zone).unwrap_or(Zone::OwnSubnet),
                policy::permits(&prefix.routes, dst.l4_proto, dst.port),
            ),
            None => (Zone::Elsewhere, Permit::NO),
        }
    }

    #[inline(always)]
    fn domain(&self, dst: &Destination<'_>) -> Permit {
        let Some(entry) = self.names else { return Permit::NO };
        let mut slot = 0;
        while slot < DNS_NAMES {
            // SAFETY: a live map value, and the index is within the array.
            let name = unsafe { *(&raw const (*entry).names).cast::<abi::DnsName>().add(slot) };
            if name.domain != 0
                && self.flow.start_ns < name.expires_ns
                && let Some(routes) = ROUTES.get_ptr(name.domain)
            {
                // SAFETY: a live map value.
                let permit = policy::permits(unsafe { &*routes }, dst.l4_proto, dst.port);
                if permit != Permit::NO {
                    return permit;
                }
            }
            slot += 1;
        }
        Permit::NO
    }

    #[inline(always)]
    fn catch_all(&self) -> Option<u16> {
        let container = self.container?;
        // SAFETY: a live map value.
        let port = unsafe { (*container).catch_all };
        (port != 0).then_some(port)
    }
}
