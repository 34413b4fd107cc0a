//! Being there, and not being there: the listener, in a thread of its own.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrStorage, getsockname, setsockopt, sockopt,
};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::LogsServiceServer;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};
use tonic::transport::{Server, server::TcpIncoming};

use super::Service;

/// Largest request taken, bytes. The default of 4 MiB would limit the sender's batches.
const LARGEST: usize = 64 << 20;

/// A listener that can go away and come back. Dropping it cuts its connections.
pub struct Presence {
    address: SocketAddr,
    away: Arc<AtomicBool>,
    orders: Option<UnboundedSender<Absence>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// An order to be away.
struct Absence {
    length: Duration,
    /// Told when the connections are cut.
    begun: Sender<()>,
}

impl Presence {
    pub fn start(service: Service) -> io::Result<Self> {
        let (place, address) = reserve()?;
        let (orders, mut taken) = unbounded_channel();
        // What can fail does so here.
        let clock = Builder::new_current_thread().enable_time().build()?;
        let mut first = Some((runtime()?, listen(address)?));
        let away = Arc::new(AtomicBool::new(false));
        let is_away = Arc::clone(&away);
        let body = move || {
            let _place = place;
            loop {
                let present =
                    first.take().map_or_else(|| Ok((runtime()?, listen(address)?)), Ok::<_, io::Error>);
                is_away.store(false, Ordering::Relaxed);
                let order = match present {
                    // Its connections are tasks of the runtime, and end with it.
                    Ok((runtime, listener)) => runtime.block_on(serve(listener, service.clone(), &mut taken)),
                    Err(error) => {
                        tracing::error!(%error, "the endpoint does not come back");
                        return;
                    }
                };
                let Some(absence) = order else { return };
                is_away.store(true, Ordering::Relaxed);
                let _ = absence.begun.send(());
                if !clock.block_on(wait_out(&mut taken, absence.length)) {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("endpoint".to_owned()).spawn(body)?;
        Ok(Self { address, away, orders: Some(orders), thread: Some(thread) })
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Goes away for `length`, from the return of this call at the latest.
    pub fn leave(&self, length: Duration) {
        let (begun, begins) = channel();
        if let Some(orders) = &self.orders
            && orders.send(Absence { length, begun }).is_ok()
        {
            // Dropped unsaid where the thread has ended, which it has then told.
            let _ = begins.recv();
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A port for as long as the socket lives, so that nobody has taken it when the endpoint comes back: the socket
/// is bound and does not listen, so what connects meanwhile is refused.
fn reserve() -> io::Result<(OwnedFd, SocketAddr)> {
    let place = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // As the standard library's listener has it: both may have the address as long as one alone listens.
    setsockopt(&place, sockopt::ReuseAddr, &true)?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket::bind(place.as_raw_fd(), &SockaddrStorage::from(any))?;
    let address: SockaddrIn = getsockname(place.as_raw_fd())?;
    Ok((place, SocketAddr::V4(address.into())))
}

/// Serves until it is to be away, or for good: then there is no order.
async fn serve(
    listener: std::net::TcpListener,
    service: Service,
    orders: &mut UnboundedReceiver<Absence>,
) -> Option<Absence> {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the endpoint does not listen");
            return None;
        }
    };
    let service = LogsServiceServer::new(service).max_decoding_message_size(LARGEST);
    // Answers are small, and the sender waits for each.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::select! {
        ended = Server::builder().add_service(service).serve_with_incoming(incoming) => {
            tracing::error!(?ended, "the endpoint ended");
            None
        }
        order = orders.recv() => order,
    }
}

/// Waits for the end of an absence, which a later order may put off; `false` if it is for good.
async fn wait_out(orders: &mut UnboundedReceiver<Absence>, length: Duration) -> bool {
    let mut end = Instant::now() + length;
    loop {
        match timeout(end.saturating_duration_since(Instant::now()), orders.recv()).await {
            Ok(Some(longer)) => {
                end = end.max(Instant::now() + longer.length);
                let _ = longer.begun.send(());
            }
            Ok(None) => return false,
            Err(_elapsed) => return true,
        }
    }
}
