//! Named faults, switched on in the very object and reader that ship, to show that a case catches them.

use abi::fault;
use manager::Program;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, strum::Display, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Fault {
    /// Programs: what is allowed is denied, and the reverse.
    VerdictFlipped,
    /// Programs: ports are recorded in the wrong byte order.
    PortByteOrder,
    /// Programs: the words of IPv6 addresses are read with their bytes reversed.
    V6ByteOrder,
    /// Programs: every socket has the same cookie.
    CookieConfused,
    /// Programs: ICMP passes without a record.
    IcmpUnrecorded,
    /// Programs: what was redirected is recorded as meant for where it went.
    IntendedLost,
    /// Manager: connect4 is not attached.
    HookNotAttached,
    /// Reader: agent and project are exchanged.
    LabelSwapped,
    /// Reader: every second record is dropped and not counted.
    RecordSwallowed,
    /// Reader: every document is of the container that was seen first.
    DeadLabel,
    /// Reader: every stage waits for a random while. Nothing is wrong, and no case may fail.
    Delayed,
}

impl Fault {
    /// Bits of the programs' `FAULTS`.
    pub(super) const fn programs(self) -> u32 {
        match self {
            Self::VerdictFlipped => fault::VERDICT_FLIPPED,
            Self::PortByteOrder => fault::PORT_BYTE_ORDER,
            Self::V6ByteOrder => fault::V6_BYTE_ORDER,
            Self::CookieConfused => fault::COOKIE_CONFUSED,
            Self::IcmpUnrecorded => fault::ICMP_UNRECORDED,
            Self::IntendedLost => fault::INTENDED_LOST,
            _ => 0,
        }
    }

    /// Programs that are not attached.
    pub(super) fn leave_out(self) -> Vec<Program> {
        if self == Self::HookNotAttached { vec![Program::Connect4] } else { Vec::new() }
    }

    /// The reader's own.
    pub(super) const fn reader(self) -> reader::Fault {
        match self {
            Self::LabelSwapped => reader::Fault::LabelSwapped,
            Self::RecordSwallowed => reader::Fault::RecordSwallowed,
            Self::DeadLabel => reader::Fault::DeadLabel,
            Self::Delayed => reader::Fault::Delayed,
            _ => reader::Fault::None,
        }
    }
}
