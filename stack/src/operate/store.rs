//! The store of a stack, and `stack keep`.

use std::path::Path;

use stack::store::Store;

use super::{Outcome, configure, settings::Settings};

/// That of these settings.
pub fn of(settings: &Settings) -> anyhow::Result<Store> {
    Ok(Store::new(&configure::store_url(settings), None, None)?)
}

/// Does what the retention policy would, where the store has nothing that carries one out.
pub fn keep(folder: &Path) -> anyhow::Result<Outcome> {
    let settings = Settings::needed(folder)?;
    let report = of(&settings)?.keep(&settings.retention())?;
    if report.lines.is_empty() {
        println!("nothing is old enough");
    } else {
        println!("{report}");
    }
    Ok(Outcome::Good)
}
