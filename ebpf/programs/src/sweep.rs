//! Ends flows on the sweeper's word. Never attached: the manager runs it (`BPF_PROG_TEST_RUN`, which
//! raw tracepoint programs have from 5.10 on), because only a program can write to the ring.

use abi::{CloseReason, FlowKey, flow_flag};
use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{flow, maps::FLOWS};

/// Arguments: cookie; remote address, two words in memory order; generation, port and protocol
/// packed; `last_ns` as the sweeper saw it; end time; close reason.
///
/// Acts only if the flow is still as the sweeper saw it: a datagram in between keeps it open.
#[raw_tracepoint]
pub fn sweep(ctx: RawTracePointContext) -> i32 {
    let (head, tail): (u64, u64) = (ctx.arg(1), ctx.arg(2));
    let packed: u64 = ctx.arg(3);
    // SAFETY: both are 16 bytes without padding.
    let remote = unsafe { core::mem::transmute::<[u64; 2], abi::Address>([head, tail]) };
    let key = FlowKey {
        cookie: ctx.arg(0),
        remote,
        generation: packed as u32,
        port: (packed >> 32) as u16,
        l4_proto: (packed >> 48) as u8,
        pad: 0,
    };
    let (seen_ns, end_ns, reason): (u64, u64, u64) = (ctx.arg(4), ctx.arg(5), ctx.arg(6));
    let reason = match reason {
        5 => CloseReason::Aborted,
        6 => CloseReason::Idle,
        7 => CloseReason::BypassEnded,
        _ => CloseReason::Closed,
    };
    let Some(found) = FLOWS.get_ptr(key) else { return 0 };
    // SAFETY: a live map value.
    let (last_ns, flags) = unsafe { ((*found).last_ns, (*found).flags) };
    if flags & flow_flag::ENDED != 0 || last_ns == seen_ns {
        flow::end(&key, reason, end_ns);
    }
    0
}
