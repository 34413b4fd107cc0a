//! `cgroup/sendmsg4` and `sendmsg6`: datagrams of UDP and UDP-Lite that carry their own destination.

use abi::Hook;
use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{
    admit::{Admission, Asked, Attempt, admit},
    context::{self, Family},
    facts,
};

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    sendmsg(&ctx, Family::V4)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    sendmsg(&ctx, Family::V6)
}

#[inline(always)]
fn sendmsg(ctx: &SockAddrContext, family: Family) -> i32 {
    let identity = context::identity();
    let cgroup_id = identity.cgroup_id;
    // SAFETY: the context is valid for the program's run.
    let (sk, protocol) = unsafe { ((*ctx.sock_addr).__bindgen_anon_1.sk, (*ctx.sock_addr).protocol) };
    let Some(sock) = context::sock_or_new(sk, identity) else { return 0 };
    context::note_caller(sock);
    let mut key = context::flow_key(ctx, sock, family, protocol as u8);
    // A v6 socket that is connected to an IPv4 address calls this hook on every send, with the
    // destination that connect has already rewritten.
    context::restore(sock, &mut key.remote, &mut key.port);
    let attempt = Attempt { cgroup_id, now: facts::now(), hook: Hook::Sendmsg, asked: Asked::Call };
    let admission = admit(&key, sock, &attempt);
    if admission == Admission::Redirect as u64 {
        context::redirect(ctx.sock_addr, family, sock);
    }
    i32::from(admission != Admission::Deny as u64)
}
