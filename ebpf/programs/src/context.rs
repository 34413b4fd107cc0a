//! Reading hook contexts: identity, socket storage, addresses.

use core::ffi::c_void;

use abi::{Address, FlowKey, ICMP, ICMPV6, Identity, Sock, fault, sock_flag, v4_mapped};
use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_sock_addr},
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        generated::{bpf_get_socket_cookie, bpf_sk_storage_get},
    },
    programs::SockAddrContext,
};

use crate::maps::{IDENTITY, SOCKS};

/// Which form the destination has in the context.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `user_ip4`.
    V4,
    /// `user_ip6`; a v4-mapped destination is the IPv4 case.
    V6,
}

/// The enrolment this hook runs for; all zero if there is none.
#[inline(always)]
pub fn identity() -> Identity {
    // SAFETY: bpf_get_local_storage never returns null and the value lives as long as the program runs.
    unsafe { *IDENTITY.get_ptr_mut() }
}

/// Pointer to the storage map, as the helper wants it.
#[inline(always)]
fn socks() -> *mut c_void {
    (&raw const SOCKS).cast_mut().cast()
}

/// The socket's storage, if it has one.
#[inline(always)]
pub fn sock(sk: *mut bpf_sock) -> Option<*mut Sock> {
    // SAFETY: `sk` comes from a context and was checked against null where it can be null.
    let found = unsafe { bpf_sk_storage_get(socks(), sk.cast(), core::ptr::null_mut(), 0) }.cast::<Sock>();
    (!found.is_null()).then_some(found)
}

/// The socket's storage, owned by `identity`. A socket that is older than the enrolment has none, or one in
/// which nothing holds any more. `None` only if the kernel has no memory.
#[inline(always)]
pub fn sock_or_new(sk: *mut bpf_sock, identity: Identity) -> Option<*mut Sock> {
    // SAFETY: as in `sock`; with no initial value the kernel zeroes it.
    let found = unsafe {
        bpf_sk_storage_get(socks(), sk.cast(), core::ptr::null_mut(), BPF_SK_STORAGE_GET_F_CREATE.into())
    }
    .cast::<Sock>();
    if found.is_null() {
        return None;
    }
    if !owned(found, identity) {
        // SAFETY: non-null, and socket storage lives as long as the socket, which this hook holds.
        unsafe {
            (*found).owner = identity;
            // Its open flows are not those that it asks for from here on; the last one still has its end to come.
            (*found).generation = (*found).generation.wrapping_add(1);
            (*found).bypass_epoch = 0;
            (*found).actual_port = 0;
            (*found).denied_port = 0;
            (*found).flags &= !sock_flag::REDIRECTED;
        }
    }
    Some(found)
}

/// Whether what the socket holds is of this enrolment.
#[inline(always)]
pub fn owned(sock: *const Sock, identity: Identity) -> bool {
    // SAFETY: non-null socket storage.
    unsafe {
        (*sock).owner.cgroup_id == identity.cgroup_id && (*sock).owner.enrolled_ns == identity.enrolled_ns
    }
}

/// Notes the calling process in the socket: `sock_ops` and `cgroup_skb` cannot ask for it on 5.10.
#[inline(always)]
pub fn note_caller(sock: *mut Sock) {
    // SAFETY: `sock` is non-null socket storage.
    unsafe {
        (*sock).pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        (*sock).uid = bpf_get_current_uid_gid() as u32;
        if let Ok(comm) = bpf_get_current_comm() {
            (*sock).comm = comm;
        }
    }
}

/// Destination address of a `sock_addr` context.
#[inline(always)]
pub fn user_address(ctx: *const bpf_sock_addr, family: Family) -> Address {
    // SAFETY: the context is valid for the program's run; each field is read as the whole word the
    // verifier demands.
    unsafe {
        match family {
            Family::V4 => v4_mapped((*ctx).user_ip4.to_ne_bytes()),
            Family::V6 => {
                let words = [
                    core::ptr::read_volatile(&raw const (*ctx).user_ip6[0]),
                    core::ptr::read_volatile(&raw const (*ctx).user_ip6[1]),
                    core::ptr::read_volatile(&raw const (*ctx).user_ip6[2]),
                    core::ptr::read_volatile(&raw const (*ctx).user_ip6[3]),
                ];
                if crate::fault(fault::V6_BYTE_ORDER) {
                    address(words.map(u32::swap_bytes))
                } else {
                    address(words)
                }
            }
        }
    }
}

/// Four words in network order as an address.
#[inline(always)]
pub fn address(words: [u32; 4]) -> Address {
    // SAFETY: both are 16 bytes without padding.
    unsafe { core::mem::transmute::<[u32; 4], Address>(words) }
}

/// The key of the flow that a call asks for: by this socket, to the destination in its context.
#[inline(always)]
pub fn flow_key(ctx: &SockAddrContext, sock: *const Sock, family: Family, l4_proto: u8) -> FlowKey {
    FlowKey {
        cookie: cookie(ctx.as_ptr()),
        remote: user_address(ctx.sock_addr, family),
        // SAFETY: non-null socket storage.
        generation: unsafe { (*sock).generation },
        // What a ping socket is given for a port means nothing.
        port: if matches!(l4_proto, ICMP | ICMPV6) { 0 } else { user_port(ctx.sock_addr) },
        l4_proto,
        pad: 0,
    }
}

/// The cookie of the socket that `ctx`, a hook's context, is about.
#[inline(always)]
pub fn cookie(ctx: *mut c_void) -> u64 {
    // SAFETY: the helper takes the context of every program type here.
    let cookie = unsafe { bpf_get_socket_cookie(ctx) };
    if crate::fault(fault::COOKIE_CONFUSED) { 1 } else { cookie }
}

/// Destination port of a `sock_addr` context, host order.
#[inline(always)]
pub fn user_port(ctx: *const bpf_sock_addr) -> u16 {
    // SAFETY: as in `user_address`.
    u16::from_be(unsafe { (*ctx).user_port } as u16)
}

/// Sends the call to where the socket's flow was redirected.
#[inline(always)]
pub fn redirect(ctx: *mut bpf_sock_addr, family: Family, sock: *const Sock) {
    // SAFETY: non-null socket storage.
    let (addr, port) = unsafe { ((*sock).actual, (*sock).actual_port) };
    rewrite(ctx, family, &addr, port);
}

/// Sends the call somewhere else, of the same family: a v4 hook cannot name a v6 address, and a native v6
/// datagram cannot go to a mapped one.
#[inline(always)]
pub fn rewrite(ctx: *mut bpf_sock_addr, family: Family, addr: &Address, port: u16) {
    // SAFETY: as in `user_address`; these fields are writable in connect, sendmsg and recvmsg hooks.
    unsafe {
        let words = core::mem::transmute::<Address, [u32; 4]>(*addr);
        match family {
            Family::V4 => (*ctx).user_ip4 = words[3],
            Family::V6 => {
                core::ptr::write_volatile(&raw mut (*ctx).user_ip6[0], words[0]);
                core::ptr::write_volatile(&raw mut (*ctx).user_ip6[1], words[1]);
                core::ptr::write_volatile(&raw mut (*ctx).user_ip6[2], words[2]);
                core::ptr::write_volatile(&raw mut (*ctx).user_ip6[3], words[3]);
            }
        }
        (*ctx).user_port = u32::from(port.to_be());
    }
}

/// Shows the container what it asked for in place of where the socket was redirected to, in a hook that
/// reports a peer. Always 1: newer kernels refuse a program there that returns anything else.
#[inline(always)]
pub fn show_intended(ctx: &SockAddrContext, family: Family) -> i32 {
    // SAFETY: the context is valid for the program's run.
    let sk = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if let Some(sock) = sock(sk) {
        let mut addr = user_address(ctx.sock_addr, family);
        let mut port = user_port(ctx.sock_addr);
        if restore(sock, &mut addr, &mut port) {
            rewrite(ctx.sock_addr, family, &addr, port);
        }
    }
    1
}

/// Puts what the container asked for in place of where this socket was last redirected to, if that is
/// what `addr` and `port` are.
#[inline(always)]
pub fn restore(sock: *const Sock, addr: &mut Address, port: &mut u16) -> bool {
    // SAFETY: non-null socket storage.
    unsafe {
        if (*sock).flags & sock_flag::REDIRECTED == 0
            || (*sock).actual_port != *port
            || (*sock).actual != *addr
        {
            return false;
        }
        *addr = (*sock).intended;
        *port = (*sock).intended_port;
    }
    true
}
