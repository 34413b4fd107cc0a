//! What a report says of one step.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::transport::{IpFamily, Transport};

/// One step: what it says, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Where it stands in the YAML: `steps[2]`, `steps[1].together[0]`.
    pub path: String,
    /// What happens, as one line of YAML.
    pub text: String,
    /// What its socket speaks, where the step says.
    pub transport: Option<Transport>,
    /// What its socket can reach, where the step names no address but a kind of socket.
    pub families: Vec<IpFamily>,
    /// What the agent's own call returned; `None` for the operator's steps, and where it never ran.
    pub call: Option<CallReport>,
}

/// What the agent's own call returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallReport {
    /// The agent's label.
    pub agent: String,
    /// `ok`, an errno, `exit 7`.
    pub outcome: String,
    /// What the case says it must be.
    pub expected: String,
    /// Which call it was, and more; for people.
    pub detail: String,
    /// The address that the socket was given, after name resolution.
    pub dst: Option<SocketAddr>,
    /// The socket's own address.
    pub src: Option<SocketAddr>,
    /// Payload bytes that the kernel took.
    pub sent: u64,
    /// Payload bytes read.
    pub received: u64,
    /// The beginning of a program's standard output.
    pub stdout: String,
    /// The beginning of a program's standard error.
    pub stderr: String,
}
