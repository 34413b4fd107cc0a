//! The stamping resolver: one view per container. It answers names that the container's rules know,
//! and writes each answer into the maps before the container has it, so that the connection that
//! follows is decided by name.
//!
//! Addresses that no name leads to ([`rules::forbidden`]) it leaves out: whoever serves a name would choose else where the rules
//! for that name lead.
//!
//! Whoever stands in front of it, and keeps a log, tells from the flags whose an answer is: authoritative is what it says
//! by policy.
//!
//! Everything it reads is hostile: the container's questions, and the upstream's answers.

mod addresses;
mod tcp;
mod upstream;
mod withheld;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use abi::NAME_LEN;
use emitter::OTHERS_WORDS;
use hickory_proto::{
    op::{Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode},
    rr::{RData, Record, RecordType},
};
use hickory_server::{
    Server,
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};

pub use self::addresses::ResolverAddresses;
use self::{
    upstream::Upstream,
    withheld::{Forbidden, Withheld},
};
use crate::{
    Manager,
    clock::{boot_ns, nanoseconds},
    error::{Error, Result},
    names::Names,
    view::{Current, View},
};

/// Longest time an answer permits its addresses.
const TTL_CEILING: Duration = Duration::from_secs(3600);

/// A view that answers, until dropped.
pub struct Resolver {
    _udp: Server<Handler>,
    _tcp: JoinSet<()>,
    upstream: Arc<Upstream>,
    withheld: Arc<Withheld>,
}

impl Resolver {
    /// Binds a container's view, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If the container is not enrolled or has no resolver, or an address is taken.
    pub async fn start(manager: &Manager, cgroup_id: u64) -> Result<Self> {
        let current = Current::new(manager, cgroup_id);
        let permitted = current.get()?.ok_or(Error::NotEnrolled(cgroup_id))?;
        let addresses = permitted.view.resolver.ok_or(Error::NotEnrolled(cgroup_id))?;
        let upstream = Arc::new(Upstream::new(addresses.upstream));
        let withheld = Arc::new(Withheld::default());
        let handler = Handler {
            manager: manager.clone(),
            cgroup_id,
            current: Arc::new(current),
            upstream: Arc::clone(&upstream),
            names: Arc::new(Mutex::new(Names::open(manager, cgroup_id)?)),
            withheld: Arc::clone(&withheld),
        };
        let (mut udp, mut tcp) = (Server::new(handler.clone()), JoinSet::new());
        for address in addresses.listen() {
            let bound = |cause| Error::Listen { address, cause };
            udp.register_socket(UdpSocket::bind(address).await.map_err(bound)?);
            let listener = TcpListener::bind(address).await.map_err(bound)?;
            tcp.spawn(tcp::serve(listener, handler.clone()));
        }
        Ok(Self { _udp: udp, _tcp: tcp, upstream, withheld })
    }

    /// Questions that were answered SERVFAIL, because more were under way than it asks at once.
    #[must_use]
    pub fn put_off(&self) -> u64 {
        self.upstream.put_off()
    }

    /// Answers that addresses were left out of, because no name leads to them.
    #[must_use]
    pub fn withheld(&self) -> u64 {
        self.withheld.answers()
    }
}

#[derive(Clone)]
struct Handler {
    manager: Manager,
    cgroup_id: u64,
    current: Arc<Current>,
    upstream: Arc<Upstream>,
    names: Arc<Mutex<Names>>,
    withheld: Arc<Withheld>,
}

/// What a client gets.
struct Answer {
    code: ResponseCode,
    records: Vec<Record>,
    /// Whether it is by policy, whatever another server says.
    own: bool,
    /// Whether it is for a bypass alone that another server was asked.
    bypassed: bool,
}

impl Answer {
    /// Nothing of a name that may be asked for.
    const fn empty(code: ResponseCode) -> Self {
        Self { code, records: Vec::new(), own: false, bypassed: false }
    }

    /// A refusal by policy.
    const fn own(code: ResponseCode) -> Self {
        Self { code, records: Vec::new(), own: true, bypassed: false }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let unsent = |metadata| Header { metadata, counts: HeaderCounts::default() }.into();
        if !self.asked_by_its_own(request.src().ip()) {
            tracing::warn!(event = "resolver_stranger", cgroup_id = self.cgroup_id, source = %request.src());
            return unsent(metadata);
        }
        let answer = self.answer(request).await;
        metadata.response_code = answer.code;
        metadata.recursion_available = true;
        metadata.authoritative = answer.own;
        // Whatever the question says: CoreDNS's log has the flags, and no other that clients take no notice of.
        metadata.checking_disabled = answer.bypassed;
        let none: [Record; 0] = [];
        let response = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            &answer.records,
            &none,
            &none,
            &none,
        );
        match response_handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(cgroup_id = self.cgroup_id, %error, "the client did not take its answer");
                unsent(metadata)
            }
        }
    }
}

impl Handler {
    /// Whether the container asks, or the server that it asks and that asks here.
    fn asked_by_its_own(&self, source: IpAddr) -> bool {
        let Ok(Some(permitted)) = self.current.get() else { return false };
        let View { network, resolver, .. } = &permitted.view;
        resolver.is_some_and(|addresses| {
            if addresses.view.is_some() { addresses.is_front(source) } else { network.may_ask_from(source) }
        })
    }

    async fn answer(&self, request: &Request) -> Answer {
        if request.metadata.op_code != OpCode::Query || request.metadata.message_type != MessageType::Query {
            return Answer::own(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else { return Answer::own(ResponseCode::FormErr) };
        let Some(name) = plain(&info.query.name().to_string()) else {
            return Answer::own(ResponseCode::NXDomain);
        };
        let kind = info.query.query_type();
        match self.known(&name) {
            Ok(Some(known)) => {
                // Service bindings carry addresses and keys past the stamps; without them clients use A and AAAA.
                let answer = if matches!(kind, RecordType::HTTPS | RecordType::SVCB) {
                    Answer::empty(ResponseCode::NoError)
                } else {
                    self.forward(request, &name, known.floor).await
                };
                Answer { bypassed: known.bypassed, ..answer }
            }
            Ok(None) => Answer::own(ResponseCode::NXDomain),
            Err(error) => Answer { own: true, ..self.failed(&name, &error) },
        }
    }

    /// How this container may ask for the name, if it may.
    fn known(&self, name: &str) -> Result<Option<Known>> {
        let Some(permitted) = self.current.get()? else { return Ok(None) };
        let floor = Duration::from_millis(permitted.view.dns_ttl_floor_ms);
        if permitted.permits.iter().any(|permit| permit.dst.names(name)) {
            return Ok(Some(Known { floor, bypassed: false }));
        }
        let bypassed = self.manager.bypass_left(self.cgroup_id)?.is_some();
        Ok(bypassed.then_some(Known { floor, bypassed }))
    }

    async fn forward(&self, request: &Request, name: &str, floor: Duration) -> Answer {
        let Ok(info) = request.request_info() else { return Answer::empty(ResponseCode::FormErr) };
        let reply = match self.upstream.ask(info.query.original()).await {
            Some(Ok(reply)) => reply,
            Some(Err(problem)) => {
                tracing::warn!(event = "resolver_upstream_failed", upstream = %self.upstream.address, problem);
                return Answer::empty(ResponseCode::ServFail);
            }
            // Whoever asks this much could fill the log as well: it is counted.
            None => return Answer::empty(ResponseCode::ServFail),
        };
        let (addresses, ttl) = addresses(&reply.answers);
        let led = match self.led(addresses) {
            Ok(led) => led,
            Err(error) => return self.failed(name, &error),
        };
        if !led.addresses.is_empty() {
            let validity = Duration::from_secs(ttl.into()).max(floor).min(TTL_CEILING.max(floor));
            let expires_ns = boot_ns().saturating_add(nanoseconds(validity));
            let stamped = self.names.lock().unwrap_or_else(PoisonError::into_inner).stamp(
                name,
                &led.addresses,
                expires_ns,
            );
            // An answer that is not stamped would lead to a connection denied without its name.
            if let Err(error) = stamped {
                return self.failed(name, &error);
            }
        }
        let (code, mut records) = (reply.metadata.response_code, reply.answers);
        let Some(first) = led.withheld.first() else {
            return Answer { records, ..Answer::empty(code) };
        };
        self.withheld.note(self.cgroup_id, name, *first);
        records
            .retain(|record| !led.withheld.iter().any(|(forbidden, _)| address(record) == Some(*forbidden)));
        // Of a name that is there, for its addresses of the other kind may be others: what is left of its records. It is by
        // policy that nothing is left of the addresses, and a log is to say so.
        Answer { records, own: led.addresses.is_empty(), ..Answer::empty(code) }
    }

    /// Which of these addresses a name leads the container to now.
    fn led(&self, addresses: Vec<IpAddr>) -> Result<Led> {
        let mut led = Led::default();
        if addresses.is_empty() {
            return Ok(led);
        }
        let permitted = self.current.get()?.ok_or(Error::NotEnrolled(self.cgroup_id))?;
        for address in addresses {
            match permitted.view.forbids(address) {
                Some(why) => led.withheld.push((address, why)),
                None => led.addresses.push(address),
            }
        }
        // The agent may go anywhere now, and so may know of it. What is stamped would permit when the bypass is over.
        if !led.withheld.is_empty() && self.manager.bypass_left(self.cgroup_id)?.is_some() {
            led.withheld.clear();
        }
        Ok(led)
    }

    fn failed(&self, name: &str, error: &Error) -> Answer {
        // The name is the agent's.
        tracing::error!(target: OTHERS_WORDS, event = "resolver_failed", cgroup_id = self.cgroup_id, name, %error);
        Answer::empty(ResponseCode::ServFail)
    }
}

/// A name that may be asked for.
struct Known {
    /// Shortest validity of an answer.
    floor: Duration,
    /// Whether no rule knows it, and a bypass is on.
    bypassed: bool,
}

/// Where a name leads.
#[derive(Default)]
struct Led {
    /// To be stamped.
    addresses: Vec<IpAddr>,
    /// Not to be told.
    withheld: Vec<Forbidden>,
}

/// A name as rules and maps have it: lower case, without the final dot. `None` if its text is not its
/// labels: in `x\.api.test` the dot belongs to a label, which `*.api.test` must not take for its own,
/// and escapes make it longer than the maps hold, where what is cut off could end like another name.
fn plain(presentation: &str) -> Option<String> {
    let name = presentation.strip_suffix('.').unwrap_or(presentation);
    (name.len() < NAME_LEN && !name.contains('\\')).then(|| name.to_ascii_lowercase())
}

/// The addresses of an answer, and the shortest life among its records.
fn addresses(answers: &[Record]) -> (Vec<IpAddr>, u32) {
    let addresses = answers.iter().filter_map(address).collect();
    (addresses, answers.iter().map(|record| record.ttl).min().unwrap_or(0))
}

/// The address of a record that has one.
const fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Name;

    use super::plain;

    fn text(labels: &[&[u8]]) -> Option<String> {
        plain(&Name::from_labels(labels.iter().copied()).ok()?.to_string())
    }

    #[test]
    fn ordinary_names_lose_their_case_and_final_dot() {
        assert_eq!(text(&[b"Api", b"TEST"]).as_deref(), Some("api.test"));
        assert_eq!(text(&[b"_dns-sd", b"x--1", b"test"]).as_deref(), Some("_dns-sd.x--1.test"));
    }

    /// Rules cannot say such names, so none is meant.
    #[test]
    fn names_whose_text_is_not_their_labels_are_nobodys() {
        assert_eq!(text(&[b"x.api", b"test"]), None, "a dot within a label");
        let long = [1u8; 63];
        assert_eq!(text(&[&long, &long, &long, b"test"]), None, "longer than the maps hold");
        for byte in (0..=b' ').chain([b'"', b'\\', 127, 128, 255]) {
            let label = [b'a', byte];
            let name = text(&[&label, b"test"]);
            assert!(name.as_ref().is_none_or(|name| name.len() == 7), "byte {byte} became {name:?}");
        }
    }
}
