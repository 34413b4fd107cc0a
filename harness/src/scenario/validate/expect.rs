//! What must be true afterwards, and whether it can be false at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde_json::Value;
use stack::lost::Emitter;

use super::{Check, hosts, reach};
use crate::{
    scenario::{
        address::{self, Target},
        cell::printable,
        diagnostic::nearest,
        fields::{self, CLAUDE_STREAM, COREDNS_STREAM, EGRESS_STREAM, ENVOY_STREAM, Kind, OVERSEER_STREAM},
        types::{DocumentExpectation, Leak, LostExpectation, WireExpectation},
    },
    wire::PROTOCOLS,
};

/// Characters that a text has, at least, that must be nowhere.
const SHORTEST: usize = 12;

pub(super) fn check(check: &mut Check<'_>) {
    let expect = &check.scenario.expect;
    let of_telemetry = !expect.metrics.is_empty() || expect.absent_everywhere.is_some();
    if expect.documents.is_empty() && expect.wire.is_empty() && !expect.nothing_else && !of_telemetry {
        check.fault(
            "expect",
            "this scenario asserts nothing: no documents, no wire, and `nothing_else` is off",
        );
    }
    for (i, document) in expect.documents.iter().enumerate() {
        self::document(check, &format!("expect.documents[{i}]"), document);
    }
    reach::check(check);
    for (i, wire) in expect.wire.iter().enumerate() {
        self::wire(check, &format!("expect.wire[{i}]"), wire);
    }
    telemetry(check, of_telemetry);
    for (emitter, _) in expect.lost.iter().flat_map(LostExpectation::each) {
        let (name, is_there, adding) = match emitter {
            Emitter::Proxy => ("envoy", check.scenario.has_envoy(), "proxy: {server: envoy}"),
            Emitter::Resolver => ("coredns", check.scenario.has_coredns(), "resolver: {server: coredns}"),
        };
        if !is_there {
            let path = format!("expect.lost.{name}");
            check.fault_of_key(&path, "nothing in this case tells of the flows it is handed").help =
                Some(format!("add `{adding}` to the scenario"));
        }
    }
    if expect.lost.is_some_and(|lost| lost.each().next().is_none()) {
        check.fault_of_key("expect.lost", "this says nothing of what was lost").help =
            Some("add `envoy: 0`, or `coredns: 0`".to_owned());
    }
    if expect.leak == Some(Leak::Known) && !expect.wire.iter().any(WireExpectation::wants_packets) {
        check.fault_of_key("expect.leak", "a known leak is something that arrives; nothing here does").help =
            Some("add `wire: [{to: HOST, at_least: 1}]`".to_owned());
    }
}

/// What is said of series and of texts can be false, and somebody can make it so.
fn telemetry(check: &mut Check<'_>, is_expected: bool) {
    let expect = &check.scenario.expect;
    let place = if expect.metrics.is_empty() { "expect.absent_everywhere" } else { "expect.metrics" };
    for (i, metric) in expect.metrics.iter().enumerate() {
        if metric.exactly.is_some_and(|exactly| exactly != 1) && metric.value.is_some() {
            check.fault_of_key(&format!("expect.metrics[{i}].value"), "only one series has a `value`");
        }
    }
    if expect.absent_everywhere.as_ref().is_some_and(|text| text.chars().count() < SHORTEST) {
        let message = format!("of less than {SHORTEST} characters, it may be anywhere by chance");
        check.fault("expect.absent_everywhere", message);
    }
    if is_expected && !check.scenario.has_envoy() {
        check.fault_of_key(place, "nobody in this case takes telemetry").help =
            Some("add `proxy: {server: envoy}` to the scenario".to_owned());
    }
}

/// Whether there is such a stream, and somebody in the case writes to it.
pub(super) fn stream(check: &mut Check<'_>, path: &str, stream: &str) -> bool {
    if !fields::streams().any(|known| known == stream) {
        let message = format!("unknown stream `{}`", printable(stream));
        check.fault(&format!("{path}.stream"), message).suggest(stream, fields::streams());
        return false;
    }
    // Who writes to it, where that is there if the case says so.
    let (is_written, adding) = match stream {
        EGRESS_STREAM | OVERSEER_STREAM => (true, None),
        ENVOY_STREAM | CLAUDE_STREAM => (check.scenario.has_envoy(), Some("proxy: {server: envoy}")),
        COREDNS_STREAM => (check.scenario.has_coredns(), Some("resolver: {server: coredns}")),
        _ => (false, None),
    };
    if !is_written {
        let message = format!("nothing in this case writes to {stream}");
        check.fault(&format!("{path}.stream"), message).help =
            adding.map(|adding| format!("add `{adding}` to the scenario"));
    }
    is_written
}

/// Each attribute is one of the stream's, and can have its value.
pub(super) fn attributes(check: &mut Check<'_>, path: &str, stream: &str, values: &BTreeMap<String, Value>) {
    for (name, value) in values {
        attribute(check, &format!("{path}.{name}"), stream, name, value);
    }
}

fn document(check: &mut Check<'_>, path: &str, document: &DocumentExpectation) {
    if !stream(check, path, &document.stream) {
        return;
    }
    match (document.exactly, document.at_least) {
        (Some(_), Some(_)) => {
            check.fault_of_key(&format!("{path}.at_least"), "`exactly` and `at_least` exclude each other");
        }
        (None, Some(0)) => {
            check.fault(&format!("{path}.at_least"), "at least 0 documents is always true").help =
                Some("write `exactly: 0` if there must be none".to_owned());
        }
        (Some(0), None) if !document.fields.is_empty() => {
            check
                .fault_of_key(&format!("{path}.match"), "there must be no document, so none can match")
                .help = Some("move these fields to `where`".to_owned());
        }
        _ => {}
    }
    for (part, fields) in [("where", &document.filter), ("match", &document.fields)] {
        attributes(check, &format!("{path}.{part}"), &document.stream, fields);
    }
    if let Some(indices) = document.at_least_indices {
        let path = format!("{path}.at_least_indices");
        if indices < 2 {
            check.fault(&path, "every document lies in one index");
        } else if !check.scenario.rolls_over() {
            check.fault_of_key(&path, "nothing in this case has a stream go on in another index").help =
                Some(format!("add a step `rollover: {}`", document.stream));
        }
    }
    for (name, value) in &document.fields {
        if document.filter.get(name).is_some_and(|filter| filter != value) {
            let message = format!("`where` selects another `{}`, so this can never match", printable(name));
            check.fault(&format!("{path}.match.{name}"), message);
        }
    }
}

/// The attribute exists, and can have this value.
fn attribute(check: &mut Check<'_>, path: &str, stream: &str, name: &str, value: &Value) {
    let known = fields::names(stream).any(|known| known == name);
    let Some(kind) = fields::kind(name).filter(|_| known) else {
        let message = format!("unknown attribute `{}`", printable(name));
        // In the order of the alphabet, to be found in.
        let known: BTreeSet<&str> = fields::names(stream).collect();
        check.fault_of_key(path, message).suggest(name, known);
        return;
    };
    // Reasons are the reader's words; another sender has its own.
    let kind = if stream != EGRESS_STREAM && matches!(kind, Kind::Word(_)) && name != "verdict" {
        Kind::Text
    } else {
        kind
    };
    let text = value.as_str();
    match (kind, text) {
        (Kind::Word(words), Some(word)) if words.contains(&word) => {}
        (Kind::Word(words), _) => {
            let actual = text.map_or_else(|| value.to_string(), str::to_owned);
            check
                .fault(path, format!("`{}` is not a word of `{name}`", printable(&actual)))
                .suggest(&actual, words.iter().copied());
        }
        (Kind::Number, _) if name.ends_with("_port") && value.as_u64().is_some_and(|port| port > 65_535) => {
            check.fault(path, "a port is from 0 to 65535");
        }
        (Kind::Number, _) if value.is_u64() => {}
        (Kind::Number, _) => {
            check.fault(path, format!("`{name}` is a whole number"));
        }
        (Kind::Fraction, _) if value.is_number() => {}
        (Kind::Fraction, _) => {
            check.fault(path, format!("`{name}` is a number"));
        }
        (Kind::Flag, _) if value.is_boolean() => {}
        (Kind::Flag, _) => {
            check.fault(path, format!("`{name}` is true or false"));
        }
        (_, None) => {
            check.fault(path, format!("`{name}` is a text")).help = Some("put it in quotes".to_owned());
        }
        (Kind::Transport, Some(text)) if fields::is_transport(text) => {}
        (Kind::Transport, Some(text)) => {
            let fault = check.fault(path, format!("`{}` is no transport", printable(text)));
            fault.suggest(text, fields::TRANSPORTS);
            fault.help.get_or_insert_with(|| "others go by their number, in quotes: \"47\"".to_owned());
        }
        (Kind::Text, Some(_)) | (Kind::Address | Kind::Host, Some("")) => {}
        (Kind::Address, Some(text)) if text.parse::<IpAddr>().is_ok() => {}
        (Kind::Address, Some(text)) => {
            check.fault(path, format!("`{}` is not an address", printable(text)));
        }
        (Kind::Host, Some(name)) => check.require_host(path, name),
        // CoreDNS tells of whoever was no container, too.
        (Kind::Agent | Kind::Project, Some("")) if stream == COREDNS_STREAM => {}
        (Kind::Agent | Kind::Project, Some(label)) => {
            let labels: Vec<&str> = check
                .scenario
                .each_agent()
                .map(|agent| if kind == Kind::Agent { agent.agent.as_str() } else { agent.project.as_str() })
                .collect();
            if !labels.contains(&label) {
                let help = nearest(label, labels.iter().copied())
                    .map(|l| format!("did you mean `{}`?", printable(l)));
                check
                    .fault(path, format!("no agent here has the {name} label `{}`", printable(label)))
                    .help = help;
            }
        }
    }
}

fn wire(check: &mut Check<'_>, path: &str, wire: &WireExpectation) {
    let to = format!("{path}.to");
    // A host, with or without a port, or an address, with or without one.
    let address = match (wire.to.parse::<IpAddr>(), wire.to.parse::<Target>()) {
        (Ok(address), _) => Ok(address),
        (_, Ok(Target::Address(address))) => Ok(address.ip()),
        (_, Ok(Target::Name(name, _))) => Err(name),
        _ => Err(wire.to.clone()),
    };
    match address {
        Ok(address) => {
            if let Err(refused) = address::permitted_on_wire(address) {
                hosts::refuse(check, &to, refused);
            }
        }
        Err(name) => check.require_host(&to, &name),
    }
    if let Some(proto) = &wire.proto {
        let names = || PROTOCOLS.iter().map(|(name, _)| *name);
        let unnamed = proto.parse::<u8>().is_ok_and(|number| PROTOCOLS.iter().all(|(_, n)| *n != number));
        if !unnamed && !names().any(|name| name == proto) {
            let message = format!("unknown protocol `{}`", printable(proto));
            let fault = check.fault(&format!("{path}.proto"), message);
            fault.suggest(proto, names());
            fault.help.get_or_insert("a number from 0 to 255 that has no name is possible too".to_owned());
        }
    }
    match (wire.packets, wire.at_least, wire.bytes) {
        (None, None, None) => {
            check.fault(path, "this says nothing of what must be seen").expected =
                ["packets", "at_least", "bytes"].map(str::to_owned).to_vec();
        }
        (Some(_), Some(_), _) => {
            check.fault_of_key(&format!("{path}.at_least"), "`packets` and `at_least` exclude each other");
        }
        (None, Some(0), None) => {
            check.fault(&format!("{path}.at_least"), "at least 0 packets is always true").help =
                Some("write `packets: 0` if there must be none".to_owned());
        }
        (Some(0), _, Some(bytes)) if bytes > 0 => {
            check.fault(&format!("{path}.bytes"), "no packet can carry these bytes");
        }
        _ => {}
    }
}
