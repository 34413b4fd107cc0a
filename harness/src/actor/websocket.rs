//! A WebSocket over HTTP/1.1, in the clear.

use std::{io, net::TcpStream, time::Duration};

use tokio_tungstenite::tungstenite::{Error, HandshakeError, Message, WebSocket, client};

use super::{Report, Stop, destination, payload};
use crate::scenario::types::Websocket;

/// How long the peer may be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects, sends each message and reads it back, and closes as the protocol wants it: the server
/// ends the connection.
pub fn run(action: &Websocket, report: &mut Report) -> Result<(), Stop> {
    let dst = destination(&action.to, Some(action.family), report)?;
    let len =
        usize::try_from(action.bytes).map_err(|_| Stop::new("EMSGSIZE", "bytes does not fit in memory"))?;
    let stream = TcpStream::connect(dst).map_err(Stop::io("connect"))?;
    report.src = stream.local_addr().ok();
    stream.set_read_timeout(Some(PATIENCE)).map_err(Stop::io("setsockopt SO_RCVTIMEO"))?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(Stop::io("setsockopt SO_SNDTIMEO"))?;
    let (mut socket, _) = client(format!("ws://{}/", action.to), stream).map_err(|error| match error {
        HandshakeError::Failure(error) => stop(error),
        HandshakeError::Interrupted(_) => Stop::new("timeout", "no end of the handshake"),
    })?;
    for _ in 0..action.messages {
        socket.send(Message::binary(payload(len))).map_err(stop)?;
        report.sent += len as u64;
        report.received += answer(&mut socket)? as u64;
    }
    socket.close(None).map_err(stop)?;
    loop {
        match socket.read() {
            Ok(_) => {}
            Err(Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(stop(error)),
        }
    }
}

/// The next message that is not the protocol's own; its length.
fn answer(socket: &mut WebSocket<TcpStream>) -> Result<usize, Stop> {
    loop {
        let message = socket.read().map_err(stop)?;
        if message.is_binary() || message.is_text() {
            return Ok(message.len());
        }
    }
}

fn stop(error: Error) -> Stop {
    match error {
        Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Stop::new("timeout", format!("the peer is silent for {PATIENCE:?}"))
        }
        Error::Io(error) => Stop::io("WebSocket")(error),
        Error::ConnectionClosed => Stop::new("EOF", "the peer closed the WebSocket"),
        error => Stop::new("EPROTO", format!("WebSocket: {error}")),
    }
}
