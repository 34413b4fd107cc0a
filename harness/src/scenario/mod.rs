//! Scenario files: found, expanded, checked and turned into [`Cell`]s, without running anything.
//!
//! A cell that leaves here is known to make sense: its hosts exist, its addresses are the ones a
//! world may use, its attribute names are those of real documents. What is wrong with a file is
//! said as [`Diagnostic`]s that point into it. This module must not know how a world is built, how
//! documents are stored, or what the kernel decides.

pub mod address;
mod cell;
mod diagnostic;
mod discover;
pub mod fields;
mod lint;
mod load;
mod matrix;
pub mod needs;
mod outcome;
mod outline;
mod parse;
pub mod schema;
mod select;
mod source;
pub mod types;
mod validate;

pub use cell::Cell;
pub use diagnostic::{Diagnostic, nearest};
pub use discover::{DiscoverError, discover};
pub use lint::{LintReport, Listing, lint, list};
pub use load::{MAX_FILE_BYTES, load};
pub use matrix::MAX_CELLS;
pub use outcome::{StepOutcome, UnknownOutcome};
pub use select::{NothingPicked, Selection};
