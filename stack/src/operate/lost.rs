//! `stack lost`: what emitters lost in their own memory.

use std::{path::Path, time::Duration};

use serde_json::{Map, json};
use stack::{
    lost::{Emitter, Lost},
    store::Asked,
};

use super::{Outcome, say, store};

/// What the table's words mean.
const WORDS: &str = "\
told: flows that it told of, of some request on it or of all. LOST: that it took and told nothing of: lost in its memory, or over
before anything was asked.
silent: on which the container said nothing. not taken: refused or unanswered. too young: ended a moment ago, not judged.
documents: whose flow is there. UNTOLD: questions over UDP beyond these, of flows that are told of. NO FLOW: whose flow is over, and nowhere. flow open: whose flow may not be over.";

/// Compares what the kernel handed to the proxy and the resolver with what they told.
pub fn lost(folder: &Path, url: Option<&str>, since: Duration, json: bool) -> anyhow::Result<Outcome> {
    let store = store::at(folder, url)?;
    let asked = Asked { since, ..Asked::default() };
    let found: Vec<(Emitter, Lost)> = Emitter::ALL
        .into_iter()
        .map(|emitter| Ok((emitter, store.lost(emitter, &asked)?)))
        .collect::<anyhow::Result<_>>()?;
    let text = if json {
        let rows = found.iter().map(|(emitter, lost)| (emitter.lane().stream(), json!(lost.rows())));
        serde_json::to_string_pretty(&rows.collect::<Map<_, _>>())?
    } else {
        let tables = found.iter().map(|(emitter, lost)| {
            let stream = emitter.lane().stream();
            if lost.rows().is_empty() {
                format!("{stream}\n  nothing was handed to it\n")
            } else {
                format!("{stream}\n{lost}\n\n")
            }
        });
        tables.collect::<String>() + WORDS
    };
    say(&(text + "\n"))?;
    let closed = found.iter().all(|(_, lost)| lost.is_closed());
    Ok(if closed { Outcome::Good } else { Outcome::Bad })
}
