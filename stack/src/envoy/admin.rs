//! Envoy's administration, which whoever reaches it may end and turn off everything with: a socket in the file system of its
//! container, where no upstream leads, and only root of the machine comes in.

use std::path::PathBuf;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

/// Where the socket is, inside.
const SOCKET: &str = "/tmp/admin.sock";
/// The largest answer that is read, bytes: what it serves tells of each container.
const LARGEST: usize = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// It is not there, or not yet.
    #[error("Envoy's administration is not to be reached: {0}")]
    Unreachable(#[from] std::io::Error),
    /// It did not answer as HTTP has it.
    #[error("Envoy's administration did not answer: {0}")]
    Unanswered(#[from] hyper::Error),
    /// The answer could not be read: it is cut, or too large.
    #[error("Envoy's administration did not answer in full: {0}")]
    Cut(Box<dyn std::error::Error + Send + Sync>),
    /// It answered with something else than 200.
    #[error("Envoy's administration answers with {0}")]
    Refused(StatusCode),
}

/// In the bootstrap: of its user alone.
pub(super) fn address() -> Value {
    json!({"pipe": {"path": SOCKET, "mode": 0o600}})
}

/// What the Envoy whose first process is `pid` on this machine answers to a `GET` of `path`, such as `/ready`. Needs root, and a
/// runtime of tokio's.
///
/// # Errors
/// If it does not answer with 200.
pub async fn ask(pid: u32, path: &str) -> Result<Vec<u8>, AdminError> {
    let socket = PathBuf::from(format!("/proc/{pid}/root{SOCKET}"));
    let stream = UnixStream::connect(socket).await?;
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header("host", "envoy").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| AdminError::Cut(Box::new(error)))?;
    let connection = tokio::spawn(connection);
    let answer = requests.send_request(request).await?;
    let code = answer.status();
    let content = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(AdminError::Cut)?;
    connection.abort();
    if code == StatusCode::OK { Ok(content.to_bytes().to_vec()) } else { Err(AdminError::Refused(code)) }
}
