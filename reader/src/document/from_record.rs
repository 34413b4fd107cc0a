//! A record and its owner become a document.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use abi::{Address, LossPoint, Reason, Record, flow_flag};

use super::{Attribution, EgressDocument, L7Proto, RecordType, Words};
use crate::spool::Loss;

/// Who a record belongs to; the labels are empty where attribution found no one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// How it was found.
    pub attribution: Attribution,
    /// Raw label `dev.clawker.agent`.
    pub agent: Arc<str>,
    /// Raw label `dev.clawker.project`.
    pub project: Arc<str>,
    /// The runtime's identifier.
    pub container_id: Arc<str>,
}

impl Owner {
    /// Nobody, and why.
    pub fn nobody(attribution: Attribution) -> Self {
        Self { attribution, agent: Arc::default(), project: Arc::default(), container_id: Arc::default() }
    }
}

/// What makes an event unique across nodes and spools: `<node>-<nonce, hex>-<sequence>`.
#[derive(Clone, Copy, Debug)]
pub struct EventId<'a> {
    /// Name of the node.
    pub node: &'a str,
    /// Chosen when the spool was made.
    pub nonce: u64,
    /// The spool's sequence number.
    pub sequence: u64,
}

impl fmt::Display for EventId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}-{}", self.node, self.nonce, self.sequence)
    }
}

impl EgressDocument {
    /// The document of `record`, whose decoded sets are `words`; `dst_host` is the name that led to
    /// its destination, empty if none did.
    pub fn new(record: &Record, words: Words, id: EventId<'_>, owner: Owner, dst_host: Arc<str>) -> Self {
        let flow = &record.flow;
        let dst_ip = address(flow.dst);
        let actual_dst_ip = address(flow.actual_dst);
        Self {
            verdict: Some(words.verdict),
            reason: Some(words.reason),
            l4_proto: Some(match words.reason {
                Reason::Various => Cow::Borrowed(Reason::Various.as_str()),
                _ => l4_proto(flow.l4_proto),
            }),
            l7_proto: Some(L7Proto::Unknown),
            src_ip: address(flow.src),
            src_port: (flow.src_port != 0).then_some(flow.src_port),
            dst_port: dst_ip.map(|_| flow.dst_port),
            dst_ip,
            dst_host: Some(dst_host),
            actual_dst_port: actual_dst_ip.map(|_| flow.actual_dst_port),
            actual_dst_ip,
            direction: Some(words.direction),
            bytes_in: Some(flow.bytes_in),
            bytes_out: Some(flow.bytes_out),
            packets_in: Some(flow.packets_in),
            packets_out: Some(flow.packets_out),
            duration_ms: milliseconds(flow.start_ns, record.end_ns),
            close_reason: Some(words.close_reason),
            event_count: Some(record.event_count),
            dst_host_ambiguous: Some(flow.flags & flow_flag::AMBIGUOUS != 0),
            pid: Some(flow.pid),
            comm: Some(text(&flow.comm)),
            hook: Some(words.hook),
            ..Self::bare(RecordType::Flow, flow.cgroup_id, id, owner)
        }
    }

    /// The document of what was lost of one container.
    pub fn of_loss(loss: &Loss, id: EventId<'_>, owner: Owner) -> Self {
        Self {
            duration_ms: milliseconds(loss.first_ns, loss.last_ns),
            // A restart of the machine is known to have happened; what it cost is not.
            event_count: (loss.point != LossPoint::Reboot).then_some(loss.added),
            loss_point: Some(loss.point),
            ..Self::bare(RecordType::Loss, loss.cgroup_id, id, owner)
        }
    }

    /// What every document says.
    fn bare(record_type: RecordType, cgroup_id: u64, id: EventId<'_>, owner: Owner) -> Self {
        Self {
            agent: owner.agent,
            project: owner.project,
            container_id: owner.container_id,
            attribution: owner.attribution,
            event_id: id.to_string(),
            cgroup_id,
            record_type,
            verdict: None,
            reason: None,
            l4_proto: None,
            l7_proto: None,
            src_ip: None,
            src_port: None,
            dst_ip: None,
            dst_port: None,
            dst_host: None,
            actual_dst_ip: None,
            actual_dst_port: None,
            direction: None,
            bytes_in: None,
            bytes_out: None,
            packets_in: None,
            packets_out: None,
            duration_ms: 0,
            close_reason: None,
            event_count: None,
            dst_host_ambiguous: None,
            pid: None,
            comm: None,
            hook: None,
            loss_point: None,
        }
    }
}

const fn milliseconds(start_ns: u64, end_ns: u64) -> u64 {
    end_ns.saturating_sub(start_ns) / 1_000_000
}

/// An address as people write it: v4-mapped as IPv4, all zero (not known, not named) as none.
/// The address, where there is one; IPv4 where it stands for that.
pub(crate) fn address(bytes: Address) -> Option<IpAddr> {
    let v6 = Ipv6Addr::from(bytes);
    (!v6.is_unspecified()).then(|| v6.to_canonical())
}

fn l4_proto(number: u8) -> Cow<'static, str> {
    match number {
        abi::TCP => Cow::Borrowed("tcp"),
        abi::UDP => Cow::Borrowed("udp"),
        abi::ICMP => Cow::Borrowed("icmp"),
        abi::ICMPV6 => Cow::Borrowed("icmpv6"),
        abi::SCTP => Cow::Borrowed("sctp"),
        abi::UDPLITE => Cow::Borrowed("udplite"),
        other => Cow::Owned(other.to_string()),
    }
}

/// Bytes from a hostile sender up to the first NUL, as text; what is not UTF-8 becomes U+FFFD.
pub(crate) fn text(bytes: &[u8]) -> String {
    let used = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(used).into_owned()
}
