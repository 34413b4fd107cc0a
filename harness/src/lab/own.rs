//! Labs that cells have to themselves, a few at a time: each is a set of programs, a reader and an endpoint.

use std::{
    ops::Deref,
    sync::{Condvar, Mutex, PoisonError},
};

use super::Lab;

/// Most at a time.
const MOST: usize = 2;

/// A lab of one cell.
pub(crate) struct OwnLab {
    lab: Lab,
    // After the lab.
    _place: Place,
}

impl OwnLab {
    /// Starts one that is like `shared`, with a ring of `ring` bytes where that is said.
    ///
    /// # Errors
    /// As of [`Lab::start`].
    pub(crate) fn beside(shared: &Lab, ring: Option<u32>, place: Place) -> anyhow::Result<Self> {
        Ok(Self { lab: shared.another(ring)?, _place: place })
    }
}

impl Deref for OwnLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

/// One of [`MOST`], given back on drop.
pub(crate) struct Place;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Place {
    /// Waits until there is one.
    pub(crate) fn take() -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let free = FREED.wait_while(taken, |taken| *taken >= MOST);
        *free.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}
