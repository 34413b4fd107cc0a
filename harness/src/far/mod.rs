//! The far side: the hosts of a scenario, as real servers in a namespace of their own.
//!
//! One thread and one current-thread runtime a world. It counts what the servers read and wrote,
//! and logs DNS queries: evidence that does not come from the chain under test. It must not know
//! who was allowed to do what.

mod call;
mod dns;
mod http;
mod proxy;
mod tally;
mod tcp;
mod udp;

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
use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle};

use crate::{
    scenario::types::{Host, Serve},
    world::{World, WorldError},
};
use tally::Tally;

pub use call::{Call, Exchange};
pub use dns::Query;
pub(crate) use proxy::Plan;
pub use tally::{Connection, L4};

/// The far side of one world. Dropping it ends its servers.
pub struct Far {
    handle: Handle,
    tally: Arc<Tally>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Far {
    /// Binds every server of `hosts` in `netns`, and the authoritative DNS server, and serves.
    pub(crate) fn start(netns: BorrowedFd<'_>, hosts: &IndexMap<String, Host>) -> Result<Self, WorldError> {
        let netns = netns.try_clone_to_owned().map_err(WorldError::io("duplicate a descriptor"))?;
        let hosts = hosts.clone();
        let tally = Arc::new(Tally::default());
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let shared = Arc::clone(&tally);
        let body = move || {
            let started = (|| {
                setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)
                    .map_err(WorldError::io("enter the far namespace"))?;
                drop(netns);
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(WorldError::io("start the far side's runtime"))?;
                runtime.block_on(serve(&hosts, &shared))?;
                Ok(runtime)
            })();
            match started {
                Ok(runtime) => {
                    let _ = ready.send(Ok(runtime.handle().clone()));
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
        let handle = is_ready.recv().map_err(|_| WorldError::Io {
            what: "start the far side".to_owned(),
            source: io::Error::other("its thread panicked"),
        })??;
        Ok(Self { handle, tally, stop: Some(stop), thread: Some(thread) })
    }

    /// Runs `future` on the far side's thread: sockets it makes are in the far namespace.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.handle.spawn(future)
    }

    /// Runs `future` on the far side's thread and waits for it; not from within a runtime. `None` if
    /// it panicked.
    pub fn run<F>(&self, future: F) -> Option<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let (send, receive) = mpsc::channel();
        self.handle.spawn(async move { drop(send.send(future.await)) });
        receive.recv().ok()
    }

    /// The runtime. Only futures that are *spawned* on it run in the far namespace; `block_on` would
    /// run them in the caller's.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
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

/// Binds everything, then starts serving.
async fn serve(hosts: &IndexMap<String, Host>, tally: &Arc<Tally>) -> Result<(), WorldError> {
    dns::start(World::authority(), hosts, tally).await.map_err(WorldError::io("serve DNS"))?;
    for (name, host) in hosts.iter().filter(|(_, host)| !host.silent) {
        for serve in &host.serve {
            let (kind, port) = kind(serve).map_err(|(port, reason)| WorldError::Serve {
                host: name.clone(),
                port,
                reason,
            })?;
            for &address in &host.addr {
                let local = SocketAddr::new(address, port);
                let bound = match kind {
                    Kind::Tcp => tcp::start(local, serve, tally).await,
                    Kind::Udp => udp::start(local, serve, tally).await,
                    Kind::Http => http::start(local, serve, None, tally).await,
                    Kind::Tls => http::start(local, serve, Some(name), tally).await,
                };
                bound.map_err(|error| WorldError::Serve {
                    host: name.clone(),
                    port,
                    reason: format!("cannot serve on {local}: {error}"),
                })?;
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Kind {
    Tcp,
    Udp,
    Http,
    Tls,
}

/// Which of the port fields is set: exactly one.
fn kind(serve: &Serve) -> Result<(Kind, u16), (u16, String)> {
    let fields =
        [(Kind::Tcp, serve.tcp), (Kind::Udp, serve.udp), (Kind::Http, serve.http), (Kind::Tls, serve.tls)];
    let mut set = fields.into_iter().filter_map(|(kind, port)| Some((kind, port?)));
    match (set.next(), set.next()) {
        (Some(one), None) => Ok(one),
        (first, _) => {
            Err((first.map_or(0, |(_, port)| port), "a server has one of tcp, udp, http and tls".to_owned()))
        }
    }
}
