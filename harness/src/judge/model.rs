//! The naive model against the documents and the wire; and, without a kernel, against the shipped matrix.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use abi::Verdict;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    evidence::{AgentEvidence, Evidence, Query, Window, address, before_port, describe, number, text},
    leak,
};
use crate::{
    event::{Class, Failure, ModelVerdict},
    fire::SENTINEL,
    model::{Attempt, Judgement, Model, Proto, Surroundings},
    scenario::{
        Cell,
        types::{DatagramProto, Destination, Family, Rule},
    },
    world::World,
};

/// Clocks of different processes are compared; what lies this close to a change may be either.
const SLACK: Duration = Duration::from_millis(40);
/// Longest validity of an answer.
const TTL_CEILING: Duration = Duration::from_secs(3600);

/// Judges every document and everything that arrived.
pub fn judge(evidence: &Evidence<'_>) -> (Vec<Failure>, Vec<ModelVerdict>) {
    let mut failures = Vec::new();
    let mut verdicts: Vec<ModelVerdict> = Vec::new();
    for document in &evidence.documents {
        let Some(possible) = of_document(evidence, document) else { continue };
        let recorded = text(document, "verdict");
        let Some(first) = possible.first() else { continue };
        let verdict = ModelVerdict {
            dst: format!("{}:{}", before_port(text(document, "dst_ip")), number(document, "dst_port")),
            l4_proto: text(document, "l4_proto").to_owned(),
            verdict: first.verdict.as_str().to_owned(),
            because: first.because.clone(),
        };
        if !verdicts.contains(&verdict) {
            verdicts.push(verdict);
        }
        if !possible.iter().any(|judgement| judgement.verdict.as_str() == recorded) {
            let message = format!(
                "the model says {} ({}), the document says {}",
                first.verdict,
                first.because,
                describe(document)
            );
            failures.push(evidence.failure(Class::Expectation, "rules", message, String::new()));
        }
    }
    failures.extend(leaks(evidence));
    (failures, verdicts)
}

/// What the model holds possible for a document; `None` where it has no say.
fn of_document(evidence: &Evidence<'_>, document: &Value) -> Option<Vec<Judgement>> {
    let agent = evidence.owner(number(document, "cgroup_id"))?;
    // The quota and what came before the enrolment are not the model's to know, a socket has no destination
    // yet, a packet that goes astray was not meant to go there, and a peer's connection is nobody's attempt.
    let beyond = ["flow_table_full", "pre_enrolment", "destination_mismatch", "no_flow"];
    if beyond.contains(&text(document, "reason"))
        || text(document, "hook") == "sock_create"
        || text(document, "direction") == "inbound"
    {
        return None;
    }
    let dst = address(document, "dst_ip")?;
    let port = u16::try_from(number(document, "dst_port")).ok()?;
    let end = timestamp(document)?;
    let start = end.checked_sub(Duration::from_millis(number(document, "duration_ms")))?;
    Some(at(evidence, agent, dst, port, Proto::named(text(document, "l4_proto")), start))
}

/// Every judgement possible around one moment, the likeliest first.
fn at(
    evidence: &Evidence<'_>,
    agent: &AgentEvidence,
    dst: IpAddr,
    port: u16,
    l4_proto: Proto,
    moment: SystemTime,
) -> Vec<Judgement> {
    let mut possible: Vec<Judgement> = Vec::new();
    let surroundings = Surroundings::of(&evidence.cell.scenario, &agent.subnets, &agent.gateways);
    for time in [moment, moment - SLACK, moment + SLACK] {
        for bypass in holds(&agent.bypass, time) {
            for rules in rules(&agent.rules, time) {
                let mut names = vec![names(evidence, dst, time)];
                if evidence.agents.len() > 1 {
                    // The authority cannot tell which agent asked.
                    names.push(Vec::new());
                }
                for names in names {
                    let attempt = Attempt { dst, port, l4_proto, names, bypass };
                    let judgement = Model::new(rules, &surroundings).judge(&attempt);
                    if !possible.contains(&judgement) {
                        possible.push(judgement);
                    }
                }
            }
        }
    }
    possible
}

/// Whether something held at a time: surely, surely not, or both are possible.
fn holds(windows: &[Window<()>], time: SystemTime) -> BTreeSet<bool> {
    let mut possible: BTreeSet<bool> = windows
        .iter()
        .filter(|window| window.from.0 <= time && window.until.is_none_or(|until| time <= until + SLACK))
        .map(|_| true)
        .collect();
    // It began between two times, and may end as much sooner.
    let unsure = |window: &Window<()>| window.from.1.duration_since(window.from.0).unwrap_or_default();
    let surely = windows.iter().any(|window| {
        window.from.1 <= time && window.until.is_none_or(|until| time + SLACK + unsure(window) < until)
    });
    if !surely {
        possible.insert(false);
    }
    possible
}

/// The rules that may have applied at a time.
fn rules(windows: &[Window<Vec<Rule>>], time: SystemTime) -> Vec<&[Rule]> {
    let applies = |window: &&Window<Vec<Rule>>| {
        window.from.0 <= time && window.until.is_none_or(|until| time <= until + SLACK)
    };
    let found: Vec<&[Rule]> = windows.iter().filter(applies).map(|window| window.what.as_slice()).collect();
    if found.is_empty() {
        windows.first().map(|window| window.what.as_slice()).into_iter().collect()
    } else {
        found
    }
}

/// Names that lead to an address and were asked for in time.
fn names(evidence: &Evidence<'_>, dst: IpAddr, time: SystemTime) -> Vec<String> {
    let dst = dst.to_canonical();
    let mut names = Vec::new();
    for (name, host) in &evidence.cell.scenario.hosts {
        if !evidence.cell.scenario.leads(host, dst) {
            continue;
        }
        let ttl = Duration::from_secs(host.ttl.into());
        let validity = ttl.max(evidence.ttl_floor).min(TTL_CEILING.max(evidence.ttl_floor));
        let valid = |query: &Query| query.asked <= time && time < query.asked + validity;
        let found =
            |query: &Query| query.name.eq_ignore_ascii_case(name) && query.leads_to(dst) && valid(query);
        if evidence.queries.iter().any(found) {
            names.push(name.clone());
        }
    }
    names
}

/// What arrived although the model permits it at no time.
fn leaks(evidence: &Evidence<'_>) -> Vec<Failure> {
    let mut failures = Vec::new();
    let answering = answering(evidence);
    // Once: a flood has as many documents as destinations.
    let moments: Vec<SystemTime> = evidence
        .fired
        .iter()
        .map(|fired| fired.started)
        .chain(evidence.queries.iter().map(|query| query.asked + SLACK))
        .chain(evidence.documents.iter().filter_map(started))
        .collect();
    for count in evidence.wire.counts.iter().filter(|count| count.packets > 0) {
        let (ip, port) = match count.dst.parse::<SocketAddr>() {
            Ok(socket) => (socket.ip(), socket.port()),
            Err(_) => match count.dst.parse() {
                Ok(ip) => (ip, 0),
                Err(_) => continue,
            },
        };
        let to_resolver =
            evidence.agents.iter().any(|agent| agent.resolvers.contains(&SocketAddr::new(ip, port)));
        let is_answer = is_proxy(evidence, ip) || answering.contains(&(ip, port.into()));
        if ip == SENTINEL || to_resolver || is_answer || leak::is_known(evidence, count) {
            continue;
        }
        let permitted = evidence.agents.iter().any(|agent| {
            moments.iter().any(|moment| {
                at(evidence, agent, ip, port, Proto::named(&count.l4_proto), *moment)
                    .iter()
                    .any(|judgement| judgement.verdict != Verdict::Denied)
            })
        });
        if !permitted {
            let message = format!(
                "{} packet(s) of {} arrived at {}, which the rules permit at no time",
                count.packets, count.l4_proto, count.dst
            );
            failures.push(evidence.failure(Class::Leak, "rules", message, String::new()));
        }
    }
    failures
}

/// When a document says that its attempt began.
pub(super) fn started(document: &Value) -> Option<SystemTime> {
    timestamp(document)?.checked_sub(Duration::from_millis(number(document, "duration_ms")))
}

/// When a document says that it ended.
pub(super) fn timestamp(document: &Value) -> Option<SystemTime> {
    let text = document.get("@timestamp")?.as_str()?;
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

/// Whether that is the proxy's.
fn is_proxy(evidence: &Evidence<'_>, ip: IpAddr) -> bool {
    let (v4, v6) = World::proxy();
    evidence.cell.scenario.proxy.is_some() && [IpAddr::V4(v4), IpAddr::V6(v6)].contains(&ip)
}

/// The other ends of connections that a peer opened.
fn answering(evidence: &Evidence<'_>) -> BTreeSet<(IpAddr, u64)> {
    let inbound = evidence.documents.iter().filter(|document| text(document, "direction") == "inbound");
    inbound
        .filter_map(|document| Some((address(document, "dst_ip")?, number(document, "dst_port"))))
        .collect()
}

/// The `model` tier: the shipped matrix and rule compiler against the model, on every destination of
/// a case, with and without its names, bypass on and off. Returns what differs, and what the model says.
pub fn steps(cell: &Cell) -> (Vec<Failure>, Vec<ModelVerdict>) {
    let mut failures = Vec::new();
    let mut verdicts = Vec::new();
    let scenario = &cell.scenario;
    let mut lists = vec![scenario.rules.clone()];
    lists.extend(scenario.steps.iter().filter_map(|step| step.rules.clone()));
    for rules in lists {
        let compiled = crate::fire::understood(&rules).map_err(|error| error.to_string()).and_then(|rules| {
            let network = crate::fire::network(scenario, &[], &[]);
            manager::Compiled::new(&rules, &network, &crate::fire::proxy(scenario.proxy.as_ref()))
                .map_err(|error| error.to_string())
        });
        let compiled = match compiled {
            Ok(compiled) => compiled,
            Err(message) => {
                failures.push(Failure { class: Class::BadCase, message, detail: String::new() });
                continue;
            }
        };
        for (ip, port, l4_proto, names) in destinations(cell) {
            for (names, bypass) in [(names.clone(), false), (Vec::new(), false), (names, true)] {
                let number = if l4_proto == Proto::Tcp { abi::TCP } else { abi::UDP };
                let surroundings = Surroundings::of(scenario, &[], &[]);
                let shipped = compiled.decide(ip, port, number, &names, bypass);
                let model = Model::new(&rules, &surroundings).judge(&Attempt {
                    dst: ip,
                    port,
                    l4_proto,
                    names: names.clone(),
                    bypass,
                });
                let dst = SocketAddr::new(ip, port).to_string();
                if (shipped.verdict, shipped.reason) != (model.verdict, model.reason) {
                    let message = format!(
                        "{dst} as {names:?}: the matrix decides {} ({}), the model {} ({})",
                        shipped.verdict, shipped.reason, model.verdict, model.because
                    );
                    failures.push(Failure { class: Class::Expectation, message, detail: String::new() });
                }
                verdicts.push(ModelVerdict {
                    dst,
                    l4_proto: if l4_proto == Proto::Tcp { "tcp".to_owned() } else { "udp".to_owned() },
                    verdict: model.verdict.as_str().to_owned(),
                    because: model.because,
                });
            }
        }
    }
    verdicts.dedup();
    (failures, verdicts)
}

/// Every address, port and transport that a case names, with the name it goes by.
fn destinations(cell: &Cell) -> Vec<(IpAddr, u16, Proto, Vec<String>)> {
    let mut found = Vec::new();
    for (_, step) in cell.scenario.each_step() {
        let (to, l4_proto, family) = match (&step.connect, &step.send) {
            (Some(connect), _) => (&*connect.to, Proto::Tcp, Family::V4),
            (_, Some(send)) if send.proto == DatagramProto::Udp => (&*send.to, Proto::Udp, send.family),
            _ => match step.application() {
                Some(Destination { to, family, udp: true }) => (to, Proto::Udp, family),
                Some(Destination { to, family, udp: false }) => (to, Proto::Tcp, family),
                None => continue,
            },
        };
        if let Ok(socket) = to.parse::<SocketAddr>() {
            found.push((socket.ip(), socket.port(), l4_proto, Vec::new()));
        } else if let Some((name, port)) = to.rsplit_once(':')
            && let Ok(port) = port.parse()
            && let Some(host) = cell.scenario.host(name)
        {
            let of_family = host.addr.iter().filter(|ip| ip.is_ipv6() == (family == Family::V6));
            found.extend(of_family.map(|ip| (*ip, port, l4_proto, vec![name.to_owned()])));
        }
    }
    found
}
