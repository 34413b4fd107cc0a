//! What the servers counted, for whoever judges afterwards.

use std::{
    net::SocketAddr,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde::Serialize;

use super::Query;

/// Transport of a [`Connection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum L4 {
    /// TCP: one accepted connection.
    Tcp,
    /// UDP: one peer of one server.
    Udp,
}

/// What one server exchanged with one peer, in bytes of L4 payload (for TLS: of ciphertext).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Connection {
    /// The agent's address and port, as the far side sees it.
    pub peer: SocketAddr,
    /// The server's address and port.
    pub local: SocketAddr,
    /// Transport.
    pub l4: L4,
    /// Bytes that the server has read.
    pub received: u64,
    /// Bytes that the server has handed to its socket.
    pub sent: u64,
}

#[derive(Default)]
struct State {
    connections: Vec<Connection>,
    queries: Vec<Query>,
}

/// Counts, and wakes who waits for them.
#[derive(Default)]
pub struct Tally {
    state: Mutex<State>,
    changed: Condvar,
}

/// Names a connection of a [`Tally`].
#[derive(Clone, Copy)]
pub struct Id(usize);

impl Tally {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is only counters: valid even if a holder panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection.
    pub fn open(&self, l4: L4, local: SocketAddr, peer: SocketAddr) -> Id {
        let mut state = self.lock();
        state.connections.push(Connection { peer, local, l4, received: 0, sent: 0 });
        self.changed.notify_all();
        Id(state.connections.len() - 1)
    }

    /// The server read `received` and sent `sent` more bytes.
    pub fn add(&self, id: Id, received: usize, sent: usize) {
        if let Some(connection) = self.lock().connections.get_mut(id.0) {
            connection.received += received as u64;
            connection.sent += sent as u64;
        }
        self.changed.notify_all();
    }

    /// A DNS question was asked.
    pub fn asked(&self, query: Query) {
        self.lock().queries.push(query);
        self.changed.notify_all();
    }

    pub fn connections(&self) -> Vec<Connection> {
        self.lock().connections.clone()
    }

    pub fn queries(&self) -> Vec<Query> {
        self.lock().queries.clone()
    }

    pub fn wait(&self, deadline: Instant, done: impl Fn(&[Connection]) -> bool) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(self.lock(), left, |state| !done(&state.connections));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        done(&state.connections)
    }
}
