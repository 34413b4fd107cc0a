//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends the process at once.
//!
//! Signals are the process's, so what is known of them is too. Whoever waits for long waits for
//! [`descriptor`] as well; what was interrupted leaves its guards to clean up.

use std::{
    io::{self, PipeReader, Write as _},
    os::fd::{AsFd as _, BorrowedFd},
    sync::{
        OnceLock,
        atomic::{AtomicI32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};
use tokio::signal::unix::{SignalKind, signal};

/// The first signal; 0: none came.
static FIRST: AtomicI32 = AtomicI32::new(0);
/// Readable once a signal has come. Nobody reads from it.
static CAME: OnceLock<PipeReader> = OnceLock::new();

/// Takes SIGINT and SIGTERM over, once and for the whole process. `told` is called in a thread of its own
/// when the first comes.
///
/// # Errors
/// If no thread, pipe or handler is to be had.
pub fn listen(told: impl FnOnce(Signal) + Send + 'static) -> io::Result<()> {
    let (came, mut tell) = io::pipe()?;
    let (ready, is_ready) = mpsc::channel::<io::Result<()>>();
    let body = move || {
        let started = (|| -> io::Result<_> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let _context = runtime.enter();
            let signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            Ok((runtime, signals))
        })();
        let (runtime, (mut interrupts, mut terminations)) = match started {
            Ok(started) => started,
            Err(error) => return drop(ready.send(Err(error))),
        };
        drop(ready.send(Ok(())));
        runtime.block_on(async {
            let mut told = Some(told);
            loop {
                let signal = tokio::select! {
                    _ = interrupts.recv() => Signal::SIGINT,
                    _ = terminations.recv() => Signal::SIGTERM,
                };
                let Some(told) = told.take() else {
                    // SAFETY: no pointers. Not `exit`, which waits for locks that others may hold.
                    unsafe { libc::_exit(exit_code(signal).into()) }
                };
                FIRST.store(signal as i32, Ordering::SeqCst);
                // Fails only if nobody waits.
                let _ = tell.write_all(&[1]);
                told(signal);
            }
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(body)?;
    is_ready.recv().map_err(io::Error::other)??;
    let _ = CAME.set(came);
    Ok(())
}

/// The signal that asked for an end, if one came.
#[must_use]
pub fn requested() -> Option<Signal> {
    Signal::try_from(FIRST.load(Ordering::SeqCst)).ok()
}

/// Readable from the first signal on; `None`: this process does not [`listen`].
pub(crate) fn descriptor() -> Option<BorrowedFd<'static>> {
    CAME.get().map(|came| came.as_fd())
}

/// Sleeps this long, or until a signal comes.
pub(crate) fn sleep(duration: Duration) {
    let Some(came) = descriptor() else { return thread::sleep(duration) };
    let deadline = Instant::now() + duration;
    while requested().is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        // Rounded up: a wait that is cut short to 0 ms would spin.
        let wait = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        // Interrupted or not, the loop looks again.
        let _ = poll(&mut [PollFd::new(came, PollFlags::POLLIN)], wait);
    }
}

/// What a shell calls the end by a signal: 130 for SIGINT, 143 for SIGTERM.
#[must_use]
pub const fn exit_code(signal: Signal) -> u8 {
    128 + signal as u8
}
