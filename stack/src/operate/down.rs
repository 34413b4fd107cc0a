//! `stack down`: ends and removes what is the stack's, and leaves its data.

use std::{fs, path::Path};

use anyhow::Context as _;

use super::{Outcome, docker::Docker, files, ready, settings::Settings};

/// Ends the stack in `folder`; with `remove_data` also removes documents, metrics, what waits to be sent, and logs.
pub fn down(folder: &Path, remove_data: bool) -> anyhow::Result<Outcome> {
    ready::root()?;
    let settings = Settings::needed(folder)?;
    let _lock = files::lock(folder)?;
    let docker = Docker::connect(&settings.name)?;
    let mut names = docker.containers()?;
    // Senders before those that they send to.
    let order = ["coredns", "envoy", "prometheus", "collector", "relay", "opensearch"];
    names.sort_by_key(|name| order.iter().position(|one| name.ends_with(one)));
    for name in names {
        docker.remove(&name)?;
        println!("{name}: removed");
    }
    let mut outcome = Outcome::Good;
    for name in [settings.agents_network(), settings.plane_network()] {
        match docker.remove_network(&name)? {
            None => {}
            Some(inside) if inside.is_empty() => println!("network {name}: removed"),
            Some(inside) => {
                println!("network {name}: left, for it has {} in it", inside.join(", "));
                outcome = Outcome::Bad;
            }
        }
    }
    let data = folder.join("data");
    if remove_data {
        fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        println!("{}: removed", data.display());
    } else {
        println!("{}: left; --remove-data removes it", data.display());
    }
    Ok(outcome)
}
