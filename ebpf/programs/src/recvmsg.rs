//! `cgroup/recvmsg4` and `recvmsg6`: an answer from where a datagram was redirected to is shown as
//! coming from where it was aimed at.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::context::{self, Family};

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    context::show_intended(&ctx, Family::V4)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    context::show_intended(&ctx, Family::V6)
}
