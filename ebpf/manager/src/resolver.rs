//! The stamping resolver: one view per container. It answers names that the container's rules know,
//! and writes each answer into the maps before the container has it, so that the connection that
//! follows is decided by name.
//!
//! Everything it reads is hostile: the container's questions, and the upstream's answers.

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use abi::NAME_LEN;
use hickory_proto::{
    op::{Header, HeaderCounts, Message, MessageType, Metadata, OpCode, ResponseCode},
    rr::{RData, Record, RecordType},
};
use hickory_server::{
    Server,
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};

use crate::{
    Manager,
    clock::{boot_ns, nanoseconds},
    containers::View,
    error::{Error, Result},
    names::Names,
    rules::permits,
};

/// Longest time an answer permits its addresses.
const TTL_CEILING: Duration = Duration::from_secs(3600);
/// How long the upstream may take.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an idle TCP client is kept.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a container's view listens, and where it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverAddresses {
    /// For DNS to IPv4 name servers. Without one, that is denied.
    pub v4: Option<SocketAddrV4>,
    /// For DNS to native IPv6 name servers. Without one, that is denied.
    pub v6: Option<SocketAddrV6>,
    /// The DNS server that it asks.
    pub upstream: SocketAddr,
}

impl ResolverAddresses {
    /// A view that listens on one address of each family, or of one.
    ///
    /// # Errors
    /// If there is none, or two of one family, or one that no container could be sent to.
    pub fn new(listen: &[SocketAddr], upstream: SocketAddr) -> Result<Self> {
        let mut new = Self { v4: None, v6: None, upstream };
        for address in listen {
            let refuse = |problem| Error::Resolver { address: *address, problem };
            let ip = address.ip().to_canonical();
            if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
                return Err(refuse("DNS is redirected to it, so it must be one address and one port"));
            }
            let taken = match SocketAddr::new(ip, address.port()) {
                SocketAddr::V4(v4) => new.v4.replace(v4).is_some(),
                // A redirect has no place for an interface.
                SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
                    return Err(refuse("a link-local address is not the same on every link"));
                }
                SocketAddr::V6(v6) => new.v6.replace(v6).is_some(),
            };
            if taken {
                return Err(refuse("there is another of this family; a view has one of each at most"));
            }
        }
        match (new.v4, new.v6) {
            (None, None) => Err(Error::Resolver {
                address: upstream,
                problem: "no address was given that a view which asks it would listen on",
            }),
            _ => Ok(new),
        }
    }

    /// Every address it listens on.
    pub(crate) fn listen(self) -> impl Iterator<Item = SocketAddr> {
        self.v4.map(SocketAddr::V4).into_iter().chain(self.v6.map(SocketAddr::V6))
    }
}

/// A view that answers, until dropped.
pub struct Resolver {
    _server: Server<Handler>,
}

impl Resolver {
    /// Binds a container's view, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If the container is not enrolled or has no resolver, or an address is taken.
    pub async fn start(manager: &Manager, cgroup_id: u64) -> Result<Self> {
        let view = manager.view(cgroup_id)?.ok_or(Error::NotEnrolled(cgroup_id))?;
        let addresses = view.resolver.ok_or(Error::NotEnrolled(cgroup_id))?;
        let handler = Handler {
            manager: manager.clone(),
            cgroup_id,
            upstream: addresses.upstream,
            names: Arc::new(Mutex::new(Names::open(manager, cgroup_id)?)),
        };
        let mut server = Server::new(handler);
        for address in addresses.listen() {
            let bound = |cause| Error::Listen { address, cause };
            server.register_socket(UdpSocket::bind(address).await.map_err(bound)?);
            let tcp = TcpListener::bind(address).await.map_err(bound)?;
            server.register_listener(tcp, CLIENT_TIMEOUT, 4096);
        }
        Ok(Self { _server: server })
    }
}

struct Handler {
    manager: Manager,
    cgroup_id: u64,
    upstream: SocketAddr,
    names: Arc<Mutex<Names>>,
}

/// What a client gets.
struct Answer {
    code: ResponseCode,
    records: Vec<Record>,
}

impl Answer {
    const fn empty(code: ResponseCode) -> Self {
        Self { code, records: Vec::new() }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let answer = self.answer(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = answer.code;
        metadata.recursion_available = true;
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
                Header { metadata, counts: HeaderCounts::default() }.into()
            }
        }
    }
}

impl Handler {
    async fn answer(&self, request: &Request) -> Answer {
        if request.metadata.op_code != OpCode::Query || request.metadata.message_type != MessageType::Query {
            return Answer::empty(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else { return Answer::empty(ResponseCode::FormErr) };
        let Some(name) = plain(&info.query.name().to_string()) else {
            return Answer::empty(ResponseCode::NXDomain);
        };
        let kind = info.query.query_type();
        match self.known(&name) {
            Ok(Some(floor)) => {
                // Service bindings carry addresses and keys past the stamps; without them clients use A and AAAA.
                if matches!(kind, RecordType::HTTPS | RecordType::SVCB) {
                    return Answer::empty(ResponseCode::NoError);
                }
                self.forward(request, &name, floor).await
            }
            Ok(None) => Answer::empty(ResponseCode::NXDomain),
            Err(error) => self.failed(&name, &error),
        }
    }

    /// The shortest validity of an answer, if this container may ask for the name.
    fn known(&self, name: &str) -> Result<Option<Duration>> {
        let Some(View { rules, dns_ttl_floor_ms, .. }) = self.manager.view(self.cgroup_id)? else {
            return Ok(None);
        };
        let named = permits(&rules)?.iter().any(|permit| permit.target.names(name));
        let open = named || self.manager.bypass_left(self.cgroup_id)?.is_some();
        Ok(open.then(|| Duration::from_millis(dns_ttl_floor_ms)))
    }

    async fn forward(&self, request: &Request, name: &str, floor: Duration) -> Answer {
        let Ok(info) = request.request_info() else { return Answer::empty(ResponseCode::FormErr) };
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        question.add_query(info.query.original().clone());
        let reply = match timeout(UPSTREAM_TIMEOUT, ask(self.upstream, &question)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(problem)) => {
                tracing::warn!(event = "resolver_upstream_failed", upstream = %self.upstream, %problem);
                return Answer::empty(ResponseCode::ServFail);
            }
            Err(_) => {
                tracing::warn!(event = "resolver_upstream_failed", upstream = %self.upstream, problem = "no answer in time");
                return Answer::empty(ResponseCode::ServFail);
            }
        };
        let (addresses, ttl) = addresses(&reply.answers);
        if !addresses.is_empty() {
            let validity = Duration::from_secs(ttl.into()).max(floor).min(TTL_CEILING.max(floor));
            let expires_ns = boot_ns().saturating_add(nanoseconds(validity));
            let stamped =
                self.names.lock().unwrap_or_else(PoisonError::into_inner).stamp(name, &addresses, expires_ns);
            // An answer that is not stamped would lead to a connection denied without its name.
            if let Err(error) = stamped {
                return self.failed(name, &error);
            }
        }
        Answer { code: reply.metadata.response_code, records: reply.answers }
    }

    fn failed(&self, name: &str, error: &Error) -> Answer {
        tracing::error!(event = "resolver_failed", cgroup_id = self.cgroup_id, name, %error);
        Answer::empty(ResponseCode::ServFail)
    }
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
    let addresses = answers
        .iter()
        .filter_map(|record| match record.data {
            RData::A(address) => Some(IpAddr::from(address.0)),
            RData::AAAA(address) => Some(IpAddr::from(address.0)),
            _ => None,
        })
        .collect();
    (addresses, answers.iter().map(|record| record.ttl).min().unwrap_or(0))
}

/// Asks by UDP, and again by TCP if the answer did not fit.
async fn ask(upstream: SocketAddr, question: &Message) -> std::result::Result<Message, String> {
    let text = |error: std::io::Error| error.to_string();
    let bytes = question.to_vec().map_err(|error| error.to_string())?;
    let any: SocketAddr = if upstream.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await.map_err(text)?;
    socket.connect(upstream).await.map_err(text)?;
    socket.send(&bytes).await.map_err(text)?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(text)?;
        // Anything else on this port is noise, or a guess at our answer.
        if let Some(reply) = answers(question, buffer.get(..length).unwrap_or_default()) {
            return if reply.metadata.truncation {
                ask_tcp(upstream, question, &bytes).await
            } else {
                Ok(reply)
            };
        }
    }
}

async fn ask_tcp(
    upstream: SocketAddr,
    question: &Message,
    bytes: &[u8],
) -> std::result::Result<Message, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(upstream).await.map_err(text)?;
    let length = u16::try_from(bytes.len()).map_err(|error| error.to_string())?;
    stream.write_all(&length.to_be_bytes()).await.map_err(text)?;
    stream.write_all(bytes).await.map_err(text)?;
    let length = stream.read_u16().await.map_err(text)?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await.map_err(text)?;
    answers(question, &reply).ok_or_else(|| "the answer is to another question".to_owned())
}

/// The message, if it answers the question.
fn answers(question: &Message, bytes: &[u8]) -> Option<Message> {
    let reply = Message::from_vec(bytes).ok()?;
    let same = reply.metadata.id == question.metadata.id
        && reply.metadata.message_type == MessageType::Response
        && reply.queries == question.queries;
    same.then_some(reply)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Name;

    use super::{ResolverAddresses, plain};

    #[test]
    fn a_view_listens_on_one_address_of_each_family() {
        let view = |listen: &[&str]| {
            let listen: Vec<_> = listen.iter().map(|address| address.parse().expect("an address")).collect();
            ResolverAddresses::new(&listen, ([203, 0, 113, 53], 53).into()).map_err(|error| error.to_string())
        };
        let both = view(&["[2001:db8::1]:5300", "192.0.2.1:5300"]).expect("one of each");
        assert_eq!(both.listen().map(|address| address.is_ipv4()).collect::<Vec<_>>(), [true, false]);
        let mapped = view(&["[::ffff:192.0.2.1]:5300"]).expect("an IPv4 address in IPv6 clothes");
        assert_eq!(mapped.v4, Some("192.0.2.1:5300".parse().expect("an address")));
        for (listen, problem) in [
            (&["192.0.2.1:5300", "192.0.2.2:5300"][..], "another of this family"),
            (&["192.0.2.1:5300", "[::ffff:192.0.2.1]:53"], "another of this family"),
            (&["[fe80::1]:5300"], "link-local"),
            (&["0.0.0.0:5300"], "one address"),
            (&["192.0.2.1:0"], "one port"),
            (&[], "no address"),
        ] {
            let error = view(listen).expect_err(problem);
            assert!(error.contains(problem), "{error}");
        }
    }

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
