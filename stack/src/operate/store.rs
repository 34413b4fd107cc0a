//! The store of a stack, and `stack keep`.

use std::path::Path;

use stack::store::Store;

use super::{Outcome, configure, say, settings::Settings};

/// That of these settings.
pub fn of(settings: &Settings) -> anyhow::Result<Store> {
    Ok(Store::new(&configure::store_url(settings), None, None)?)
}

/// That at `url`, or of the stack in `folder`.
pub fn at(folder: &Path, url: Option<&str>) -> anyhow::Result<Store> {
    match url {
        Some(url) => Ok(Store::new(url, None, None)?),
        None => of(&Settings::needed(folder)?),
    }
}

/// Does what the retention policy would, where the store has nothing that carries one out. Where it has, a policy that
/// somebody changed may keep documents for longer than these settings say.
pub fn keep(folder: &Path) -> anyhow::Result<Outcome> {
    let settings = Settings::needed(folder)?;
    let store = of(&settings)?;
    if store.keeps_itself()? {
        say("the store's own policy is in force, and removes what is old: nothing was done\n")?;
        return Ok(Outcome::Good);
    }
    let report = store.keep(&settings.retention())?;
    if report.lines.is_empty() {
        say("nothing is old enough\n")?;
    } else {
        say(&format!("{report}\n"))?;
    }
    Ok(Outcome::Good)
}
