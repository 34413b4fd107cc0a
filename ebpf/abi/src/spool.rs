//! The reader's spool on disk: what the reader writes, and the manager's audit reads.

pub mod counts;
pub mod format;
mod identity;
pub mod table;

pub use counts::{Intake, Outcome, Tally};
pub use format::{Content, Loss, Ring};
pub use identity::{Identity, NotOurs};

/// Its folder, below the state directory.
pub const FOLDER: &str = "spool";
/// The table of what came in, in that folder.
pub const INTAKE: &str = "intake";
/// The table of what became of it.
pub const OUTCOME: &str = "outcome";
/// Where the own row of [`OUTCOME`] says how far the consumer is.
pub const CURSOR: usize = 5;
