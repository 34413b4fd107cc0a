//! `stack export`: the documents of a stream, one a line.

use std::{
    io::{self, BufWriter, Write as _},
    path::Path,
    time::Duration,
};

use super::{Outcome, store, unless_closed};

/// Writes them on standard output as JSON, the oldest first.
pub fn export(
    folder: &Path,
    url: Option<&str>,
    stream: &str,
    since: Option<Duration>,
) -> anyhow::Result<Outcome> {
    let store = store::at(folder, url)?;
    let mut out = BufWriter::new(io::stdout().lock());
    for document in store.export(stream, since)? {
        let written = serde_json::to_writer(&mut out, &document?).map_err(io::Error::from);
        if let Err(error) = written.and_then(|()| out.write_all(b"\n")) {
            unless_closed(Err(error))?;
            return Ok(Outcome::Good);
        }
    }
    unless_closed(out.flush())?;
    Ok(Outcome::Good)
}
