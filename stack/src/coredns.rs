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

/// The Corefile: CoreDNS serves at these addresses, on this port, and watches the file itself.
///
/// A container's names that a rule knows have a server block of their own, so that the log says which block took the
/// question. What else is asked goes to the resolver as well, which alone knows whether a bypass is on; if not, it answers
/// NXDOMAIN by its own authority, which the flags of the answer say. Nothing is cached: each answer is to be stamped.
#[must_use]
pub fn corefile(addresses: &[IpAddr], port: u16, views: &[View<'_>]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let head = format!(".:{port} {{\n    bind {}\n", addresses.join(" "));
    let mut text = String::new();
    // Whoever has no address here is nobody.
    for view in views.iter().filter(|view| !view.container.addresses.is_empty()) {
        let asks = asks(view.container);
        if let Some(names) = names(&view.container.rules) {
            block(&mut text, &head, view, "ruled", &format!("({asks}) && ({names})"));
        }
        block(&mut text, &head, view, "unruled", &asks);
    }
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "{head}    reload {RELOAD}\n    log . \"{}\"\n{NOBODY}}}\n",
        format_of("", "", "", "nobody")
    );
    text
}

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

fn block(text: &mut String, head: &str, view: &View<'_>, block: &str, expression: &str) {
    let Container { container_id, agent, project, .. } = view.container;
    let format = format_of(agent, project, container_id, block);
    let resolver = view.resolver;
    let name = STANDARD.encode(container_id).replace(['+', '/', '='], "-");
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "{head}    view {block}-{name} {{\n        expr {expression}\n    }}\n    \
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

/// Whether a question comes from the container.
fn asks(container: &Container) -> String {
    let sources: Vec<String> = container
        .addresses
        .iter()
        .map(|address| format!("client_ip() == '{}'", address.to_canonical()))
        .collect();
    sources.join(" || ")
}

/// Whether a question's name is one that a rule knows, as the resolver takes it: of a wildcard, what is below it.
fn names(rules: &[Rule]) -> Option<String> {
    let (mut exact, mut below) = (BTreeSet::new(), BTreeSet::new());
    for rule in rules {
        match rule.dst() {
            Destination::Domain(name) => exact.insert(format!("'{name}.'")),
            Destination::Below(name) => below.insert(format!("name() endsWith '.{name}.'")),
            Destination::Prefix(_) => continue,
        };
    }
    let exact = (!exact.is_empty()).then(|| {
        let exact: Vec<String> = exact.into_iter().collect();
        format!("name() in [{}]", exact.join(", "))
    });
    let all: Vec<String> = exact.into_iter().chain(below).collect();
    (!all.is_empty()).then(|| all.join(" || "))
}
