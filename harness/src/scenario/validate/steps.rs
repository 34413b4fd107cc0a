//! What the agents do.

use std::{net::IpAddr, str::FromStr, time::Duration};

use super::{Check, application, expect, fault, hosts, rules, transport};
use crate::{
    actor::{Action, dns, raw},
    scenario::{
        address::{self, Target},
        cell::printable,
        diagnostic::nearest,
        outcome::{StepOutcome, errnos},
        types::{Ask, Flood, NoTelemetry, Place, Socket, Step, Telemetry},
    },
};

/// The action fields of a step.
pub(crate) const ACTIONS: [&str; 27] = [
    "connect",
    "send",
    "ping",
    "quic",
    "http3",
    "grpc",
    "websocket",
    "stun",
    "accept",
    "join",
    "resolve",
    "ask",
    "socket",
    "exec",
    "telemetry",
    "flood",
    "bypass",
    "rules",
    "kill",
    "restart",
    "stop",
    "rollover",
    "endpoint",
    "recreate",
    "until",
    "wait",
    "together",
];
/// Largest `IPPROTO_*`, `IPPROTO_MPTCP`.
const LAST_PROTOCOL: u16 = 262;
/// Largest `AF_*` and `SOCK_*` of Linux.
const LAST_FAMILY: u16 = 45;
const LAST_KIND: u16 = 10;
/// Most bytes of one transfer: more shows nothing more.
const LARGEST_TRANSFER: u64 = 256 << 20;
/// Most steps at the same time: each is a process.
const MOST_TOGETHER: usize = 64;
/// Longest time that one step may take.
const LONGEST: Duration = Duration::from_secs(600);

pub(super) fn check(check: &mut Check<'_>) {
    if check.scenario.steps.is_empty() {
        check.fault("steps", "a scenario needs at least one step");
    }
    let acting = |step: &Step| Action::of(step).is_some();
    let steps = &check.scenario.steps;
    let acts = |step: &Step| acting(step) || step.together.iter().flatten().any(acting);
    if !steps.is_empty() && !steps.iter().any(|step| acts(step) || actions(step).is_empty()) {
        check.fault("steps", "no step has an agent do anything, so there is nothing that could go wrong");
    }
    for (i, step) in check.scenario.steps.iter().enumerate() {
        one(check, &format!("steps[{i}]"), step, false);
    }
    for (path, duration) in [
        ("settings.udp_idle", check.scenario.settings.udp_idle),
        ("settings.dns_ttl_floor", check.scenario.settings.dns_ttl_floor),
    ] {
        if duration.is_some_and(|duration| duration.is_zero()) {
            check.fault(path, "this time cannot be zero");
        }
    }
}

fn one(check: &mut Check<'_>, path: &str, step: &Step, nested: bool) {
    let set = actions(step);
    match set.as_slice() {
        [action] => outcome(check, path, step, action),
        [] => {
            check.fault(path, "this step does nothing").expected = ACTIONS.map(str::to_owned).to_vec();
        }
        [first, second, ..] => {
            let message = format!("a step has exactly one action; here are `{first}` and `{second}`");
            check.fault_of_key(&format!("{path}.{second}"), message).help =
                Some("make it a step of its own".to_owned());
        }
    }
    by(check, path, step);
    times(check, path, step);
    let acts = Action::of(step).is_some() || set.is_empty();
    if nested && !acts && step.together.is_none() && step.disturbance().is_none() {
        check
            .fault(path, "only what agents do, and faults, run at the same time; this is the operator's")
            .help = Some("put it before or after `together`".to_owned());
    }
    if step.cgroup == Place::Nested && !acts {
        check.fault_of_key(&format!("{path}.cgroup"), "only what an agent does has a `cgroup`");
    }
    if let Some(connect) = &step.connect {
        transport::connection(check, &format!("{path}.connect"), connect);
        for (field, bytes) in
            [("send", connect.send), ("receive", connect.receive), ("send_after", connect.send_after)]
        {
            transfer(check, &format!("{path}.connect.{field}"), bytes);
        }
    }
    if let Some(send) = &step.send {
        transport::datagrams(check, &format!("{path}.send"), send);
    }
    if let Some(ping) = &step.ping {
        transport::ping(check, &format!("{path}.ping"), ping);
    }
    if let Some(quic) = &step.quic {
        application::quic(check, &format!("{path}.quic"), quic);
    }
    if let Some(http3) = &step.http3 {
        application::http3(check, &format!("{path}.http3"), http3);
    }
    if let Some(grpc) = &step.grpc {
        application::grpc(check, &format!("{path}.grpc"), grpc);
    }
    if let Some(websocket) = &step.websocket {
        application::websocket(check, &format!("{path}.websocket"), websocket);
    }
    if let Some(stun) = &step.stun {
        application::stun(check, &format!("{path}.stun"), stun);
    }
    if let Some(accept) = &step.accept {
        transport::accept(check, &format!("{path}.accept"), accept);
    }
    if let Some(join) = &step.join {
        transport::join(check, &format!("{path}.join"), join);
    }
    if let Some(name) = &step.resolve {
        let path = format!("{path}.resolve");
        let expects_none = step.outcome.as_deref() == Some("NXDOMAIN");
        if let Err(why) = address::domain(name) {
            check.fault(&path, format!("`{}` is not a name: {why}", printable(name)));
        } else if !expects_none {
            check.require_host(&path, name);
        }
    }
    if let Some(ask) = &step.ask {
        question(check, &format!("{path}.ask"), ask);
    }
    if let Some(socket) = &step.socket {
        kind(check, &format!("{path}.socket"), socket);
    }
    if let Some(exec) = &step.exec {
        let path = format!("{path}.exec");
        program(check, &format!("{path}.run"), &exec.run);
        for (name, text) in [("stdout", &exec.stdout), ("stderr", &exec.stderr)] {
            if text.as_deref() == Some("") {
                check.fault(&format!("{path}.{name}"), "every output contains the empty text");
            }
        }
    }
    if let Some(telemetry) = &step.telemetry {
        self::telemetry(check, &format!("{path}.telemetry"), telemetry);
    }
    if let Some(flood) = &step.flood {
        fault::flood(check, &format!("{path}.flood"), flood);
    }
    if let Some(until) = &step.until {
        let path = format!("{path}.until");
        if expect::stream(check, &path, &until.stream) {
            expect::attributes(check, &format!("{path}.where"), &until.stream, &until.filter);
        }
    }
    fault::check(check, path, step);
    if let Some(list) = &step.rules {
        rules::check(check, &format!("{path}.rules"), list);
    }
    if let Some(steps) = &step.together {
        let path = format!("{path}.together");
        if nested {
            check.fault_of_key(&path, "`together` cannot hold another `together`");
            return;
        }
        if steps.len() < 2 {
            check.fault(&path, "`together` needs at least two steps");
        }
        if steps.len() > MOST_TOGETHER {
            check.fault_of_key(&path, format!("at most {MOST_TOGETHER} steps run at the same time"));
        }
        for (i, step) in steps.iter().enumerate() {
            one(check, &format!("{path}[{i}]"), step, true);
        }
    }
}

/// A question is one that can be asked.
fn question(check: &mut Check<'_>, path: &str, ask: &Ask) {
    if let Err(why) = ask.labels() {
        check.fault(&format!("{path}.name"), format!("`{}` is not a name: {why}", printable(&ask.name)));
    }
    for (field, text, known) in [
        ("type", &ask.kind, dns::kind(&ask.kind).is_some()),
        ("class", &ask.class, dns::class(&ask.class).is_some()),
    ] {
        if !known {
            check
                .fault(&format!("{path}.{field}"), format!("`{}` is no {field} of DNS", printable(text)))
                .help = Some("those without a name go by their number".to_owned());
        }
    }
    if let Some(at) = ask.at
        && let Err(refused) = address::permitted(at)
    {
        hosts::refuse(check, &format!("{path}.at"), refused);
    }
}

fn actions(step: &Step) -> Vec<&'static str> {
    let Step {
        connect,
        send,
        ping,
        quic,
        http3,
        grpc,
        websocket,
        stun,
        accept,
        join,
        resolve,
        ask,
        socket,
        exec,
        telemetry,
        flood,
        bypass,
        rules,
        kill,
        restart,
        stop,
        rollover,
        endpoint,
        recreate,
        until,
        wait,
        together,
        by: _,
        cgroup: _,
        outcome: _,
    } = step;
    let set = [
        connect.is_some(),
        send.is_some(),
        ping.is_some(),
        quic.is_some(),
        http3.is_some(),
        grpc.is_some(),
        websocket.is_some(),
        stun.is_some(),
        accept.is_some(),
        join.is_some(),
        resolve.is_some(),
        ask.is_some(),
        socket.is_some(),
        exec.is_some(),
        telemetry.is_some(),
        flood.is_some(),
        bypass.is_some(),
        rules.is_some(),
        kill.is_some(),
        restart.is_some(),
        stop.is_some(),
        rollover.is_some(),
        endpoint.is_some(),
        recreate.is_some(),
        until.is_some(),
        wait.is_some(),
        together.is_some(),
    ];
    ACTIONS.into_iter().zip(set).filter(|(_, set)| *set).map(|(action, _)| action).collect()
}

fn by(check: &mut Check<'_>, path: &str, step: &Step) {
    let Some(by) = &step.by else { return };
    let path = format!("{path}.by");
    if step.together.is_some() || step.wait.is_some() || step.disturbance().is_some() {
        check.fault_of_key(&path, "only what an agent does has a `by`");
    } else if !check.scenario.each_agent().any(|agent| agent.agent == *by) {
        let names: Vec<String> = check.scenario.each_agent().map(|agent| printable(&agent.agent)).collect();
        check
            .fault(&path, format!("`{}` is not an agent of this scenario", printable(by)))
            .suggest(by, names);
    }
}

/// The outcome is one, and one that this action can have.
fn outcome(check: &mut Check<'_>, path: &str, step: &Step, action: &str) {
    let Some(text) = &step.outcome else { return };
    let path = format!("{path}.outcome");
    let outcome = match StepOutcome::from_str(text) {
        Ok(outcome) => outcome,
        Err(unknown) => {
            let names: Vec<String> = errnos().map(|(name, _)| name).collect();
            let known = names.iter().map(String::as_str).chain(["ok", "NXDOMAIN", "NODATA"]);
            // A capital away is likelier than a letter away.
            let upper = text.to_uppercase();
            let help =
                known.clone().find(|name| name.to_uppercase() == upper).or_else(|| nearest(text, known));
            let message = format!("`{}` is not an outcome", printable(&unknown.0));
            let fault = check.fault(&path, message);
            fault.expected = ["ok", "EPERM and other error names", "NXDOMAIN", "NODATA", "exit N"]
                .map(str::to_owned)
                .to_vec();
            fault.help = help.map(|name| format!("did you mean `{name}`?"));
            return;
        }
    };
    let possible = match outcome {
        StepOutcome::Ok => true,
        StepOutcome::Errno(_) => !matches!(action, "resolve" | "exec"),
        // A question alone is asked, whatever comes of it.
        StepOutcome::Nodata if action == "ask" => false,
        StepOutcome::Nxdomain | StepOutcome::Nodata => match action {
            "resolve" | "ask" => true,
            "connect" => step.connect.as_ref().is_some_and(|connect| is_name(&connect.to)),
            "send" => step.send.as_ref().is_some_and(|send| is_name(&send.to)),
            "flood" => step.flood.as_ref().is_some_and(|flood| is_name(&flood.to)),
            "ping" => step.ping.as_ref().is_some_and(|ping| ping.to.parse::<IpAddr>().is_err()),
            _ => step.application().is_some_and(|application| is_name(application.to)),
        },
        StepOutcome::Exit(_) => action == "exec",
    };
    if !possible {
        let what = match (outcome, action) {
            (
                StepOutcome::Nxdomain | StepOutcome::Nodata,
                "connect" | "send" | "ping" | "quic" | "http3" | "grpc" | "websocket" | "stun" | "flood",
            ) => "an attempt to an address".to_owned(),
            _ => format!("`{action}`"),
        };
        check.fault(&path, format!("{what} cannot end with `{outcome}`"));
    }
}

/// No step holds a run up for longer than a person would wait.
fn times(check: &mut Check<'_>, path: &str, step: &Step) {
    let connect = step.connect.as_ref();
    for (field, time) in [
        ("wait", step.wait),
        ("stop", step.stop.map(|stop| stop.length)),
        ("kill", step.kill.map(|kill| kill.within)),
        ("rollover", step.rollover.map(|rollover| rollover.within)),
        ("flood", step.flood.as_ref().map(Flood::lasts)),
        ("connect.pause", connect.and_then(|connect| connect.pause)),
        ("connect.timeout", connect.and_then(|connect| connect.timeout)),
        ("send.pause", step.send.as_ref().and_then(|send| Some(send.pause?.saturating_mul(send.count)))),
        ("exec.timeout", step.exec.as_ref().and_then(|exec| exec.timeout)),
    ] {
        if time.is_some_and(|time| time > LONGEST) {
            check.fault(&format!("{path}.{field}"), "no step may take longer than 10m").help =
                Some("shorten the times of the case with `settings`".to_owned());
        }
    }
}

/// What one connection may carry.
pub(super) fn transfer(check: &mut Check<'_>, path: &str, bytes: u64) {
    if bytes > LARGEST_TRANSFER {
        check.fault(path, format!("a case transfers at most {LARGEST_TRANSFER} bytes at a time"));
    }
}

pub(super) fn is_name(to: &str) -> bool {
    matches!(to.parse(), Ok(Target::Name(..)))
}

/// A destination is a host of this file, or an address that nobody has.
pub(super) fn target(check: &mut Check<'_>, path: &str, to: &str) {
    match to.parse() {
        Ok(Target::Name(name, _)) => check.require_host(path, &name),
        Ok(Target::Address(address)) => {
            if let Err(refused) = address::permitted(address.ip()) {
                hosts::refuse(check, path, refused);
            }
        }
        Err(why) => {
            check.fault(path, why.to_string());
        }
    }
}

fn kind(check: &mut Check<'_>, path: &str, socket: &Socket) {
    let word = |check: &mut Check<'_>,
                field: &str,
                text: &str,
                most: u16,
                names: &mut dyn Iterator<Item = &'static str>| {
        let names: Vec<&str> = names.collect();
        let number = text.parse::<u16>().is_ok_and(|number| number <= most);
        if !number && !names.contains(&text) {
            let message = format!("unknown {field} of socket `{}`", printable(text));
            let fault = check.fault(&format!("{path}.{field}"), message);
            fault.suggest(text, names);
            fault.help.get_or_insert(format!("a number from 0 to {most} is possible too"));
        }
    };
    word(check, "family", &socket.family, LAST_FAMILY, &mut raw::families());
    word(check, "kind", &socket.kind, LAST_KIND, &mut raw::kinds());
    if let Some(protocol) = &socket.protocol {
        word(check, "protocol", protocol, LAST_PROTOCOL, &mut raw::protocols());
    }
    let internet = ["inet", "inet6", "2", "10"].contains(&socket.family.as_str());
    let packet = ["packet", "17"].contains(&socket.family.as_str());
    if socket.hdrincl && !(internet && ["raw", "3"].contains(&socket.kind.as_str())) {
        check.fault_of_key(&format!("{path}.hdrincl"), "`hdrincl` is for raw internet sockets");
    }
    if socket.qdisc_bypass && !packet {
        check.fault_of_key(&format!("{path}.qdisc_bypass"), "`qdisc_bypass` is for packet sockets");
    }
    if socket.to.is_some() && !internet && !packet {
        check.fault_of_key(&format!("{path}.to"), "a socket of this family is only made, never used").help =
            Some("only `inet`, `inet6` and `packet` have a `to`".to_owned());
    }
    if let Some(to) = &socket.to {
        let path = format!("{path}.to");
        match to.parse() {
            Ok(Target::Name(..)) => {
                check.fault(&path, "a bare socket sends to an address; write `address:port`");
            }
            _ => target(check, &path, to),
        }
    }
}

/// The fixture is there, with what is changed of it, and so is who takes it.
fn telemetry(check: &mut Check<'_>, path: &str, telemetry: &Telemetry) {
    match telemetry.request() {
        Ok(_) => {}
        Err(NoTelemetry::Fixture(name)) => {
            let fixtures = Telemetry::fixtures();
            check
                .fault(&format!("{path}.fixture"), format!("there is no fixture `{}`", printable(&name)))
                .suggest(&name, fixtures.iter().map(String::as_str));
        }
        Err(NoTelemetry::Place(place)) => {
            let message = format!("`{}` is no place in `{}`", printable(&place), telemetry.fixture);
            check.fault_of_key(&format!("{path}.with.{place}"), message).help =
                Some("a JSON pointer: /resourceLogs/0/schemaUrl".to_owned());
        }
        Err(unreadable @ NoTelemetry::Unreadable(..)) => {
            check.fault(&format!("{path}.fixture"), unreadable.to_string());
        }
    }
    if !check.scenario.has_envoy() {
        check.fault_of_key(path, "there is nobody here who takes telemetry").help =
            Some("add `proxy: {server: envoy}` to the scenario".to_owned());
    }
}

/// A program and its arguments.
pub(super) fn program(check: &mut Check<'_>, path: &str, run: &[String]) {
    if run.first().is_none_or(String::is_empty) {
        let name = path.rsplit_once('.').map_or(path, |(_, name)| name);
        check.fault(path, format!("`{name}` is a program and its arguments"));
    }
    let takes_telemetry = check.scenario.has_envoy();
    for (i, argument) in run.iter().enumerate() {
        if argument.contains('\0') {
            check.fault(&format!("{path}[{i}]"), "an argument cannot hold a NUL");
        }
        // An address inside an argument, as in `http://198.51.100.7/`.
        let not_address = |c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':');
        let v4 = argument.split(|c: char| !(c.is_ascii_digit() || c == '.'));
        let v6 = argument.split(not_address).filter(|word| word.matches(':').count() > 1);
        let refused = v4
            .chain(v6)
            .filter_map(|word| word.parse::<IpAddr>().ok())
            .map(|address| address.to_canonical())
            .filter(|address| !address.is_loopback() && !address.is_unspecified())
            .filter(|address| !(takes_telemetry && address::is_far_end(*address)))
            .find_map(|address| address::permitted(address).err());
        if let Some(refused) = refused {
            hosts::refuse(check, &format!("{path}[{i}]"), refused);
        }
    }
}
