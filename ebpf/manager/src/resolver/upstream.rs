//! Asking the upstream: by UDP, a few times, then by TCP if the answer did not fit.
//!
//! Whoever can send to this machine may try to answer first. So each attempt has a random port and
//! identifier of its own, and takes only what comes from the upstream, carries that identifier and
//! repeats the question.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use hickory_proto::op::{Message, MessageType, Query};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    time::{sleep, timeout},
};

/// How long each attempt may take. In all less than clients wait, whose usual time is 5 s.
const ATTEMPTS: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_millis(1000), Duration::from_millis(1500)];
/// How long TCP may take.
const TCP: Duration = Duration::from_secs(3);
/// Longest UDP answer: what is asked without EDNS has at most 512 bytes.
const UDP_BYTES: usize = 4096;

/// Questions of a container that are under way at once. Each has a socket of its own, of which the process has a number.
const AT_ONCE: usize = 64;

/// A container's upstream, and how many of its questions are under way.
pub(super) struct Upstream {
    pub address: SocketAddr,
    places: Semaphore,
    put_off: AtomicU64,
}

impl Upstream {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, places: Semaphore::new(AT_ONCE), put_off: AtomicU64::new(0) }
    }

    /// The upstream's answer to `query`; nothing at once, if there is no place for it.
    ///
    /// # Errors
    /// Why there is no answer, as the last attempt met it.
    pub async fn ask(&self, query: &Query) -> Option<Result<Message, String>> {
        let Ok(_place) = self.places.try_acquire() else {
            self.put_off.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        Some(ask(self.address, query).await)
    }

    /// Questions that there was no place for.
    pub fn put_off(&self) -> u64 {
        self.put_off.load(Ordering::Relaxed)
    }
}

async fn ask(upstream: SocketAddr, query: &Query) -> Result<Message, String> {
    let mut problem = String::new();
    for attempt in ATTEMPTS {
        let end = sleep(attempt);
        let question = question(query);
        match timeout(attempt, ask_udp(upstream, &question)).await {
            Ok(Ok(reply)) if reply.metadata.truncation => {
                return timeout(TCP, ask_tcp(upstream, &question))
                    .await
                    .map_err(|_| format!("no answer by TCP within {TCP:?}"))?;
            }
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(error)) => {
                problem = error.to_string();
                // It may be starting; asking again at once would meet the same.
                end.await;
            }
            Err(_) => problem = "no answer in time".to_owned(),
        }
    }
    Err(format!("{problem} ({} attempts)", ATTEMPTS.len()))
}

/// Asks `query` under a new identifier.
fn question(query: &Query) -> Message {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(query.clone());
    question
}

async fn ask_udp(upstream: SocketAddr, question: &Message) -> io::Result<Message> {
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let any: SocketAddr = if upstream.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    // Connected: the kernel drops what others send, and tells of a port that nobody listens on.
    socket.connect(upstream).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; UDP_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(reply) = answer_to(question, buffer.get(..length).unwrap_or_default()) {
            return Ok(reply);
        }
    }
}

async fn ask_tcp(upstream: SocketAddr, question: &Message) -> Result<Message, String> {
    let bytes = question.to_vec().map_err(|error| error.to_string())?;
    let length = u16::try_from(bytes.len()).map_err(|error| error.to_string())?;
    let exchange = async {
        let mut stream = TcpStream::connect(upstream).await?;
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(&bytes).await?;
        let length = stream.read_u16().await?;
        let mut reply = vec![0; length.into()];
        stream.read_exact(&mut reply).await?;
        io::Result::Ok(reply)
    };
    let reply = exchange.await.map_err(|error| error.to_string())?;
    answer_to(question, &reply).ok_or_else(|| "the answer is to another question".to_owned())
}

/// The message, if it answers the question.
fn answer_to(question: &Message, bytes: &[u8]) -> Option<Message> {
    let reply = Message::from_vec(bytes).ok()?;
    let same = reply.metadata.id == question.metadata.id
        && reply.metadata.message_type == MessageType::Response
        && reply.queries == question.queries;
    same.then_some(reply)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use hickory_proto::{
        op::ResponseCode,
        rr::{Name, RecordType},
    };

    use super::*;

    fn query(name: &str) -> Query {
        Query::query(Name::from_str(name).expect("a name"), RecordType::A)
    }

    fn runs(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test);
    }

    async fn server() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = socket.local_addr().expect("its address");
        (socket, address)
    }

    async fn asked(server: &UdpSocket) -> (Message, SocketAddr) {
        let mut buffer = [0; 512];
        let (length, client) = server.recv_from(&mut buffer).await.expect("a question");
        (Message::from_vec(&buffer[..length]).expect("a message"), client)
    }

    fn reply(question: &Message) -> Message {
        let mut reply = question.clone();
        reply.metadata.message_type = MessageType::Response;
        reply.metadata.response_code = ResponseCode::NXDomain;
        reply
    }

    #[test]
    fn a_lost_question_is_asked_again_from_another_port_under_another_identifier() {
        runs(async {
            let (server, address) = server().await;
            let answers = async {
                let (lost, first) = asked(&server).await;
                let (question, second) = asked(&server).await;
                assert_ne!(first, second);
                assert_ne!(lost.metadata.id, question.metadata.id);
                // What was asked first is answered late: to a port that is closed.
                for (question, client) in [(lost, first), (question, second)] {
                    let bytes = reply(&question).to_vec().expect("bytes");
                    server.send_to(&bytes, client).await.expect("it is sent");
                }
            };
            let query = query("api.test.");
            let (answer, ()) = tokio::join!(ask(address, &query), answers);
            assert_eq!(answer.expect("an answer").metadata.response_code, ResponseCode::NXDomain);
        });
    }

    #[test]
    fn what_does_not_answer_the_question_is_passed_over() {
        runs(async {
            let (server, address) = server().await;
            let (stranger, _) = self::server().await;
            let answers = async {
                let (question, client) = asked(&server).await;
                let mut forged = reply(&question);
                forged.metadata.response_code = ResponseCode::Refused;
                let bytes = forged.to_vec().expect("bytes");
                stranger.send_to(&bytes, client).await.expect("from another source");
                forged.metadata.id = forged.metadata.id.wrapping_add(1);
                server.send_to(&forged.to_vec().expect("bytes"), client).await.expect("another identifier");
                let mut other = reply(&question);
                other.queries = vec![query("other.test.")];
                server.send_to(&other.to_vec().expect("bytes"), client).await.expect("another question");
                server.send_to(b"noise", client).await.expect("noise");
                server.send_to(&question.to_vec().expect("bytes"), client).await.expect("no response");
                let bytes = reply(&question).to_vec().expect("bytes");
                server.send_to(&bytes, client).await.expect("the answer");
            };
            let query = query("api.test.");
            let (answer, ()) = tokio::join!(ask(address, &query), answers);
            assert_eq!(answer.expect("an answer").metadata.response_code, ResponseCode::NXDomain);
        });
    }

    #[test]
    fn a_question_beyond_so_many_at_once_is_put_off_and_none_after_them() {
        runs(async {
            let (server, address) = server().await;
            let (upstream, name) = (Upstream::new(address), query("api.test."));
            let mut flood: Vec<_> = (0..AT_ONCE).map(|_| Box::pin(upstream.ask(&name))).collect();
            for one in &mut flood {
                assert!(timeout(Duration::ZERO, one).await.is_err(), "nobody has answered");
            }
            assert!(upstream.ask(&name).await.is_none());
            assert_eq!(upstream.put_off(), 1);
            drop(flood);
            let answers = async {
                loop {
                    let (question, client) = asked(&server).await;
                    let bytes = reply(&question).to_vec().expect("bytes");
                    // Of most of them nobody listens any more.
                    let _ = server.send_to(&bytes, client).await;
                }
            };
            let answer = tokio::select! { answer = upstream.ask(&name) => answer, () = answers => None };
            assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
            assert_eq!(upstream.put_off(), 1);
        });
    }

    #[test]
    fn after_the_last_attempt_the_cause_is_told() {
        runs(async {
            let (server, address) = server().await;
            drop(server);
            let problem = ask(address, &query("api.test.")).await.expect_err("nobody listens");
            assert!(problem.contains("refused") && problem.contains("3 attempts"), "{problem}");
        });
    }
}
