//! What ends the gate where it is a container's first process: the kernel keeps from such a one every signal that it has
//! no handler for, so that a container that waits could only be killed.

use libc::{SIG_IGN, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, c_int, sighandler_t};

/// What container runtimes send to stop a container, whatever its image asks for.
const STOPS: [c_int; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM];

/// Lets signals that stop others stop this process as well. The agent has none of it: handlers end with `exec`.
pub fn heed() {
    if std::process::id() != 1 {
        return;
    }
    for number in STOPS {
        let handler: extern "C" fn(c_int) = end;
        // SAFETY: the handler calls nothing but `_exit`, which may be called in one.
        let before = unsafe { libc::signal(number, handler as sighandler_t) };
        if before == SIG_IGN {
            // It is to be so for the agent too.
            // SAFETY: it installs no handler.
            unsafe { libc::signal(number, SIG_IGN) };
        }
    }
}

extern "C" fn end(number: c_int) {
    // SAFETY: may be called at any time; 128 and the signal is what shells say of such an end.
    unsafe { libc::_exit(128_i32.saturating_add(number)) }
}
