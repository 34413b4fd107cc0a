//! CoreDNS's configuration: a view for each container, by its address, which logs with the container's labels and asks the
//! stamping resolver behind it. That one alone knows the rules, and says by an answer's flags what it is.
//!
//! The log plugin escapes nothing, so labels stand in it as base64, and the name that was asked for stands last.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

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
/// refuses whoever asks. At `metrics`, a loopback address, it tells what it serves, for [`is_served`].
///
/// Nothing is cached: each answer is to be stamped.
#[must_use]
pub fn corefile(addresses: &[IpAddr], port: u16, views: &[View<'_>], metrics: SocketAddr) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let head = |port: u16| format!(".:{port} {{\n    bind {}\n", addresses.join(" "));
    let nobody = format!("    log . \"{}\"\n{NOBODY}}}\n", format_of("nobody", "", "", ""));
    let mut text = String::new();
    // Whoever has no address here is nobody.
    for view in views.iter().filter(|view| !view.container.addresses.is_empty()) {
        let head = head(view.port);
        text.extend([head.clone(), of_container(view), head, nobody.clone()]);
    }
    text.extend([head(port), format!("    reload {RELOAD}\n"), nobody]);
    let digest = digest::short(text.as_bytes());
    // Writing to a string does not fail.
    // A zone that nobody asks for, on a loopback where nobody asks: it is among what is served, or it is not.
    let _ = write!(
        text,
        "{REVISION}{digest}.:{port} {{\n    bind {}\n    prometheus {metrics}\n    template ANY ANY {{\n        rcode REFUSED\n    }}\n}}\n",
        metrics.ip()
    );
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

/// Questions of a container that the view behind is asked at once; what is beyond is refused. Above the view's own bound, which
/// answers and counts.
const AT_ONCE: u32 = 256;

/// Longer than the view behind waits for whom it asks: what becomes of a question is that one's to say.
const PATIENCE: &str = "7s";

/// What a container's questions are done to.
fn of_container(view: &View<'_>) -> String {
    let Container { container_id, agent, project, addresses, .. } = view.container;
    let format = format_of("container", agent, project, container_id);
    let name = STANDARD.encode(container_id).replace(['+', '/', '='], "-");
    let sources: Vec<String> =
        addresses.iter().map(|address| format!("'{}'", address.to_canonical())).collect();
    format!(
        "    view {name} {{\n        expr client_ip() in [{}]\n    }}\n    \
         log . \"{format}\"\n    errors {{\n        consolidate 1m \".*\"\n    }}\n    forward . {} {{\n        max_concurrent {AT_ONCE}\n        read_timeout {PATIENCE}\n    }}\n}}\n",
        sources.join(", "),
        view.resolver
    )
}

/// Fixed fields first. An empty label is `=`, so that no field is ever missing.
fn format_of(asker: &str, agent: &str, project: &str, container_id: &str) -> String {
    let [agent, project, container_id] =
        [agent, project, container_id].map(|label| format!("={}", STANDARD.encode(label)));
    format!(
        "{LINE} {asker} {agent} {project} {container_id} {{remote}} {{port}} {{proto}} {{>id}} {{type}} {{class}} \
         {{rcode}} {{>rflags}} {{size}} {{rsize}} {{duration}} {{name}}"
    )
}
