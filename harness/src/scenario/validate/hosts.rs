//! The far side.

use std::{
    collections::{HashMap, HashSet},
    path::{Component, Path},
};

use super::{Check, steps};
use crate::scenario::{
    address::{self, Refused},
    cell::printable,
    types::{Host, Reply, Serve},
};

pub(super) fn check(check: &mut Check<'_>) {
    let mut all = HashMap::new();
    for (name, host) in &check.scenario.hosts {
        let path = format!("hosts.{name}");
        if let Err(why) = address::domain(name) {
            let message = format!("`{}` cannot be the name of a host: {why}", printable(name));
            check.fault_of_key(&path, message);
        } else if name.chars().any(|c| c.is_ascii_uppercase()) {
            let message = format!("`{name}` is a name with capitals, which DNS does not tell from others");
            check.fault_of_key(&path, message).help =
                Some(format!("write `{}`; a step may go to it in capitals", name.to_ascii_lowercase()));
        }
        addresses(check, &path, host);
        if host.silent && !host.serve.is_empty() {
            check.fault(&format!("{path}.serve"), "a silent host answers nothing, so it cannot serve");
        }
        let mut taken = HashSet::new();
        for (i, serve) in host.serve.iter().enumerate() {
            let path = format!("{path}.serve[{i}]");
            let port = server(check, &path, serve);
            if let Some(port) = port
                && !taken.insert(port)
            {
                check.fault(&path, format!("{} port {} of this host is taken", port.0, port.1));
            } else if let Some(port) = port {
                for address in &host.addr {
                    let other = all.insert((*address, port), name);
                    if let Some(other) = other.filter(|other| *other != name) {
                        let message = format!("`{other}` serves {} port {} of {address}", port.0, port.1);
                        check.fault(&path, message).help =
                            Some("hosts of one address have one server of a port".to_owned());
                    }
                }
            }
        }
    }
}

fn addresses(check: &mut Check<'_>, path: &str, host: &Host) {
    if host.addr.is_empty() {
        check.fault(&format!("{path}.addr"), "a host needs an address");
    }
    for (i, address) in host.addr.iter().enumerate() {
        let path = format!("{path}.addr[{i}]");
        if host.addr[..i].contains(address) {
            check.fault(&path, format!("{address} is there twice"));
        } else if *address != address.to_canonical() {
            check.fault(
                &path,
                format!("write {} as the IPv4 address that it stands for", address.to_canonical()),
            );
        } else if let Err(refused) = address::permitted(*address) {
            refuse(check, &path, refused);
        }
    }
    for (i, address) in host.rebinds.iter().enumerate() {
        if let Err(refused) = address::permitted_in_answers(*address) {
            refuse(check, &format!("{path}.rebinds[{i}]"), refused);
        }
    }
}

/// A fault for an address that may not be used.
pub(super) fn refuse(check: &mut Check<'_>, path: &str, refused: Refused) {
    check.fault(path, refused.to_string()).help = Some(format!("use one of {}", address::ranges()));
}

/// Transport and port of a server, if it has exactly one.
fn server(check: &mut Check<'_>, path: &str, serve: &Serve) -> Option<(&'static str, u16)> {
    let ports = [
        ("tcp", serve.tcp),
        ("udp", serve.udp),
        ("http", serve.http),
        ("tls", serve.tls),
        ("quic", serve.quic),
        ("h3", serve.h3),
        ("grpc", serve.grpc),
        ("websocket", serve.websocket),
        ("stun", serve.stun),
    ];
    let given: Vec<(&'static str, u16)> =
        ports.iter().filter_map(|(kind, port)| Some((*kind, (*port)?))).collect();
    let &[(kind, port)] = given.as_slice() else {
        let found = given.iter().map(|(kind, _)| format!("`{kind}`")).collect::<Vec<_>>().join(" and ");
        let found = if found.is_empty() { "none".to_owned() } else { found };
        let kinds = ports.map(|(kind, _)| format!("`{kind}`")).join(", ");
        check.fault(path, format!("a server has exactly one of {kinds}; here is {found}"));
        return None;
    };
    if port == 0 {
        check.fault(&format!("{path}.{kind}"), "a server's port is from 1 to 65535");
    }
    let web = matches!(kind, "http" | "tls" | "h3");
    let plain = matches!(kind, "tcp" | "udp");
    if !plain && check.is_written(&format!("{path}.reply")) {
        check.fault_of_key(&format!("{path}.reply"), "`reply` is for `tcp` and `udp` servers");
    }
    if kind == "udp" && matches!(serve.reply, Reply::Reset | Reply::Hold | Reply::Close) {
        check.fault(&format!("{path}.reply"), "a UDP server can `echo`, `sink` or be a `source`");
    }
    if !web && check.is_written(&format!("{path}.status")) {
        check.fault_of_key(&format!("{path}.status"), "`status` is for `http`, `tls` and `h3` servers");
    }
    if serve.status.is_some_and(|status| !(200..=599).contains(&status)) {
        check.fault(&format!("{path}.status"), "a final HTTP status is from 200 to 599");
    }
    if kind != "grpc" && check.is_written(&format!("{path}.grpc_status")) {
        check.fault_of_key(&format!("{path}.grpc_status"), "`grpc_status` is for `grpc` servers");
    }
    if serve.grpc_status > 16 {
        check.fault(&format!("{path}.grpc_status"), "a status of gRPC is from 0 to 16");
    }
    program(check, path, kind, serve);
    if serve.bytes > 0 && !web && serve.run.is_empty() && !matches!(serve.reply, Reply::Source | Reply::Close)
    {
        check.fault_of_key(&format!("{path}.bytes"), "this server sends no bytes of its own").help =
            plain.then(|| "add `reply: source`, or `reply: close`".to_owned());
    }
    steps::transfer(check, &format!("{path}.bytes"), serve.bytes);
    Some((if matches!(kind, "udp" | "quic" | "h3" | "stun") { "udp" } else { "tcp" }, port))
}

/// A server program, what is prepared for it and what it finds.
fn program(check: &mut Check<'_>, path: &str, kind: &str, serve: &Serve) {
    if !check.is_written(&format!("{path}.run")) {
        for field in ["prepare", "files"] {
            if check.is_written(&format!("{path}.{field}")) {
                check.fault_of_key(
                    &format!("{path}.{field}"),
                    format!("`{field}` is for a server with `run`"),
                );
            }
        }
        return;
    }
    if !matches!(kind, "tcp" | "udp") {
        let message = "`run` needs to know the transport: write `tcp` or `udp` and the port";
        check.fault_of_key(&format!("{path}.{kind}"), message);
    }
    for field in ["reply", "bytes"] {
        if check.is_written(&format!("{path}.{field}")) {
            let message = format!("what a program of `run` answers is its own; `{field}` says nothing here");
            check.fault_of_key(&format!("{path}.{field}"), message);
        }
    }
    steps::program(check, &format!("{path}.run"), &serve.run);
    for (i, run) in serve.prepare.iter().enumerate() {
        steps::program(check, &format!("{path}.prepare[{i}]"), run);
    }
    for name in serve.files.keys() {
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        if name.is_empty() || name.contains('\0') || !Path::new(name).components().all(plain) {
            let message = format!("`{}` is not a path of a file: no `.`, no `..`", printable(name));
            check.fault_of_key(&format!("{path}.files"), message);
        }
    }
}
