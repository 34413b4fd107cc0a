//! WebSocket servers over HTTP/1.1, in the clear: they send every message back.

use std::{io, net::SocketAddr, sync::Arc};

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::accept_async;

use super::{
    tally::Tally,
    tcp::{self, Counted},
};

/// Serves on `local`.
pub async fn start(local: SocketAddr, tally: &Arc<Tally>) -> io::Result<()> {
    tcp::accept(local, tally, converse).await
}

async fn converse(stream: Counted) -> io::Result<()> {
    let mut socket = accept_async(stream).await.map_err(io::Error::other)?;
    // Ends with the closing handshake, which the library answers itself.
    while let Some(message) = socket.next().await {
        let message = message.map_err(io::Error::other)?;
        if message.is_binary() || message.is_text() {
            socket.send(message).await.map_err(io::Error::other)?;
        }
    }
    Ok(())
}
