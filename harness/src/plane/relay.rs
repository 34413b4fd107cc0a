//! The relay as it ships, in the collector's network.

use std::{fs, net::SocketAddr, path::Path};

use stack::Lane;

use super::{Collectors, answers};
use crate::docker::{Container, Docker, Network, Order};

/// Where the collectors reach it; the ports of the one beside it are others.
pub(super) const RECEIVE: u16 = 4340;
/// Where it says how it is.
const PAGES: u16 = 9465;
/// Where it sees its files.
const INSIDE: &str = "/relay";

/// Starts it in the collector's network, with its certificates and what it keeps below `files`, and waits until it answers.
/// Returns where it answers.
pub(super) fn start(
    docker: &Docker,
    program: &Path,
    files: &Path,
    collector: &Container,
    collectors: Collectors,
) -> anyhow::Result<(Container, SocketAddr)> {
    let state = files.join("relay");
    fs::create_dir_all(&state)?;
    let mut order = Order::new("the relay", "agent", Network::Of(collector.id().to_owned()))
        .sees(program, "/usr/local/bin/relay")
        .sees(&files.join("certificates"), &format!("{INSIDE}/certificates"))
        .keeps(&state, &format!("{INSIDE}/state"))
        .told(["relay", "--node", "stack", "--receive", &format!("0.0.0.0:{RECEIVE}")])
        .told(["--listen", &format!("0.0.0.0:{PAGES}"), "--state-dir", &format!("{INSIDE}/state")]);
    for (option, file) in [
        ("--tls-ca", "relay-ca.crt"),
        ("--tls-cert", "relay.crt"),
        ("--tls-key", "relay.key"),
        ("--forward-ca", "collector-ca.crt"),
        ("--forward-cert", "kept.crt"),
        ("--forward-key", "kept.key"),
    ] {
        order = order.told([option, &format!("{INSIDE}/certificates/{file}")]);
    }
    for (lane, port) in Lane::ALL.into_iter().filter_map(|lane| Some((lane, lane.kept_port()?))) {
        // By the address that the collector's certificate is for.
        order = order.told(["--lane", &format!("{}=https://{}:{port}", lane.word(), collectors.of(lane))]);
        if lane.is_numbered() {
            order = order.told(["--numbered", lane.word()]);
        }
    }
    let relay = docker.start(order)?;
    let pages = SocketAddr::new(collectors.ours, PAGES);
    answers(&relay, || super::listens(pages))?;
    Ok((relay, pages))
}
