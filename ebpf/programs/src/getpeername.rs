//! `cgroup/getpeername4` and `getpeername6`: who asks where a redirected connection goes is told what it
//! asked for.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::context::{self, Family};

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    context::show_intended(&ctx, Family::V4)
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    context::show_intended(&ctx, Family::V6)
}
