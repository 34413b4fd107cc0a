//! QUIC connections. Only here is there a runtime: the library wants one. What it sends goes by
//! `sendmsg()` with an address, on a socket that is not connected.

pub mod certificate;
mod socket;

use std::{sync::Arc, time::Duration};

use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, TokioRuntime, VarInt,
    crypto::rustls::QuicClientConfig,
};
use tokio::{io::AsyncWriteExt, runtime, select, time::timeout};

use super::{Report, Stop, destination, payload};
use crate::scenario::types::{Family, Quic};
use socket::Socket;

/// How long a connection may take in all. A refusal by the kernel ends it at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// Protocol of the far side's server that echoes.
const ECHO: &[u8] = b"echo";
/// Read and write size.
const CHUNK: usize = 64 * 1024;

/// Connects, opens a stream, sends and reads, and closes.
pub fn run(quic: &Quic, report: &mut Report) -> Result<(), Stop> {
    converse(&quic.to, quic.family, ECHO, report, async |connection, report| {
        let (mut send, mut receive) =
            connection.open_bi().await.map_err(|error| broken("open a stream", &error))?;
        let Report { sent, received, .. } = report;
        let write = async {
            let data = payload(CHUNK);
            while *sent < quic.send {
                let len = usize::try_from(quic.send - *sent).unwrap_or(CHUNK).min(CHUNK);
                send.write_all(&data[..len]).await.map_err(|error| broken("write", &error))?;
                *sent += len as u64;
            }
            send.shutdown().await.map_err(|error| broken("end the stream", &error))
        };
        let read = async {
            while *received < quic.receive {
                match receive.read_chunk(CHUNK, true).await.map_err(|error| broken("read", &error))? {
                    Some(chunk) => *received += chunk.bytes.len() as u64,
                    None => return Err(short(*received, quic.receive)),
                }
            }
            // Whether it was acknowledged, too: what is not is lost when the connection closes.
            Ok(())
        };
        tokio::try_join!(write, read)?;
        send.stopped().await.map(drop).map_err(|error| broken("wait for the acknowledgement", &error))
    })
}

/// Connects to `to`, speaking `protocol`, lets `talk` use the connection, and closes it. It returns
/// when nothing is in flight any more. The first error of the socket is the outcome, and the last
/// call: QUIC itself takes it for a loss, and would try again until it times out.
pub fn converse(
    to: &str,
    family: Family,
    protocol: &[u8],
    report: &mut Report,
    talk: impl AsyncFnOnce(Connection, &mut Report) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let dst = destination(to, Some(family), report)?;
    let name = to.rsplit_once(':').map_or(to, |(name, _)| name).trim_matches(['[', ']']);
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().map_err(Stop::io("start a runtime"))?;
    runtime.block_on(async {
        let socket = Arc::new(Socket::bind(dst).map_err(Stop::io("socket"))?);
        report.src = socket.local().ok();
        let runtime = Arc::new(TokioRuntime);
        let endpoint =
            Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket.clone(), runtime)
                .map_err(Stop::io("make an endpoint"))?;
        let done = async {
            let connecting = endpoint.connect_with(client(protocol)?, dst, name);
            let connecting = connecting.map_err(|error| broken("connect", &error))?;
            let connection = connecting.await.map_err(|error| broken("connect", &error))?;
            let talked = talk(connection.clone(), report).await;
            connection.close(VarInt::from_u32(0), b"");
            endpoint.wait_idle().await;
            talked
        };
        select! {
            biased;
            errno = socket.failed() => Err(Stop::errno("sendmsg")(errno)),
            done = timeout(PATIENCE, done) => {
                done.unwrap_or_else(|_| Err(Stop::new("timeout", format!("not done after {PATIENCE:?}"))))
            }
        }
    })
}

fn client(protocol: &[u8]) -> Result<ClientConfig, Stop> {
    let mut tls = certificate::config().map_err(|error| broken("set TLS up", &error))?;
    tls.alpn_protocols = vec![protocol.to_vec()];
    let quic = QuicClientConfig::try_from(tls).map_err(|error| broken("set TLS up", &error))?;
    Ok(ClientConfig::new(Arc::new(quic)))
}

/// The protocol failed, and no system call.
pub fn broken(what: &str, error: &dyn std::error::Error) -> Stop {
    Stop::new("EPROTO", format!("{what}: {error}"))
}

/// The peer ended its stream too soon.
pub fn short(got: u64, wanted: u64) -> Stop {
    Stop::new("EOF", format!("the peer ended the stream after {got} of {wanted} bytes"))
}
