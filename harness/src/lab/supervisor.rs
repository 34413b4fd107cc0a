//! The reader as a supervisor runs it: in a process that is started again after a step has ended it. One that ends
//! on its own is not: that is a failure, to be seen.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::reader_process::{ReaderCommand, ReaderProcess};

/// The process, and the thread that starts it: a reader dies with the thread that started it.
pub(super) struct Supervisor {
    orders: Option<Sender<(Order, Sender<()>)>>,
    thread: Option<thread::JoinHandle<()>>,
    process: Arc<Mutex<ReaderProcess>>,
}

/// What can be done to the reader.
#[derive(Clone, Copy)]
pub(super) enum Order {
    /// SIGKILL, and a start.
    Kill,
    /// SIGTERM, and a start.
    Restart,
    /// SIGTERM, and a start after this time, or with the next order.
    Stop(Duration),
}

impl Supervisor {
    /// Starts the reader.
    pub fn start(command: ReaderCommand) -> io::Result<Self> {
        let (orders, taken) = channel();
        let (started, start) = channel();
        let body = move || match command.start() {
            Ok(process) => {
                let process = Arc::new(Mutex::new(process));
                let _ = started.send(Ok(Arc::clone(&process)));
                supervise(&command, &process, &taken);
            }
            Err(error) => drop(started.send(Err(error))),
        };
        let thread = thread::Builder::new().name("supervisor".to_owned()).spawn(body)?;
        let process = start.recv().map_err(io::Error::other)??;
        Ok(Self { orders: Some(orders), thread: Some(thread), process })
    }

    /// Has it done, and returns when it is done; the end of a [`Order::Stop`] is not waited for.
    pub fn order(&self, order: Order) {
        let (done, wait) = channel();
        if let Some(orders) = &self.orders
            && orders.send((order, done)).is_ok()
        {
            let _ = wait.recv();
        }
    }

    fn process(&self) -> MutexGuard<'_, ReaderProcess> {
        lock(&self.process)
    }

    /// Where it serves its pages; `None` while it does not.
    pub fn pages(&self) -> Option<SocketAddr> {
        self.process().pages()
    }

    /// Whether it is no more, and nothing will start it.
    pub fn has_ended(&self) -> bool {
        let process = self.process();
        process.has_ended() && !process.is_stopped
    }

    /// Whether it was ended to be started later.
    pub fn is_stopped(&self) -> bool {
        self.process().is_stopped
    }

    /// Whether it lives, and the end of its log.
    pub fn explain(&self) -> String {
        self.process().explain()
    }

    /// Ends it as an operator would, for good.
    pub fn end(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // It panics only where a bug does, and has then said so.
            let _ = thread.join();
        }
    }
}

fn lock(process: &Mutex<ReaderProcess>) -> MutexGuard<'_, ReaderProcess> {
    // It is replaced whole: valid even if a holder panicked.
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does what is ordered until nobody can order any more, and ends the reader then.
fn supervise(
    command: &ReaderCommand,
    process: &Mutex<ReaderProcess>,
    orders: &Receiver<(Order, Sender<()>)>,
) {
    let mut back: Option<Instant> = None;
    loop {
        let order = match back {
            Some(back) => orders.recv_timeout(back.saturating_duration_since(Instant::now())),
            None => orders.recv().map_err(RecvTimeoutError::from),
        };
        back = None;
        let mut process = lock(process);
        match &order {
            Ok((Order::Kill, _)) => process.kill(),
            Ok((Order::Restart, _)) => process.stop(),
            Ok((Order::Stop(length), _)) => {
                process.stop();
                process.is_stopped = true;
                back = Some(Instant::now() + *length);
            }
            Err(RecvTimeoutError::Timeout) => {}
            // Before this thread ends, which would kill it.
            Err(RecvTimeoutError::Disconnected) => return process.stop(),
        }
        if back.is_none() {
            match command.start() {
                Ok(started) => *process = started,
                Err(error) => {
                    process.is_stopped = false;
                    tracing::error!(%error, "the reader was not started again");
                }
            }
        }
        if let Ok((_, done)) = order {
            let _ = done.send(());
        }
    }
}
