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
    /// Manager: connect4 is not attached.
    HookNotAttached,
    /// Reader: agent and project are exchanged.
    LabelSwapped,
    /// Reader: every second record is dropped and not counted.
    RecordSwallowed,
}

impl Fault {
    /// Bits of the programs' `FAULTS`.
    pub(super) const fn programs(self) -> u32 {
        match self {
            Self::VerdictFlipped => fault::VERDICT_FLIPPED,
            Self::PortByteOrder => fault::PORT_BYTE_ORDER,
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
            _ => reader::Fault::None,
        }
    }
}
