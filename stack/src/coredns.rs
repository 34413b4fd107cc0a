//! CoreDNS's configuration: a view for each container, by its address, which logs with the container's labels and asks the
//! stamping resolver behind it.
//!
//! The log plugin escapes nothing, so labels stand in it as base64, and the name that was asked for stands last.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rules::{Destination, Rule};

use crate::{Container, digest};

/// First word of each of our lines.
pub const LINE: &str = "clawker";

/// Where a container asks, and whom that asks: the manager's resolver for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// The container.
    pub container: &'a Container,
    /// Port where CoreDNS serves it, and nobody else: what it asks too fast fills a socket of its own.
    pub port: u16,
    /// Where its resolver answers.
    pub resolver: SocketAddr,
}

/// The Corefile: CoreDNS serves at these addresses, each container on its port, and watches the file itself. On `port` it
/// refuses whoever asks. With `metrics` it tells there what it serves, for [`is_served`].
///
/// A container's names that a rule knows have server blocks of their own, so that the log says which block took the
/// question. What else is asked goes to the resolver as well, which alone knows whether a bypass is on; if not, it answers
/// NXDOMAIN by its own authority, which the flags of the answer say. Nothing is cached: each answer is to be stamped.
#[must_use]
pub fn corefile(addresses: &[IpAddr], port: u16, views: &[View<'_>], metrics: Option<SocketAddr>) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let head = |port: u16| format!(".:{port} {{\n    bind {}\n", addresses.join(" "));
    let nobody = format!("    log . \"{}\"\n{NOBODY}}}\n", format_of("", "", "", "nobody"));
    let mut text = String::new();
    // Whoever has no address here is nobody.
    for view in views.iter().filter(|view| !view.container.addresses.is_empty()) {
        let (head, asks) = (head(view.port), asks(view.container));
        for (number, names) in names(&view.container.rules).iter().enumerate() {
            block(&mut text, &head, view, "ruled", number, &format!("{asks} && ({names})"));
        }
        block(&mut text, &head, view, "unruled", 0, &asks);
        text.extend([head, nobody.clone()]);
    }
    text.extend([head(port), format!("    reload {RELOAD}\n"), nobody]);
    if let Some(metrics) = metrics {
        let digest = digest::short(text.as_bytes());
        // Writing to a string does not fail.
        // A zone that nobody asks for, on a loopback where nobody asks: it is among what is served, or it is not.
        let _ = write!(
            text,
            "{REVISION}{digest}.:{port} {{\n    bind {}\n    prometheus {metrics}\n    template ANY ANY {{\n        rcode REFUSED\n    }}\n}}\n",
            metrics.ip()
        );
    }
    text
}

/// Whether CoreDNS serves `corefile`, by what it says on its page of metrics. One that it could not take it says nothing of
/// there, and goes on with the one before.
#[must_use]
pub fn is_served(corefile: &str, page: &str) -> bool {
    let zone = corefile.lines().rev().find_map(|line| {
        let (zone, _) = line.split_once(':')?;
        zone.starts_with(REVISION).then(|| format!("zone=\"{zone}\""))
    });
    let mut enabled = page.lines().filter(|line| line.starts_with("coredns_plugin_enabled{"));
    zone.is_some_and(|zone| enabled.any(|line| line.contains(&zone)))
}

/// What the zone begins with that stands for a Corefile; the digest of what is before it follows.
const REVISION: &str = "revision-";

/// How often the file is looked at, and by how much that varies: the least that there is.
const RELOAD: &str = "2s 1s";

/// Whoever is no container is refused. Over IPv6 anybody may borrow an address, and an answer would carry the question
/// there.
const NOBODY: &str = "    acl {
        drop net ::/0
    }
    template ANY ANY {
        rcode REFUSED
    }
";

/// Questions of a block that the view behind is asked at once; what is beyond is refused. Above the view's own bound, which
/// answers and counts.
const AT_ONCE: u32 = 256;

fn block(text: &mut String, head: &str, view: &View<'_>, block: &str, number: usize, expression: &str) {
    let Container { container_id, agent, project, .. } = view.container;
    let format = format_of(agent, project, container_id, block);
    let resolver = view.resolver;
    let name = STANDARD.encode(container_id).replace(['+', '/', '='], "-");
    let part = if number > 0 { number.to_string() } else { String::new() };
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "{head}    view {block}{part}-{name} {{\n        expr {expression}\n    }}\n    \
         log . \"{format}\"\n    errors\n    forward . {resolver} {{\n        max_concurrent {AT_ONCE}\n    }}\n}}\n"
    );
}

/// Fixed fields first. An empty label is `=`, so that no field is ever missing.
fn format_of(agent: &str, project: &str, container_id: &str, block: &str) -> String {
    let [agent, project, container_id] =
        [agent, project, container_id].map(|label| format!("={}", STANDARD.encode(label)));
    format!(
        "{LINE} {block} {agent} {project} {container_id} {{remote}} {{port}} {{proto}} {{>id}} {{type}} {{class}} \
         {{rcode}} {{>rflags}} {{size}} {{rsize}} {{duration}} {{name}}"
    )
}

/// Whether a question comes from the container.
fn asks(container: &Container) -> String {
    let sources: Vec<String> =
        container.addresses.iter().map(|address| format!("'{}'", address.to_canonical())).collect();
    format!("client_ip() in [{}]", sources.join(", "))
}

/// Names of a block, at most. CoreDNS takes no expression of more than 10,000 nodes; a name is one, ...
const EXACT: usize = 4000;
/// ... and five where it stands for what is below it.
const BELOW: usize = 800;

/// Whether a question's name is one that a rule knows, as the resolver takes it: of a wildcard, what is below it. For each
/// block that it takes.
fn names(rules: &[Rule]) -> Vec<String> {
    let (mut exact, mut below) = (BTreeSet::new(), BTreeSet::new());
    for rule in rules {
        match rule.dst() {
            Destination::Domain(name) => exact.insert(format!("'{name}.'")),
            Destination::Below(name) => below.insert(format!("name() endsWith '.{name}.'")),
            Destination::Prefix(_) => continue,
        };
    }
    let (exact, below): (Vec<String>, Vec<String>) =
        (exact.into_iter().collect(), below.into_iter().collect());
    let (mut exact, mut below) = (exact.chunks(EXACT), below.chunks(BELOW));
    let mut blocks = Vec::new();
    loop {
        let exact = exact.next().map(|names| format!("name() in [{}]", names.join(", ")));
        let below = below.next().map(|names| names.join(" || "));
        let all: Vec<String> = exact.into_iter().chain(below).collect();
        if all.is_empty() {
            return blocks;
        }
        blocks.push(all.join(" || "));
    }
}
