//! One thing that happens, and what every action can say: family, cgroup, origin of its socket.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Accept, Agent, Answer, Ask, Connect, Flood, Grpc, Http3, Join, Kill, Outage, Ping, Process, Quic,
    Recreated, Rollover, Rule, Scenario, Send, Socket, Stun, Telemetry, Until, Websocket, duration_text,
};
use crate::scenario::schema;

/// One thing that happens. Exactly one of the action fields is set.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = schema::one_action)]
pub struct Step {
    /// A TCP connection.
    #[serde(default)]
    pub connect: Option<Connect>,
    /// UDP datagrams.
    #[serde(default)]
    pub send: Option<Send>,
    /// A DNS look-up through the agent's resolver configuration.
    #[serde(default)]
    pub resolve: Option<String>,
    /// A DNS question with any name, of any type.
    #[serde(default)]
    pub ask: Option<Ask>,
    /// ICMP echo requests from an unprivileged ping socket.
    #[serde(default)]
    pub ping: Option<Ping>,
    /// A QUIC connection.
    #[serde(default)]
    pub quic: Option<Quic>,
    /// An HTTP/3 request.
    #[serde(default)]
    pub http3: Option<Http3>,
    /// A gRPC call.
    #[serde(default)]
    pub grpc: Option<Grpc>,
    /// A WebSocket.
    #[serde(default)]
    pub websocket: Option<Websocket>,
    /// A STUN binding request.
    #[serde(default)]
    pub stun: Option<Stun>,
    /// Take a connection or a datagram that comes from the far side.
    #[serde(default)]
    pub accept: Option<Accept>,
    /// Become a member of a multicast group.
    #[serde(default)]
    pub join: Option<Join>,
    /// Only make a socket.
    #[serde(default)]
    pub socket: Option<Socket>,
    /// Run a program, unmodified, as the agent.
    #[serde(default)]
    pub exec: Option<Exec>,
    /// Telemetry, as Claude Code sends it of itself.
    #[serde(default)]
    pub telemetry: Option<Telemetry>,
    /// Attempts in a tight loop, or at a steady rate.
    #[serde(default)]
    pub flood: Option<Flood>,
    /// Switch bypass for the agent, as an operator would.
    #[serde(default)]
    pub bypass: Option<BypassSwitch>,
    /// Replace the agent's rules.
    #[serde(default)]
    pub rules: Option<Vec<Rule>>,
    /// `reader`: SIGKILL, and it is started again. `reader 20 times in 4s`: at random instants.
    #[serde(default)]
    #[schemars(schema_with = "schema::kill")]
    pub kill: Option<Kill>,
    /// `reader`, `coredns`: SIGTERM, and it is started again once it has ended. `envoy`: SIGKILL, and it serves again
    /// before the next step.
    #[serde(default)]
    pub restart: Option<Process>,
    /// `endpoint for 5s`, `reader for 1s`: stopped now, and back after that; the next step does not wait for it.
    #[serde(default)]
    #[schemars(schema_with = "schema::outage")]
    pub stop: Option<Outage>,
    /// `clawker-egress`: the stream goes on in another index. `clawker-egress 5 times in 2s`: at random instants.
    #[serde(default)]
    #[schemars(schema_with = "schema::rollover")]
    pub rollover: Option<Rollover>,
    /// What the endpoint answers until the next such step. That one waits until it was answered so at least once.
    #[serde(default)]
    pub endpoint: Option<Answer>,
    /// `container`: that of the agent ends, and another takes its place.
    #[serde(default)]
    pub recreate: Option<Recreated>,
    /// Go on once a document of the agent's is in the store.
    #[serde(default)]
    pub until: Option<Until>,
    /// Let time pass.
    #[serde(default, with = "duration_text::option")]
    #[schemars(schema_with = "schema::duration")]
    pub wait: Option<Duration>,
    /// Run these steps at the same time.
    #[serde(default)]
    #[schemars(length(min = 2, max = 64))]
    pub together: Option<Vec<Step>>,
    /// Which agent, where there are several. Default: the first.
    #[serde(default)]
    pub by: Option<String>,
    /// The cgroup that the agent's process is in: its `own` (default), or one `nested` in that.
    #[serde(default)]
    pub cgroup: Place,
    /// What the agent's own call must return: `ok` (default), an errno name such as `EPERM`,
    /// `NXDOMAIN`, `NODATA` (the name has no address), `exit 7`.
    #[serde(default)]
    #[schemars(schema_with = "schema::outcome")]
    pub outcome: Option<String>,
}

impl Scenario {
    /// Every agent: the one, or the several.
    pub fn each_agent(&self) -> impl Iterator<Item = &Agent> {
        self.agent.iter().chain(&self.agents)
    }

    /// Every step with its place in the YAML, in order; those of `together` one by one in its stead.
    pub fn each_step(&self) -> impl Iterator<Item = (String, &Step)> {
        self.steps.iter().enumerate().flat_map(|(index, step)| {
            let path = format!("steps[{index}]");
            match &step.together {
                None => vec![(path, step)],
                Some(steps) => steps
                    .iter()
                    .enumerate()
                    .map(|(inner, step)| (format!("{path}.together[{inner}]"), step))
                    .collect(),
            }
        })
    }
}

/// What a step does to the chain, whoever the agents are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// `kill`
    Kill(Kill),
    /// `restart`
    Restart(Process),
    /// `stop`
    Stop(Outage),
    /// `rollover`
    Rollover(Rollover),
    /// `endpoint`
    Endpoint(Answer),
}

impl Step {
    /// What this step does to the chain.
    #[must_use]
    pub fn disturbance(&self) -> Option<Disturbance> {
        None.or(self.kill.map(Disturbance::Kill))
            .or(self.restart.map(Disturbance::Restart))
            .or(self.stop.map(Disturbance::Stop))
            .or(self.rollover.map(Disturbance::Rollover))
            .or(self.endpoint.map(Disturbance::Endpoint))
    }
}

/// A real program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// Program and arguments; no shell.
    #[schemars(schema_with = "schema::program")]
    pub run: Vec<String>,
    /// Killed after this long. Default 30s.
    #[serde(default, with = "duration_text::option")]
    #[schemars(schema_with = "schema::duration")]
    pub timeout: Option<Duration>,
    /// Text its standard output must contain.
    #[serde(default)]
    pub stdout: Option<String>,
    /// Text its standard error must contain.
    #[serde(default)]
    pub stderr: Option<String>,
}

impl Exec {
    /// [`timeout`](Self::timeout) where the case says nothing. An interpreter takes seconds to start on an
    /// emulated machine.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
}

/// `on` for a time, or `off`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum BypassSwitch {
    /// On for this long; `{on: 5s}`.
    On(
        #[serde(with = "duration_text")]
        #[schemars(schema_with = "schema::duration")]
        Duration,
    ),
    /// Off now.
    Off,
}

/// Which address of a name to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
    /// IPv4, from an IPv6 socket to `::ffff:a.b.c.d`.
    Mapped,
}

/// The cgroup of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The agent's own.
    #[default]
    Own,
    /// A child of it, made for the step and removed after it.
    Nested,
}

/// Who made a socket, and when, relative to the agent's cgroup and its enrolment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Made and used by the agent, after enrolment.
    #[default]
    Inside,
    /// Made by a process outside the cgroup, which passes it in (`SCM_RIGHTS`).
    Outside,
    /// Made by the agent, and passed to a process outside the cgroup, which uses it.
    PassedOut,
    /// The process makes it outside, and is then moved into the cgroup.
    MovedIn,
    /// The process makes it inside, and is then moved out of the cgroup.
    MovedOut,
    /// The process connects outside, and is then moved into the cgroup.
    ConnectedOutside,
    /// Made before the agent was enrolled, used after.
    Before,
    /// Connected before the agent was enrolled, used after.
    ConnectedBefore,
}

impl Origin {
    /// Whether the step begins before the agent is enrolled.
    #[must_use]
    pub const fn is_early(self) -> bool {
        matches!(self, Self::Before | Self::ConnectedBefore)
    }

    /// Whether the socket is connected when the step holds.
    #[must_use]
    pub const fn is_connected(self) -> bool {
        matches!(self, Self::ConnectedBefore | Self::ConnectedOutside)
    }

    /// Whether one process makes the socket, and another uses it.
    #[must_use]
    pub const fn is_passed(self) -> bool {
        matches!(self, Self::Outside | Self::PassedOut)
    }
}
