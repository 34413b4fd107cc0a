//! DNS by TCP (RFC 7766), a bounded number of connections at a time: the process has a number of files for the views of all
//! containers, and the server's own listener takes whatever comes.

use std::{io, net::SocketAddr, time::Duration};

use hickory_proto::{
    op::{Header, Message, MessageType, ResponseCode},
    rr::Record,
    serialize::binary::{BinDecodable as _, BinDecoder, BinEncoder},
};
use hickory_server::{
    net::{NetError, runtime::TokioTime, xfer::Protocol},
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponse,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Connections at once. The next waits in the kernel's queue until one has ended.
const AT_ONCE: usize = 64;
/// How long a client may take for its next question, whole, and to take an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Until it is tried again, if no connection could be taken.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers whoever connects, until dropped; then connections end with it.
pub(super) async fn serve(listener: TcpListener, handler: impl RequestHandler + Clone) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= AT_ONCE {
            connections.join_next().await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, client)) => {
                let handler = handler.clone();
                connections.spawn(async move {
                    if let Err(error) = answers(stream, client, &handler).await {
                        tracing::debug!(%client, %error, "a DNS connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(event = "resolver_accept_failed", %error);
                sleep(PAUSE).await;
            }
        }
    }
}

/// Answers one question after the other, until the client closes, is too slow, or gets no answer.
async fn answers(mut stream: TcpStream, client: SocketAddr, handler: &impl RequestHandler) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let question = timeout(PATIENCE, question(&mut stream)).await??;
        let Some(answer) = answer(question, client, handler).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let whole = [&length.to_be_bytes(), &*answer].concat();
        timeout(PATIENCE, stream.write_all(&whole)).await??;
    }
}

async fn question(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut question = vec![0; length.into()];
    stream.read_exact(&mut question).await?;
    Ok(question)
}

/// What is answered, if anything is: not what is no question at all.
async fn answer(question: Vec<u8>, client: SocketAddr, handler: &impl RequestHandler) -> Option<Vec<u8>> {
    let metadata = Header::read(&mut BinDecoder::new(&question)).ok()?.metadata;
    if metadata.message_type == MessageType::Response {
        return None;
    }
    let Ok(request) = Request::from_bytes(question, client, Protocol::Tcp) else {
        return Message::error_msg(metadata.id, metadata.op_code, ResponseCode::FormErr).to_vec().ok();
    };
    let (sender, mut answer) = mpsc::channel(1);
    handler.handle_request::<_, TokioTime>(&request, Answer(sender)).await;
    answer.recv().await
}

/// Where the handler leaves its answer.
#[derive(Clone)]
struct Answer(mpsc::Sender<Vec<u8>>);

#[async_trait::async_trait]
impl ResponseHandler for Answer {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::new();
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(u16::MAX);
        let info = response.destructive_emit(&mut encoder)?;
        self.0.try_send(bytes).map_err(|_| NetError::from("a question has one answer"))?;
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::{HeaderCounts, Metadata, Query},
        rr::{Name, RecordType},
    };
    use hickory_server::{net::runtime::Time, zone_handler::MessageResponseBuilder};

    use super::*;

    /// Answers that nothing exists.
    #[derive(Clone)]
    struct Nothing;

    #[async_trait::async_trait]
    impl RequestHandler for Nothing {
        async fn handle_request<R: ResponseHandler, T: Time>(
            &self,
            request: &Request,
            mut response_handle: R,
        ) -> ResponseInfo {
            let mut metadata = Metadata::response_from_request(&request.metadata);
            metadata.response_code = ResponseCode::NXDomain;
            let response = MessageResponseBuilder::from_message_request(request).build_no_records(metadata);
            let unsent = Header { metadata, counts: HeaderCounts::default() }.into();
            response_handle.send_response(response).await.unwrap_or(unsent)
        }
    }

    fn runs<F: Future<Output = ()>>(test: impl FnOnce(SocketAddr) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            let address = listener.local_addr().expect("its address");
            tokio::select! { () = serve(listener, Nothing) => {}, () = test(address) => {} }
        });
    }

    fn asked() -> Vec<u8> {
        let mut question = Message::query();
        question.metadata.id = 7;
        question.add_query(Query::query(Name::from_ascii("a.test.").expect("a name"), RecordType::A));
        question.to_vec().expect("bytes")
    }

    async fn ask(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<Message> {
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(bytes).await?;
        Message::from_vec(&question(stream).await?).map_err(io::Error::other)
    }

    #[test]
    fn a_connection_has_any_number_of_questions_answered_in_turn() {
        runs(|address| async move {
            let mut client = TcpStream::connect(address).await.expect("it listens");
            for _ in 0..3 {
                let answer = ask(&mut client, &asked()).await.expect("an answer");
                assert_eq!((answer.metadata.id, answer.metadata.response_code), (7, ResponseCode::NXDomain));
                assert_eq!(answer.queries.len(), 1);
            }
            let cut = &asked()[..14];
            let answer = ask(&mut client, cut).await.expect("an answer");
            assert_eq!((answer.metadata.id, answer.metadata.response_code), (7, ResponseCode::FormErr));
        });
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let mut response = asked();
        response[2] |= 0x80;
        for bytes in [&response[..], &[], &[7; 11]] {
            runs(|address| async move {
                let mut client = TcpStream::connect(address).await.expect("it listens");
                let error = ask(&mut client, bytes).await.expect_err("no answer");
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            });
        }
    }

    #[test]
    fn one_connection_more_than_there_may_be_waits_until_one_has_ended() {
        runs(|address| async move {
            let mut idle = Vec::new();
            for _ in 0..AT_ONCE {
                let mut client = TcpStream::connect(address).await.expect("it listens");
                ask(&mut client, &asked()).await.expect("an answer");
                idle.push(client);
            }
            let mut late = TcpStream::connect(address).await.expect("the kernel takes it");
            let waits = timeout(Duration::from_millis(200), ask(&mut late, &asked())).await;
            assert!(waits.is_err(), "it was answered beside {AT_ONCE} others");
            idle.pop();
            let answer =
                timeout(PATIENCE / 2, question(&mut late)).await.expect("in time").expect("an answer");
            assert_eq!(Message::from_vec(&answer).expect("a message").metadata.id, 7);
        });
    }
}
