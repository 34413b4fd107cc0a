//! A record for tests, with a value of its own in every field.

use abi::{CloseReason, Direction, Flow, Hook, Reason, Record, Verdict, v4_mapped};

/// A redirected, closed TCP flow of cgroup 4242.
pub(crate) fn record() -> Record {
    Record {
        end_ns: 9_750_000_000,
        event_count: 1,
        flow: Flow {
            start_ns: 8_500_000_000,
            last_ns: 8_500_000_001,
            cgroup_id: 4242,
            cookie: 77,
            bytes_in: 1001,
            bytes_out: 1002,
            packets_in: 1003,
            packets_out: 1004,
            bypass_epoch: 0,
            dst: v4_mapped([198, 51, 100, 7]),
            actual_dst: v4_mapped([192, 0, 2, 1]),
            src: v4_mapped([203, 0, 113, 9]),
            comm: *b"curl\0leftover\0\0\0",
            pid: 31337,
            uid: 1000,
            domain: 5,
            generation: 1,
            dst_port: 443,
            actual_dst_port: 10000,
            src_port: 40001,
            socket_family: 2,
            l4_proto: abi::TCP,
            verdict: Verdict::Allowed as u8,
            reason: Reason::DomainRule as u8,
            hook: Hook::Connect as u8,
            close_reason: CloseReason::Closed as u8,
            direction: Direction::Outbound as u8,
            flags: 0,
            socket_type: 1,
        },
    }
}
