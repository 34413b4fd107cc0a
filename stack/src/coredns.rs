//! CoreDNS's configuration: a view for each container, by its address, which logs with the container's labels and asks the
//! stamping resolver behind it.
//!
//! The log plugin escapes nothing, so labels stand in it as base64, and the name that was asked for stands last.

use std::{fmt::Write as _, net::SocketAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rules::{Destination, Rule};

use crate::Container;

/// First word of each of our lines.
pub const LINE: &str = "clawker";

/// Whom a container's view asks: the manager's resolver for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// The container.
    pub container: &'a Container,
    /// Where its resolver answers.
    pub resolver: SocketAddr,
}

/// The Corefile.
///
/// Names that a rule knows have a server block of their own, so that the log says which block took the question. What
/// else is asked goes to the resolver as well, which alone knows whether a bypass is on; if not, it answers NXDOMAIN by
/// its own authority, which the flags of the answer say. Whoever is no container is refused.
#[must_use]
pub fn corefile(views: &[View<'_>]) -> String {
    let mut text = String::new();
    for view in views {
        let zones = zones(&view.container.rules);
        if !zones.is_empty() {
            block(&mut text, &zones.join(" "), view, "ruled");
        }
        block(&mut text, ".", view, "unruled");
    }
    // Nobody's.
    text.push_str(". {\n    log . \"");
    text.push_str(&format_of("", "", "", "nobody"));
    text.push_str("\"\n    template ANY ANY {\n        rcode REFUSED\n    }\n}\n");
    text
}

fn block(text: &mut String, zones: &str, view: &View<'_>, block: &str) {
    let Container { container_id, agent, project, addresses, .. } = view.container;
    let mut sources = Vec::new();
    for address in addresses {
        sources.push(format!("client_ip() == '{}'", address.to_canonical()));
    }
    let (expression, format) = (sources.join(" || "), format_of(agent, project, container_id, block));
    let resolver = view.resolver;
    let name = STANDARD.encode(container_id).replace(['+', '/', '='], "-");
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "{zones} {{\n    view {block}-{name} {{\n        expr {expression}\n    }}\n    \
         log . \"{format}\"\n    errors\n    forward . {resolver}\n}}\n"
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

/// Zones that rules name. Of a wildcard it is the name that others are below, which the resolver answers as it should.
fn zones(rules: &[Rule]) -> Vec<String> {
    let mut zones: Vec<String> = rules
        .iter()
        .filter_map(|rule| match rule.dst() {
            Destination::Domain(name) | Destination::Below(name) => Some(name.clone()),
            Destination::Prefix(_) => None,
        })
        .collect();
    zones.sort();
    zones.dedup();
    zones
}
