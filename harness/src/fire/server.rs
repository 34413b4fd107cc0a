//! A server of a case in a container of its own, which may be killed, and away for a while.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::FireError;
use crate::{
    docker::{Container, DockerError},
    interrupt,
};

/// What runs, or will again.
pub(super) struct Server {
    container: Arc<Mutex<Container>>,
    /// Starts what was stopped.
    returning: Mutex<Option<JoinHandle<Result<(), DockerError>>>>,
}

impl Server {
    pub fn new(container: Container) -> Self {
        Self { container: Arc::new(Mutex::new(container)), returning: Mutex::default() }
    }

    /// All that it said.
    pub fn log(&self) -> Result<String, FireError> {
        self.container().log().map_err(|error| FireError::Log(error.to_string()))
    }

    /// Its container, which nobody else starts or stops meanwhile.
    pub fn container(&self) -> MutexGuard<'_, Container> {
        lock(&self.container)
    }

    /// Kills it, and has it started again after `length`, while the caller goes on.
    pub fn leave(&self, length: Duration) -> Result<(), FireError> {
        self.is_back()?;
        self.container().kill()?;
        let container = Arc::clone(&self.container);
        let body = move || {
            interrupt::sleep(length);
            lock(&container).start()
        };
        let thread = thread::Builder::new().name("outage".to_owned()).spawn(body);
        let thread = thread.map_err(|error| self.container().failed(&error.to_string()))?;
        *lock(&self.returning) = Some(thread);
        Ok(())
    }

    /// Waits until what was stopped has been started again.
    pub fn is_back(&self) -> Result<(), FireError> {
        let returning = lock(&self.returning).take();
        let panicked = |_| Err(self.container().failed("the thread that starts it panicked"));
        Ok(returning.map_or(Ok(()), |thread| thread.join().unwrap_or_else(panicked))?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Else it would be started after its world is gone.
        let _ = self.is_back();
    }
}

fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    // Guards and numbers: valid even if a holder panicked.
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}
