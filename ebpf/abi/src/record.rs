//! What a flow is, and the record that crosses the ring.

use crate::FoldKey;

/// An IPv6 address, or an IPv4 address as `::ffff:a.b.c.d`, in network order.
pub type Address = [u8; 16];

/// Bytes of a process name, NUL-padded (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// The v4-mapped form of an IPv4 address given in network order.
#[inline(always)]
pub const fn v4_mapped(v4: [u8; 4]) -> Address {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

/// What one flow key did. The value of the `flows` map while it is open, and the body of its
/// record when it ends.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// When it was decided.
    pub start_ns: u64,
    /// When its last datagram passed; for TCP, when it was decided.
    pub last_ns: u64,
    /// `bpf_get_socket_cookie`.
    pub cookie: u64,
    /// Payload received by the container.
    pub bytes_in: u64,
    /// Payload sent by the container; for TCP, acknowledged by the peer.
    pub bytes_out: u64,
    /// Datagrams received; for TCP, segments, bare acknowledgements included.
    pub packets_in: u64,
    /// Datagrams sent; for TCP, segments, bare acknowledgements included.
    pub packets_out: u64,
    /// Which period of bypass permitted it; 0 if none did.
    pub bypass_epoch: u64,
    // From here to `direction` these are a [`FoldKey`], so that a denial's flow holds its key.
    /// The enrolled cgroup: the attach point's, never the caller's.
    pub cgroup_id: u64,
    /// What the container tried to reach.
    pub dst: Address,
    /// Host order.
    pub dst_port: u16,
    /// `IPPROTO_*`.
    pub l4_proto: u8,
    /// [`Verdict`](crate::Verdict).
    pub verdict: u8,
    /// [`Reason`](crate::Reason).
    pub reason: u8,
    /// [`Hook`](crate::Hook).
    pub hook: u8,
    /// [`CloseReason`](crate::CloseReason).
    pub close_reason: u8,
    /// [`Direction`](crate::Direction).
    pub direction: u8,
    /// Where it was sent; equal to `dst` unless redirected.
    pub actual_dst: Address,
    /// Its own address; all zero until known.
    pub src: Address,
    /// Name of the calling process: evidence, not identity.
    pub comm: [u8; COMM_LEN],
    /// Thread group of the caller.
    pub pid: u32,
    /// User of the caller.
    pub uid: u32,
    /// Identity of the latest name for `dst`; 0 if none is known.
    pub domain: u32,
    /// The socket's generation, as in the flow key.
    pub generation: u32,
    /// Host order.
    pub actual_dst_port: u16,
    /// Host order; 0 until known.
    pub src_port: u16,
    /// The socket's address family as given to `socket()`, where `sock_create` decided; else 0.
    pub socket_family: u16,
    /// The socket's type as given to `socket()`, where `sock_create` decided; else 0.
    pub socket_type: u8,
    /// Bits of [`flow_flag`].
    pub flags: u8,
}

const _: () = {
    use core::mem::offset_of;
    // A flow holds its `FoldKey`, whole and in order.
    let key = offset_of!(Flow, cgroup_id);
    assert!(offset_of!(Flow, dst) - key == offset_of!(FoldKey, dst));
    assert!(offset_of!(Flow, dst_port) - key == offset_of!(FoldKey, dst_port));
    assert!(offset_of!(Flow, l4_proto) - key == offset_of!(FoldKey, l4_proto));
    assert!(offset_of!(Flow, verdict) - key == offset_of!(FoldKey, verdict));
    assert!(offset_of!(Flow, reason) - key == offset_of!(FoldKey, reason));
    assert!(offset_of!(Flow, hook) - key == offset_of!(FoldKey, hook));
    assert!(offset_of!(Flow, close_reason) - key == offset_of!(FoldKey, close_reason));
    assert!(offset_of!(Flow, direction) - key == offset_of!(FoldKey, direction));
    assert!(offset_of!(Flow, direction) - key + 1 == size_of::<FoldKey>());
};

/// Bits of [`Flow::flags`].
pub mod flow_flag {
    /// More than one live name leads to the destination.
    pub const AMBIGUOUS: u8 = 1;
    /// Ended, and left to the sweeper to emit: the ring was full, or datagrams may be on their way.
    pub const ENDED: u8 = 1 << 1;
    /// Opened by a packet, not by a call: whatever its transport, it ends like datagrams do.
    pub const GATED: u8 = 1 << 2;
    /// Of a record: it stands for attempts that were folded, and `cookie` is the count of their
    /// [`Fold`](crate::Fold) once they are documented.
    pub const FOLDED: u8 = 1 << 3;
}

/// One record, as it lies in `events_ringbuf`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When the flow ended, or was denied.
    pub end_ns: u64,
    /// How many attempts this record stands for; 1 unless folded.
    pub event_count: u64,
    /// The flow.
    pub flow: Flow,
}
