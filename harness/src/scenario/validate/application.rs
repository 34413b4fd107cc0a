//! Protocols of applications.

use hyper::http::uri::PathAndQuery;

use super::{Check, steps::target, transport::of_family};
use crate::scenario::{
    cell::printable,
    types::{Family, Grpc, Http3, Quic, Stun, Websocket},
};

/// Longest message of a WebSocket or a gRPC call, which is held in memory.
const LONGEST_MESSAGE: u64 = 1 << 20;

pub(super) fn quic(check: &mut Check<'_>, path: &str, quic: &Quic) {
    destination(check, path, &quic.to, quic.family);
    echoed(check, path, quic.send, quic.receive);
}

pub(super) fn http3(check: &mut Check<'_>, path: &str, http3: &Http3) {
    destination(check, path, &http3.to, http3.family);
    request_path(check, path, &http3.path, "/v1?q=1");
}

pub(super) fn grpc(check: &mut Check<'_>, path: &str, grpc: &Grpc) {
    destination(check, path, &grpc.to, grpc.family);
    request_path(check, path, &grpc.path, "/package.Service/Method");
    if grpc.bytes > LONGEST_MESSAGE {
        check.fault(&format!("{path}.bytes"), format!("a message has at most {LONGEST_MESSAGE} bytes"));
    }
}

fn request_path(check: &mut Check<'_>, path: &str, written: &str, example: &str) {
    if !written.starts_with('/') || written.parse::<PathAndQuery>().is_err() {
        let message = format!("`{}` is not the path of a request, such as `{example}`", printable(written));
        check.fault(&format!("{path}.path"), message);
    }
}

pub(super) fn websocket(check: &mut Check<'_>, path: &str, websocket: &Websocket) {
    destination(check, path, &websocket.to, websocket.family);
    if websocket.bytes > LONGEST_MESSAGE {
        check.fault(&format!("{path}.bytes"), format!("a message has at most {LONGEST_MESSAGE} bytes"));
    }
    if websocket.messages == 0 && check.is_written(&format!("{path}.bytes")) {
        check.fault_of_key(&format!("{path}.bytes"), "there is no message that has these bytes");
    }
}

pub(super) fn stun(check: &mut Check<'_>, path: &str, stun: &Stun) {
    destination(check, path, &stun.to, stun.family);
}

/// Where it goes; an address says its own family.
fn destination(check: &mut Check<'_>, path: &str, to: &str, family: Family) {
    target(check, &format!("{path}.to"), to);
    of_family(check, path, to, family);
}

/// A server that echoes sends no more than it got.
fn echoed(check: &mut Check<'_>, path: &str, send: u64, receive: u64) {
    if receive > send {
        let message = format!("the server sends back what comes, and only {send} bytes come");
        check.fault(&format!("{path}.receive"), message);
    }
}
