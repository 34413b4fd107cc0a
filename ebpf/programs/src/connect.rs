//! `cgroup/connect4` and `connect6`: TCP connections, TCP Fast Open, connected UDP.

use abi::{CloseReason, Hook, TCP, sock_flag};
use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{
    admit::{Admission, Asked, Attempt, admit},
    context::{self, Family},
    facts, flow,
};

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    connect(&ctx, Family::V4)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    connect(&ctx, Family::V6)
}

#[inline(always)]
fn connect(ctx: &SockAddrContext, family: Family) -> i32 {
    let identity = context::identity();
    let cgroup_id = identity.cgroup_id;
    // SAFETY: the context is valid for the program's run.
    let (sk, protocol) = unsafe { ((*ctx.sock_addr).__bindgen_anon_1.sk, (*ctx.sock_addr).protocol) };
    let Some(sock) = context::sock_or_new(sk, identity) else { return 0 };
    context::note_caller(sock);

    // A new connect is a new generation: whatever this socket was connected to before is over.
    // SAFETY: non-null socket storage.
    let previous = unsafe { (*sock).key };
    // SAFETY: as above.
    unsafe {
        (*sock).generation = (*sock).generation.wrapping_add(1);
        (*sock).flags &= sock_flag::RELEASED;
        (*sock).bypass_epoch = 0;
        // Until it is decided, no packet of this socket goes anywhere.
        (*sock).actual_port = 0;
        (*sock).denied_port = 0;
    }
    let now = facts::now();
    if previous.cookie != 0 && previous.l4_proto == protocol as u8 {
        if protocol == u32::from(TCP) {
            // It never got to its close: a socket that is connected does not come here.
            flow::end(&previous, CloseReason::Aborted, now);
        } else {
            flow::leave(&previous, CloseReason::Closed, now);
        }
    }

    let key = context::flow_key(ctx, sock, family, protocol as u8);
    let attempt = Attempt { cgroup_id, now, hook: Hook::Connect, asked: Asked::Call };
    let admission = admit(&key, sock, &attempt);
    if admission == Admission::Redirect as u64 {
        context::redirect(ctx.sock_addr, family, sock);
    }
    i32::from(admission != Admission::Deny as u64)
}
