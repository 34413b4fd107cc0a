//! What `ebpf-manager run` does for flows and bypasses, as a thread. Resolver views are the worlds': each must be
//! bound in its far namespace.

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use manager::Manager;

/// Shorter than the daemon's, as the cases' idle times are.
const PERIOD: Duration = Duration::from_millis(100);

/// Sweeps until dropped.
pub(super) struct Sweeper {
    stop: Option<Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Sweeper {
    pub fn start(manager: &Manager) -> Self {
        let manager = manager.clone();
        let (stop, stopped) = channel::<()>();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = manager.sweep(None) {
                    tracing::error!(%error, "flows were not swept");
                }
                if let Err(error) = manager.end_bypasses() {
                    tracing::error!(%error, "no bypass was ended");
                }
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panics only where a bug does, and has then said so.
            let _ = thread.join();
        }
    }
}
