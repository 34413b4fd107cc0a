//! `cgroup/sock_release`: the last descriptor of a socket is gone.

use abi::{CloseReason, sock_flag};
use aya_ebpf::{macros::cgroup_sock, programs::SockContext};

use crate::{context, facts, flow, maps::TOMBSTONES, packet::is_tcp, sock_ops::state};

/// A TCP socket whose handshake began and that is not closed yet has its close to come, in `sock_ops`. A
/// deferred Fast Open is `SYN_SENT` before its handshake begins, and its close is announced to nobody.
#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    // SAFETY: the context is valid for the program's run.
    let (tcp, at) = unsafe { (is_tcp(ctx.sock), (*ctx.sock).state) };
    let Some(sock) = context::sock(ctx.sock) else { return 1 };
    // SAFETY: non-null socket storage.
    let (key, opened, flags) = unsafe {
        (*sock).flags |= sock_flag::RELEASED;
        ((*sock).key, (*sock).opened, (*sock).flags)
    };
    let started = flags & sock_flag::STARTED != 0;
    if key.cookie == 0 {
        return 1;
    }
    let now = facts::now();
    if tcp {
        // What the gate opened under bypass for a connection that is older than the enrolment has its last
        // packets to come, and ends by idling.
        if flags & sock_flag::PRE_ENROLMENT == 0 && (at == state::CLOSE || !started) {
            flow::end(&key, CloseReason::Aborted, now);
        }
    } else {
        flow::end(&key, CloseReason::Closed, now);
        if opened > 1 {
            // Failing only delays the other flows' end to their idle time.
            let _ = TOMBSTONES.insert(key.cookie, now, 0);
        }
    }
    1
}
