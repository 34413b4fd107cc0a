//! The kernel's counters close where nobody reads the ring, and where a container is retired under its
//! open flows. Needs root.

mod lab;

use std::{process::ExitCode, time::Duration};

use abi::{FOLD_QUOTA, Hook};
use harness::{
    actor::{Action, Report},
    owner::Owner,
    reexec,
    scenario::types::{Agent, Host},
    world::World,
};
use indexmap::IndexMap;
use libtest_mimic::{Arguments, Failed};
use manager::{EnrolRequest, LoadOptions, Manager};
use rules::Rule;
use serde::de::DeserializeOwned;
use serde_json::json;

/// A connection, and a connected datagram socket, that go on after a second.
const CONNECTION: &str = r#"{"connect": {"to": "198.51.100.7:7", "send": 100, "pause": "1s", "send_after": 100, "timeout": "500ms"}}"#;
const DATAGRAMS: &str =
    r#"{"send": {"to": "198.51.100.7:7", "via": "connected", "count": 2, "pause": "1s"}}"#;

/// Longer than any action here takes.
const LONG: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    if let Some(code) = reexec::role() {
        return code;
    }
    type Test = fn(&str) -> Result<(), Failed>;
    let tests: [(&str, Test); 5] = [
        ("one page of ring under a burst", one_page),
        ("a scan of every port", scan),
        ("retired under open flows", retired),
        ("enrolled again under a connection", |name| enrolled_again(name, CONNECTION)),
        ("enrolled again under a datagram socket", |name| enrolled_again(name, DATAGRAMS)),
    ];
    let trials =
        tests.into_iter().map(|(name, test)| lab::trial(name, move |_| test(&name.replace(' ', "-"))));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn from<T: DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("the test's own JSON")
}

/// Programs without a reader, and a world whose one agent is enrolled.
struct Unread {
    manager: Manager,
    world: World,
    cgroup_id: u64,
    _state: tempfile::TempDir,
}

impl Unread {
    fn new(name: &str, ring_bytes: u32) -> Result<Self, Failed> {
        let hosts: IndexMap<String, Host> = from(json!({
            "api.test": {"addr": ["198.51.100.7"], "serve": [{"tcp": 7, "reply": "hold"}, {"udp": 7, "reply": "sink"}]}
        }));
        let agents: [Agent; 1] = [from(json!({"agent": "scout"}))];
        let state = tempfile::tempdir()?;
        let manager = Manager::load(&LoadOptions {
            pin_dir: format!("/sys/fs/bpf/clawker-lab-{}-{name}", Owner::current()).into(),
            state_dir: state.path().to_owned(),
            ring_bytes,
            faults: 0,
            node: None,
        })?;
        let world = World::new(name, &hosts, &agents).inspect_err(|_| drop(manager.unload()))?;
        let mut unread = Self { manager, world, cgroup_id: 0, _state: state };
        unread.cgroup_id = unread.enrol()?;
        Ok(unread)
    }

    fn enrol(&self) -> Result<u64, Failed> {
        let mut request = EnrolRequest::new(&self.world.agent(0).cgroup, "scout");
        request.rules = from::<Vec<Rule>>(json!([
            {"dst": "198.51.100.7", "proto": "tcp", "port": 7}, {"dst": "198.51.100.7", "proto": "udp", "port": 7}
        ]));
        request.accept_unobserved = true;
        Ok(self.manager.enrol(&request)?.cgroup_id)
    }

    /// Returns once a flow is open, and counted.
    fn opened(&self) -> Result<(), Failed> {
        let deadline = std::time::Instant::now() + LONG;
        while self.manager.ledger(self.cgroup_id)?.opened == 0 {
            if std::time::Instant::now() >= deadline {
                return Err("no flow was opened".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn act(&self, action: serde_json::Value) -> Result<Report, Failed> {
        Ok(self.world.spawn_actor(0, &from::<Action>(action))?.wait(LONG)?)
    }

    /// Attempts, flows closed, flows open by the counters; fails if they contradict each other or the table.
    fn closed(&self) -> Result<(u64, u64, u64), Failed> {
        let ledger = self.manager.ledger(self.cgroup_id)?;
        let dump = self.manager.dump()?.0;
        let ours = |map: &'static str| dump[map].iter().filter(|row| row["cgroup_id"] == self.cgroup_id);
        let table = ours("flows").count() as u64;
        let counted: u64 = ours("folds").filter_map(|fold| fold["count"].as_u64()).sum();
        let folded = counted + ledger.overflow.iter().sum::<u64>();
        let open = ledger.opened - ledger.closed;
        if ledger.denied + ledger.closed != ledger.submitted + ledger.folded
            || folded != ledger.folded
            || open != table
        {
            return Err(format!(
                "the ledger does not close, with {table} flows in the table, {folded} folded: {ledger:?}"
            )
            .into());
        }
        Ok((ledger.denied + ledger.opened, ledger.closed, open))
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.manager.unload();
    }
}

/// Room for 21 records. Denials beyond are folded; a flow that ends stays, marked, and is not lost.
fn one_page(name: &str) -> Result<(), Failed> {
    let unread = Unread::new(name, 4096)?;
    unread.act(json!({"send": {"to": "198.51.100.9:9", "count": 500}}))?;
    for _ in 0..5 {
        unread.act(json!({"send": {"to": "198.51.100.7:7", "count": 3}}))?;
    }
    unread.manager.sweep(None)?;
    let ledger = unread.manager.ledger(unread.cgroup_id)?;
    match (unread.closed()?, ledger.folded, ledger.fold_keys) {
        ((505, 0, 5), 479, 1) => Ok(()),
        (counts, ..) => Err(format!("(attempts, closed, open) are {counts:?} of {ledger:?}").into()),
    }
}

/// Every attempt has a destination of its own: past the quota they are counted by hook alone.
fn scan(name: &str) -> Result<(), Failed> {
    const PORTS: u64 = 5000;
    let unread = Unread::new(name, 1 << 20)?;
    let scan = format!(
        "import socket\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         for port in range(10000, {}):\n\
         \x20   try: s.sendto(b'?', ('198.51.100.9', port))\n\
         \x20   except PermissionError: pass",
        10_000 + PORTS
    );
    let report = unread.act(json!({"exec": {"run": ["python3", "-c", scan]}}))?;
    let ledger = unread.manager.ledger(unread.cgroup_id)?;
    let overflow = ledger.overflow[Hook::Sendmsg as usize];
    let right = unread.closed()? == (PORTS, 0, 0)
        && ledger.fold_keys == FOLD_QUOTA
        && overflow == PORTS - ledger.submitted - FOLD_QUOTA;
    if right { Ok(()) } else { Err(format!("{report:?}: {ledger:?}").into()) }
}

/// A connection that is open when its container is retired has no hook left that could end it.
fn retired(name: &str) -> Result<(), Failed> {
    let unread = Unread::new(name, 1 << 20)?;
    let action = json!({"connect": {"to": "198.51.100.7:7", "send": 100, "pause": "1s", "end": "reset"}});
    let running = unread.world.spawn_actor(0, &from::<Action>(action))?;
    unread.opened()?;
    unread.manager.sweep(None)?;
    if unread.closed()? != (1, 0, 1) {
        return Err("the sweeper ended a connection of a container that is enrolled".into());
    }
    unread.manager.retire(unread.cgroup_id)?;
    unread.manager.sweep(None)?;
    let counts = unread.closed()?;
    running.wait(LONG)?;
    if counts == (1, 1, 0) { Ok(()) } else { Err(format!("(attempts, closed, open) are {counts:?}").into()) }
}

/// What a socket was permitted under one enrolment is not permitted under the next, and that it tried is
/// recorded once.
fn enrolled_again(name: &str, action: &str) -> Result<(), Failed> {
    let unread = Unread::new(name, 1 << 20)?;
    let running = unread.world.spawn_actor(0, &serde_json::from_str::<Action>(action)?)?;
    unread.opened()?;
    unread.manager.retire(unread.cgroup_id)?;
    unread.enrol()?;
    let report = running.wait(LONG)?;
    let denied = unread.manager.ledger(unread.cgroup_id)?.denied;
    let _ = unread.closed()?;
    match report.outcome.as_str() {
        "ETIMEDOUT" | "EPERM" if denied == 1 => Ok(()),
        outcome => Err(format!("the call ended with {outcome}, and {denied} attempt(s) were denied").into()),
    }
}
