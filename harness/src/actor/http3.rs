//! One HTTP/3 request.

use hyper::{
    Method, Request,
    body::{Buf, Bytes},
};

use super::{
    Report, Stop, payload,
    quic::{self, broken, short},
};
use crate::scenario::types::Http3;

/// Protocol as TLS negotiates it.
const PROTOCOL: &[u8] = b"h3";
/// Bytes of a body that are sent at once.
const CHUNK: usize = 64 * 1024;

/// Asks, and reads the answer to its end. Any status but success is an error.
pub fn run(http3: &Http3, report: &mut Report) -> Result<(), Stop> {
    quic::converse(&http3.to, http3.family, PROTOCOL, report, async |connection, report| {
        let (mut driver, mut requests) = h3::client::new(h3_quinn::Connection::new(connection))
            .await
            .map_err(|error| broken("start HTTP/3", &error))?;
        let method = if http3.send == 0 { Method::GET } else { Method::POST };
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{}", http3.to, http3.path))
            .body(())
            .map_err(|error| broken("write the request", &error))?;
        let exchange = async {
            let stream = requests.send_request(request);
            let stream = stream.await.map_err(|error| broken("send the request", &error))?;
            let (mut send, mut receive) = stream.split();
            let Report { sent, received, .. } = report;
            let write = async {
                let data = Bytes::from(payload(CHUNK));
                while *sent < http3.send {
                    let len = usize::try_from(http3.send - *sent).unwrap_or(CHUNK).min(CHUNK);
                    let sending = send.send_data(data.slice(..len)).await;
                    sending.map_err(|error| broken("send the body", &error))?;
                    *sent += len as u64;
                }
                send.finish().await.map_err(|error| broken("end the request", &error))
            };
            let read = async {
                let answer = receive.recv_response().await;
                let answer = answer.map_err(|error| broken("read the answer", &error))?;
                while let Some(chunk) =
                    receive.recv_data().await.map_err(|error| broken("read the answer", &error))?
                {
                    *received += chunk.remaining() as u64;
                }
                if !answer.status().is_success() {
                    return Err(Stop::new("EPROTO", format!("the answer is {}", answer.status())));
                }
                if *received < http3.receive {
                    return Err(short(*received, http3.receive));
                }
                Ok(())
            };
            tokio::try_join!(write, read).map(drop)
        };
        tokio::select! {
            done = exchange => done,
            error = driver.wait_idle() => Err(broken("HTTP/3", &error)),
        }
    })
}
