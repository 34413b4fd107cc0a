//! `cgroup/setsockopt`: no process borrows a source address.
//!
//! Over IPv6 a socket with `IPV6_FREEBIND` sends from any address, without a capability: in a neighbour's name, or so that
//! what is answered leaves the container. Over IPv4 the kernel refuses to send from one that is not the container's.

use aya_ebpf::{EbpfContext as _, bindings::bpf_sockopt, macros::cgroup_sockopt, programs::SockoptContext};

/// `SOL_IP`, and its option that does the same to an IPv6 socket.
const SOL_IP: i32 = 0;
const IP_FREEBIND: i32 = 15;
/// `SOL_IPV6`.
const SOL_IPV6: i32 = 41;
const IPV6_FREEBIND: i32 = 78;
/// Bytes of an option that the kernel shows to a program: a page, here the smallest. A longer one that is left as it is
/// fails with EFAULT; of length 0, it is the caller's own (`__cgroup_bpf_run_filter_setsockopt`, kernel/bpf/cgroup.c).
const SHOWN: i32 = 4096;

#[cgroup_sockopt(setsockopt)]
pub fn setsockopt(ctx: SockoptContext) -> i32 {
    let option = ctx.as_ptr().cast::<bpf_sockopt>();
    // SAFETY: the context is valid for the program's run.
    unsafe {
        if (*option).optlen > SHOWN {
            (*option).optlen = 0;
        }
        i32::from(!matches!(
            ((*option).level, (*option).optname),
            (SOL_IP, IP_FREEBIND) | (SOL_IPV6, IPV6_FREEBIND)
        ))
    }
}
