//! The relay as it ships, in the collector's network.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::Context as _;
use stack::Lane;

use super::{Collectors, Plane, answers, prometheus};
use crate::docker::{Container, Docker, Network, Order};

/// Where the collectors reach it; the ports of the one beside it are others.
pub(super) const RECEIVE: u16 = 4340;
/// Where it says how it is.
const PAGES: u16 = 9465;
/// Where it sees its files.
const INSIDE: &str = "/relay";

impl Plane {
    /// Whether it has records that the store has not taken yet.
    ///
    /// # Errors
    /// If it does not say.
    pub(crate) fn waits_in_relay(&self) -> anyhow::Result<bool> {
        let pages = format!("http://{}/metrics", self.relay_pages);
        let page = prometheus::agent().get(pages).call()?.body_mut().read_to_string()?;
        let pending: Vec<&str> =
            page.lines().filter(|line| line.starts_with("clawker_relay_records_pending{")).collect();
        pending.first().context("the relay does not say what waits")?;
        Ok(pending.iter().any(|line| !line.ends_with(" 0")))
    }
}

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
