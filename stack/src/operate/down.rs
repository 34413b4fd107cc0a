//! `stack down`: ends and removes what is the stack's, and leaves its data.

use std::{cmp::Reverse, fs, io::ErrorKind, path::Path};

use anyhow::Context as _;

use super::{Outcome, docker::Docker, files, ready, say, service, settings::Settings};

/// Ends the stack in `folder`; with `remove_data` also removes documents, metrics, what waits to be sent, and logs.
pub fn down(folder: &Path, remove_data: bool) -> anyhow::Result<Outcome> {
    ready::root()?;
    let settings = Settings::needed(folder)?;
    let _lock = files::lock(folder)?;
    let docker = Docker::connect(&settings.name)?;
    let mut names = docker.containers()?;
    // Senders before those that they send to, which were started before them.
    let started: Vec<String> =
        service::all(&settings).iter().map(|service| settings.container(service.name)).collect();
    names.sort_by_key(|name| Reverse(started.iter().position(|one| one == name)));
    for name in names {
        docker.remove(&name)?;
        say(&format!("{name}: removed\n"))?;
    }
    let mut outcome = Outcome::Good;
    for name in [settings.agents_network(), settings.plane_network()] {
        match docker.remove_network(&name)? {
            None => {}
            Some(inside) if inside.is_empty() => say(&format!("network {name}: removed\n"))?,
            Some(inside) => {
                say(&format!("network {name}: left, for it has {} in it\n", inside.join(", ")))?;
                outcome = Outcome::Bad;
            }
        }
    }
    let data = folder.join("data");
    if remove_data {
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", data.display()));
            }
            _ => say(&format!("{}: removed\n", data.display()))?,
        }
    } else {
        say(&format!("{}: left; --remove-data removes it\n", data.display()))?;
    }
    Ok(outcome)
}
