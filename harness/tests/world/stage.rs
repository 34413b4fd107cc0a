//! What the checks share: a far side, two agents, and how an action is done and looked at.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use harness::{
    actor::{Action, Report},
    far::{Connection, L4},
    owner::Owner,
    scenario::types::{Agent, Connect, Exec, Host, Send},
    wire::{TcpConnection, WireSummary},
    world::World,
};
use indexmap::IndexMap;
use libtest_mimic::Failed;

pub type Outcome = Result<(), Failed>;

/// Far more than anything here takes; a wait that ends here is a failure.
pub const LONG: Duration = Duration::from_secs(20);

/// Fails with `what` and the value.
pub fn ensure(condition: bool, what: impl FnOnce() -> String) -> Outcome {
    if condition { Ok(()) } else { Err(what().into()) }
}

pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, left: T, right: T) -> Outcome {
    ensure(left == right, || format!("{what}: {left:?} is not {right:?}"))
}

pub fn from<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("the test's own JSON")
}

pub fn agent(name: &str) -> Agent {
    from(serde_json::json!({"agent": name}))
}

pub fn hosts() -> IndexMap<String, Host> {
    from(serde_json::json!({
        "echo.test": {"addr": ["198.51.100.7", "2001:db8:1::7"], "ttl": 42, "serve": [
            {"tcp": 7}, {"udp": 7}, {"tcp": 9, "reply": "sink"}, {"udp": 9, "reply": "sink"},
            {"tcp": 19, "reply": "source", "bytes": 100_000}, {"udp": 19, "reply": "source", "bytes": 500},
            {"tcp": 20, "reply": "reset"}, {"tcp": 21, "reply": "hold"}, {"tcp": 22, "reply": "close", "bytes": 300},
        ]},
        "web.test": {"addr": ["198.51.100.8"], "serve": [
            {"http": 80, "bytes": 1234, "status": 418}, {"tls": 443, "bytes": 4321},
        ]},
        "silent.test": {"addr": ["198.51.100.9", "2001:db8:1::9"], "silent": true, "serve": [{"tcp": 80}]},
        "v6only.test": {"addr": ["2001:db8:1::10"]},
    }))
}

pub fn world(id: &str) -> Result<World, Failed> {
    Ok(World::new(id, &hosts(), &[agent("scout"), agent("other")])?)
}

pub fn connect(to: &str) -> Connect {
    from(serde_json::json!({"to": to}))
}

pub fn send(to: &str) -> Send {
    from(serde_json::json!({"to": to}))
}

pub fn exec(run: &[&str]) -> Action {
    Action::Exec(Exec { run: run.iter().map(|&word| word.to_owned()).collect(), ..Exec::default() })
}

/// A program that ends when the process it started has left its process group, and so outlives it.
pub fn escape() -> Action {
    let until = r#"until [ "$(cut -d' ' -f6 /proc/$!/stat)" = $! ]; do :; done"#;
    exec(&["sh", "-c", &format!("setsid sleep 1000 & {until}")])
}

pub fn act(world: &World, action: impl Into<Doing>) -> Result<Report, Failed> {
    Ok(world.spawn_actor(0, &action.into().0)?.wait(LONG)?)
}

/// What [`act`] takes: an action, or what is in one.
pub struct Doing(Action);
impl From<Action> for Doing {
    fn from(action: Action) -> Self {
        Self(action)
    }
}
impl From<Connect> for Doing {
    fn from(connect: Connect) -> Self {
        Self(Action::Connect(connect))
    }
}
impl From<Send> for Doing {
    fn from(send: Send) -> Self {
        Self(Action::Send(send))
    }
}

pub fn outcome(report: &Report, expected: &str) -> Outcome {
    ensure(report.outcome == expected, || format!("not {expected}: {report:?}"))
}

/// The connection as the server saw it, once it has read `received` and sent `sent`: it counts what it sends after the
/// call, when the agent may have it already.
pub fn server_side(
    world: &World,
    report: &Report,
    l4: L4,
    (received, sent): (u64, u64),
) -> Result<Connection, Failed> {
    let find = |all: &[Connection]| all.iter().find(|c| c.l4 == l4 && Some(c.peer) == report.src).cloned();
    let told = |all: &[Connection]| find(all).is_some_and(|c| c.received >= received && c.sent >= sent);
    ensure(world.far().wait(Instant::now() + LONG, told), || {
        format!("{report:?}: {:?}", world.far().connections())
    })?;
    Ok(find(&world.far().connections()).expect("just found"))
}

pub fn wire_side(summary: &WireSummary, report: &Report) -> Result<TcpConnection, Failed> {
    let mut found =
        summary.connections.iter().filter(|c| Some(c.agent) == report.src && Some(c.far) == report.dst);
    found.next().cloned().ok_or_else(|| format!("{report:?} is not in {summary:?}").into())
}

/// Names of this process's namespaces with `id` in them.
pub fn namespaces(id: &str) -> Vec<String> {
    let prefix = format!("clw-{}-{id}-", Owner::current());
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

pub fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
