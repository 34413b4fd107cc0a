//! A network namespace that was made in the container's own cgroup, as a container runtime makes it: the kernel's own sockets
//! there are the container's, and what the kernel says by itself is neither held back nor recorded. Needs root.

mod lab;

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use harness::{
    actor::{Action, Report},
    owner::Owner,
    reexec,
    scenario::types::{Agent, Host},
    world::{Ground, House, World},
};
use indexmap::IndexMap;
use libtest_mimic::{Arguments, Failed};
use manager::{EnrolRequest, LoadOptions, Manager, Network};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Longer than any action here takes.
const LONG: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    if let Some(code) = reexec::role() {
        return code;
    }
    let trials = vec![
        lab::trial("neighbours are found", |_| neighbours()),
        lab::trial("a closed port resets", |_| reset()),
        lab::trial("what a process says is no kernel's", |_| forged()),
    ];
    let mut arguments = Arguments::from_args();
    // One name of the namespaces.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the test's own JSON")
}

/// A process in a cgroup and network namespace of its own, as a container's first one.
struct Contained {
    child: Child,
    cgroup: PathBuf,
}

impl Contained {
    fn start() -> Result<Self, Failed> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let cgroup2 = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let mount = cgroup2.and_then(|line| line.split(' ').nth(1)).ok_or("no cgroup v2")?;
        let cgroup = PathBuf::from(mount).join(format!("clawker-lab/{}/contained", Owner::current()));
        fs::create_dir_all(&cgroup)?;
        let child = Command::new("sh")
            .args(["-c", "echo $$ > \"$1/cgroup.procs\" && exec unshare --net sleep 120", "sh"])
            .arg(&cgroup)
            .spawn()?;
        let contained = Self { child, cgroup };
        let own = fs::read_link("/proc/self/ns/net")?;
        let deadline = Instant::now() + LONG;
        while fs::read_link(format!("/proc/{}/ns/net", contained.child.id()))? == own {
            if Instant::now() >= deadline {
                return Err("the process has no network namespace of its own".into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(contained)
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir(&self.cgroup);
    }
}

/// An enrolled agent in such a place, on whose link nobody knows another.
struct Place {
    manager: Manager,
    world: World,
    cgroup_id: u64,
    _state: tempfile::TempDir,
}

impl Place {
    fn new(name: &str, caps: &[&str]) -> Result<Self, Failed> {
        let contained = Contained::start()?;
        let hosts: IndexMap<String, Host> =
            from(json!({"api.test": {"addr": ["2001:db8:1::7"], "serve": [{"tcp": 7, "reply": "echo"}]}}));
        let agents: [Agent; 1] = [from(json!({"agent": "scout", "caps": caps}))];
        let state = tempfile::tempdir()?;
        let manager = Manager::load(&LoadOptions {
            pin_dir: format!("/sys/fs/bpf/clawker-lab-{}-{name}", Owner::current()).into(),
            state_dir: state.path().to_owned(),
            ..LoadOptions::default()
        })?;
        let house = House { pid: contained.child.id(), id: String::new(), keeper: Box::new(contained) };
        let world = World::on(name, &hosts, &agents, Ground { houses: vec![house], ..Ground::default() })
            .inspect_err(|_| drop(manager.unload()))?;
        let mut place = Self { manager, world, cgroup_id: 0, _state: state };
        for side in ["0", "far"] {
            place.enter(side, &["ip", "-6", "neigh", "flush", "all", "nud", "permanent"])?;
        }
        let end = place.world.agent(0);
        let mut request = EnrolRequest::new(&end.cgroup, "scout");
        request.rules = from(json!([{"dst": "2001:db8:1::7", "proto": "tcp", "port": 7}]));
        request.network =
            Network { subnets: end.subnets.to_vec(), gateways: end.gateways.to_vec(), ..Network::default() };
        request.accept_unobserved = true;
        place.cgroup_id = place.manager.enrol(&request)?.cgroup_id;
        Ok(place)
    }

    /// What a program in a namespace of the world says, on both outputs.
    fn enter(&self, side: &str, program: &[&str]) -> Result<String, Failed> {
        let name = self.world.agent(0).netns.display().to_string();
        let name = name.strip_suffix('0').ok_or("a namespace's name")?.to_owned() + side;
        let output = Command::new("nsenter")
            .arg(format!("--net={name}"))
            .args(program)
            .stdin(Stdio::null())
            .output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn act(&self, action: Value) -> Result<Report, Failed> {
        Ok(self.world.spawn_actor(0, &from::<Action>(action))?.wait(LONG)?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.manager.unload();
    }
}

/// Each side asks for the other, and is answered.
fn neighbours() -> Result<(), Failed> {
    let place = Place::new("neighbours", &[])?;
    let report = place
        .act(json!({"connect": {"to": "[2001:db8:1::7]:7", "send": 5, "receive": 5, "timeout": "3s"}}))?;
    assert_eq!(report.outcome, "ok", "{report:?}");
    for side in ["0", "far"] {
        let found = place.enter(side, &["ip", "-6", "neigh", "show"])?;
        assert!(found.contains("lladdr"), "nobody was found by {side}: {found:?}");
    }
    let ledger = place.manager.ledger(place.cgroup_id)?;
    assert_eq!((ledger.denied, ledger.opened), (0, 1), "{ledger:?}");
    Ok(())
}

/// Who connects to a port that nobody listens on is told so at once.
fn reset() -> Result<(), Failed> {
    let place = Place::new("reset", &[])?;
    for address in [place.world.agent(0).v6, place.world.agent(0).address] {
        let script = format!("exec 3<>/dev/tcp/{address}/9");
        let said = place.enter("far", &["timeout", "5", "bash", "-c", &script])?;
        assert!(said.contains("refused"), "{address}: {said:?}");
    }
    assert_eq!(place.manager.ledger(place.cgroup_id)?.denied, 0);
    Ok(())
}

/// The same packets of a raw socket that a process makes: it gets none.
fn forged() -> Result<(), Failed> {
    let place = Place::new("forged", &["net_raw"])?;
    let script = "import socket\nsocket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)";
    let report = place.act(json!({"exec": {"run": ["python3", "-c", script]}}))?;
    assert!(report.stderr.contains("PermissionError"), "{report:?}");
    assert_eq!(place.manager.ledger(place.cgroup_id)?.denied, 1);
    Ok(())
}
