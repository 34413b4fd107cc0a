//! The reader's process; everything it does is in the library.

use clap::Parser;

fn main() -> anyhow::Result<()> {
    reader::run(reader::Options::parse())
}
