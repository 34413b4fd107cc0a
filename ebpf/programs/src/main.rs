//! The eBPF programs. Each hook reads its context, asks [`policy`], writes state and emits.
//!
//! Written for Linux 5.10: no fetching atomics, no timers, no process identity in `sock_ops` and
//! `cgroup_skb`. Identity is the attach point's (cgroup storage), never the caller's. This crate
//! has no shape of its own that user space sees: those are in `abi`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod admit;
mod atomic;
mod connect;
mod context;
mod egress;
mod emit;
mod facts;
mod flow;
mod fold;
mod getpeername;
mod inbound;
mod ingress;
mod kernel;
mod ledger;
mod maps;
mod packet;
mod recvmsg;
mod sendmsg;
mod setsockopt;
mod sock_create;
mod sock_ops;
mod sock_release;
mod sweep;

/// Bits of `abi::fault`; patched at load. A constant of the object, so the verifier removes what is off.
#[unsafe(no_mangle)]
static FAULTS: u32 = 0;

/// Whether a named fault is switched on.
#[inline(always)]
fn fault(bit: u32) -> bool {
    // SAFETY: a plain read of this object's read-only data; volatile, because the loader patches it.
    unsafe { core::ptr::read_volatile(&raw const FAULTS) & bit != 0 }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
