//! `cgroup/recvmsg4` and `recvmsg6`: an answer from where a datagram was redirected to is shown as
//! coming from where it was aimed at.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::context::{self, Family};

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    recvmsg(&ctx, Family::V4)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    recvmsg(&ctx, Family::V6)
}

/// Always 1: newer kernels refuse a program here that returns anything else.
#[inline(always)]
fn recvmsg(ctx: &SockAddrContext, family: Family) -> i32 {
    // SAFETY: the context is valid for the program's run.
    let sk = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if let Some(sock) = context::sock(sk) {
        let mut addr = context::user_address(ctx.sock_addr, family);
        let mut port = context::user_port(ctx.sock_addr);
        if context::restore(sock, &mut addr, &mut port) {
            context::rewrite(ctx.sock_addr, family, &addr, port);
        }
    }
    1
}
