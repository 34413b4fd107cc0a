//! The far side: the hosts of a scenario, as real servers in a namespace of their own.
//!
//! One thread and one current-thread runtime a world. It counts what the servers read and wrote,
//! and logs DNS queries: evidence that does not come from the chain under test. It must not know
//! who was allowed to do what.

mod call;
mod certificate;
mod dns;
mod grpc;
mod http;
mod program;
mod proxy;
mod quic;
mod stun;
mod tally;
mod tcp;
mod udp;
mod websocket;

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use indexmap::IndexMap;
use nix::sched::{CloneFlags, setns};
use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    scenario::types::{Host, Serve},
    world::{World, WorldError},
};
use program::{Log, Place, Program};
use tally::Tally;

pub use call::{Call, Exchange};
pub use certificate::authority;
pub use dns::Query;
pub(crate) use proxy::Plan;
pub use tally::{Connection, L4};

/// The far side of one world. Dropping it ends its servers.
pub struct Far {
    handle: Handle,
    tally: Arc<Tally>,
    logs: Vec<Log>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Far {
    /// Binds every server of `hosts` in `netns`, and the authoritative DNS server, and serves. `id` is
    /// the world's.
    pub(crate) fn start(
        id: &str,
        netns: BorrowedFd<'_>,
        hosts: &IndexMap<String, Host>,
    ) -> Result<Self, WorldError> {
        let netns = netns.try_clone_to_owned().map_err(WorldError::io("duplicate a descriptor"))?;
        let (id, hosts) = (id.to_owned(), hosts.clone());
        let tally = Arc::new(Tally::default());
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let shared = Arc::clone(&tally);
        let body = move || {
            let started = (|| {
                setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)
                    .map_err(WorldError::io("enter the far namespace"))?;
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(WorldError::io("start the far side's runtime"))?;
                let programs = runtime.block_on(serve(&id, netns.as_fd(), &hosts, &shared))?;
                Ok((runtime, programs))
            })();
            match started {
                Ok((runtime, programs)) => {
                    let logs = programs.iter().map(Program::log).collect();
                    let _ = ready.send(Ok((runtime.handle().clone(), logs)));
                    // Ends when told, or when the owner is gone.
                    let _ = runtime.block_on(stopped);
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        };
        let thread = thread::Builder::new()
            .name("far".to_owned())
            .spawn(body)
            .map_err(WorldError::io("start the far side's thread"))?;
        let (handle, logs) = is_ready.recv().map_err(|_| WorldError::Io {
            what: "start the far side".to_owned(),
            source: io::Error::other("its thread panicked"),
        })??;
        Ok(Self { handle, tally, logs, stop: Some(stop), thread: Some(thread) })
    }

    /// Runs `future` on the far side's thread, where sockets it makes are in the far namespace, and waits for it;
    /// not from within a runtime. `None` if
    /// it panicked.
    pub fn run<F>(&self, future: F) -> Option<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let (send, receive) = mpsc::channel();
        self.handle.spawn(async move { drop(send.send(future.await)) });
        receive.recv().ok()
    }

    /// Every TCP connection accepted and every UDP peer heard, in order of appearance.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        self.tally.connections()
    }

    /// Waits until the connections satisfy `done`; `false` if they did not before `deadline`.
    pub fn wait(&self, deadline: Instant, done: impl Fn(&[Connection]) -> bool) -> bool {
        self.tally.wait(deadline, done)
    }

    /// What the server programs have said up to now, each under its name.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.logs.iter().filter_map(Log::text).collect()
    }

    /// Every question that the authoritative server was asked, in order.
    #[must_use]
    pub fn queries(&self) -> Vec<Query> {
        self.tally.queries()
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Binds everything, then starts serving. The programs live as long as what this returns.
async fn serve(
    id: &str,
    netns: BorrowedFd<'_>,
    hosts: &IndexMap<String, Host>,
    tally: &Arc<Tally>,
) -> Result<Vec<Program>, WorldError> {
    let mut programs = Vec::new();
    dns::start(World::authority(), hosts, tally).await.map_err(WorldError::io("serve DNS"))?;
    for (name, host) in hosts.iter().filter(|(_, host)| !host.silent) {
        for serve in &host.serve {
            let (kind, port) = kind(serve).map_err(|(port, reason)| WorldError::Serve {
                host: name.clone(),
                port,
                reason,
            })?;
            if !serve.run.is_empty() {
                let place =
                    Place { name: &format!("{id}-far{}", programs.len()), netns, addresses: &host.addr };
                let started = Program::start(&place, serve).await;
                programs.push(started.map_err(|reason| WorldError::Serve {
                    host: name.clone(),
                    port,
                    reason,
                })?);
                continue;
            }
            for &address in &host.addr {
                let local = SocketAddr::new(address, port);
                let bound = match kind {
                    Kind::Tcp => tcp::start(local, serve, tally).await,
                    Kind::Udp => udp::start(local, serve, tally).await,
                    Kind::Http => http::start(local, serve, None, tally).await,
                    Kind::Tls => http::start(local, serve, Some(name), tally).await,
                    Kind::Quic => quic::start_echo(local, name, tally),
                    Kind::Http3 => quic::start_http3(local, name, serve, tally),
                    Kind::Grpc => grpc::start(local, serve, name, tally).await,
                    Kind::Websocket => websocket::start(local, tally).await,
                    Kind::Stun => stun::start(local, tally).await,
                };
                bound.map_err(|error| WorldError::Serve {
                    host: name.clone(),
                    port,
                    reason: format!("cannot serve on {local}: {error}"),
                })?;
            }
        }
    }
    Ok(programs)
}

#[derive(Clone, Copy)]
enum Kind {
    Tcp,
    Udp,
    Http,
    Tls,
    Quic,
    Http3,
    Grpc,
    Websocket,
    Stun,
}

/// Which of the port fields is set: exactly one.
fn kind(serve: &Serve) -> Result<(Kind, u16), (u16, String)> {
    let fields = [
        (Kind::Tcp, serve.tcp),
        (Kind::Udp, serve.udp),
        (Kind::Http, serve.http),
        (Kind::Tls, serve.tls),
        (Kind::Quic, serve.quic),
        (Kind::Http3, serve.h3),
        (Kind::Grpc, serve.grpc),
        (Kind::Websocket, serve.websocket),
        (Kind::Stun, serve.stun),
    ];
    let mut set = fields.into_iter().filter_map(|(kind, port)| Some((kind, port?)));
    match (set.next(), set.next()) {
        (Some(one), None) => Ok(one),
        (first, _) => Err((first.map_or(0, |(_, port)| port), "a server has exactly one port".to_owned())),
    }
}
