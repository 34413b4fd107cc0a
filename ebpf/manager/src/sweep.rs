//! Ending flows that no hook will end: idle UDP, sockets that had several flows, a bypass that is
//! over, connections of a container that is retired, and whatever found the ring full.

use abi::{Bypass, CloseReason, Container, Flow, FlowKey, TCP, flow_flag};
use aya::{
    maps::{HashMap, MapData},
    programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _},
};

use crate::{
    Manager,
    clock::{boot_ns, nanoseconds},
    containers::EnrolRequest,
    error::{Error, Result},
    pins::found,
};

/// What a sweep saw and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Flows in the table before.
    pub seen: usize,
    /// Flows it asked the kernel to end.
    pub ended: usize,
}

impl Manager {
    /// Ends what is due, of one container or of all.
    ///
    /// # Errors
    /// If a map or the sweep program refuses.
    pub fn sweep(&self, only: Option<u64>) -> Result<Swept> {
        let program =
            RawTracePoint::from_pin(self.pins.program("sweep")).map_err(Error::program("sweep", "run"))?;
        let now = boot_ns();
        let flows = self.pins.flows()?;
        let watch = Watch {
            tombstones: self.pins.tombstones()?,
            bypass: self.pins.bypass()?,
            containers: self.pins.containers()?,
            now,
        };
        let mut swept = Swept::default();
        let mut due = Vec::new();
        // A key that ends under the iteration starts it over, so its length is bounded.
        for pair in flows.iter().take(MOST_SEEN) {
            let (key, flow) = pair.map_err(Error::map("flows"))?;
            if only.is_some_and(|only| only != flow.cgroup_id) {
                continue;
            }
            swept.seen = swept.seen.saturating_add(1);
            if let Some((reason, end_ns)) = watch.due(&key, &flow)? {
                due.push((key, flow.last_ns, reason, end_ns));
            }
        }
        for (key, seen_ns, reason, end_ns) in due {
            let mut options = RawTracePointRunOptions::new();
            let [a, b, c, d, e, f, g, ..] = &mut options.args;
            let (head, tail) = key.remote.split_at(8);
            *a = key.cookie;
            *b = u64::from_ne_bytes(head.try_into().unwrap_or_default());
            *c = u64::from_ne_bytes(tail.try_into().unwrap_or_default());
            *d = u64::from(key.generation) | u64::from(key.port) << 32 | u64::from(key.l4_proto) << 48;
            *e = seen_ns;
            *f = end_ns;
            *g = reason as u64;
            program.test_run(options).map_err(Error::program("sweep", "run"))?;
            swept.ended = swept.ended.saturating_add(1);
        }
        Ok(swept)
    }
}

/// Twice the flow table: a walk over it can start over.
pub(crate) const MOST_SEEN: usize = 131_072;

/// How long a datagram that was on its way when its flow ended may take through the packet hook: 10 ms.
const SETTLE_NS: u64 = 10_000_000;

/// What tells that a flow is over.
struct Watch {
    tombstones: HashMap<MapData, u64, u64>,
    bypass: HashMap<MapData, u64, Bypass>,
    containers: HashMap<MapData, u64, Container>,
    now: u64,
}

impl Watch {
    /// Whether a flow is over, why, and since when.
    fn due(&self, key: &FlowKey, flow: &Flow) -> Result<Option<(CloseReason, u64)>> {
        if flow.flags & flow_flag::ENDED != 0 {
            // The kernel keeps the reason and time that it noted.
            let settled = self.now.saturating_sub(flow.last_ns) >= SETTLE_NS;
            return Ok(settled.then_some((CloseReason::Closed, flow.last_ns)));
        }
        let container = found("container_map", self.containers.get(&flow.cgroup_id, 0))?;
        if key.l4_proto == TCP && flow.flags & flow_flag::GATED == 0 {
            // Its end is the kernel's to tell; for a container that is retired no hook listens any more.
            return Ok(container.is_none().then_some((CloseReason::Aborted, self.now)));
        }
        if let Some(released_ns) = found("tombstones", self.tombstones.get(&key.cookie, 0))? {
            return Ok(Some((CloseReason::Closed, released_ns)));
        }
        if flow.bypass_epoch != 0 {
            let bypass = found("bypass_map", self.bypass.get(&flow.cgroup_id, 0))?;
            let live = bypass
                .is_some_and(|bypass| bypass.epoch == flow.bypass_epoch && self.now < bypass.deadline_ns);
            if !live {
                let end = bypass.map_or(self.now, |bypass| bypass.deadline_ns.min(self.now));
                return Ok(Some((CloseReason::BypassEnded, end)));
            }
        }
        let idle = container.map_or(nanoseconds(EnrolRequest::UDP_IDLE), |container| container.udp_idle_ns);
        let over = self.now.saturating_sub(flow.last_ns) >= idle;
        Ok(over.then_some((CloseReason::Idle, flow.last_ns)))
    }
}
