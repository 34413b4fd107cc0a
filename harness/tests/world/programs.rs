//! Real programs, as the agent and on the far side.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use harness::{
    actor::Action,
    far::Connection,
    owner::Owner,
    scenario::types::{Connect, End, Exec},
    world::World,
};

use super::stage::*;

pub fn programs() -> Outcome {
    let world = world("programs")?;
    let report = act(
        &world,
        exec(&["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "http://web.test/"]),
    )?;
    outcome(&report, "ok")?;
    equal("curl", report.stdout.as_str(), "418 1234")?;
    let report = act(&world, exec(&["dig", "+noall", "+answer", "echo.test", "AAAA"]))?;
    outcome(&report, "ok")?;
    ensure(report.stdout.contains("42\tIN\tAAAA\t2001:db8:1::7"), || report.stdout.clone())?;
    let report = act(&world, exec(&["dig", "+tcp", "+short", "echo.test"]))?;
    equal("dig over TCP", report.stdout.as_str(), "198.51.100.7\n")?;
    let report = act(&world, exec(&["nc", "-v", "-w", "1", "198.51.100.7", "81"]))?;
    outcome(&report, "exit 1")?;
    ensure(report.stderr.contains("refused"), || format!("{report:?}"))?;
    let report = act(&world, exec(&["nc", "-d", "198.51.100.7", "22"]))?;
    equal("nc reads", report.stdout.len(), 300)?;
    outcome(&act(&world, exec(&["sh", "-c", "exit 7"]))?, "exit 7")?;
    outcome(&act(&world, exec(&["sh", "-c", "kill -9 $$"]))?, "killed")?;
    let report = act(&world, exec(&["head", "-c", "1000000", "/dev/zero"]))?;
    outcome(&report, "ok")?;
    equal("bounded output", report.stdout.len(), 64 * 1024)
}

pub fn web() -> Outcome {
    let world = world("web")?;
    let report = act(
        &world,
        exec(&["curl", "-sS", "-k", "-v", "-o", "/dev/null", "-w", "%{size_download}", "https://web.test/"]),
    )?;
    outcome(&report, "ok")?;
    equal("over TLS", report.stdout.as_str(), "4321")?;
    let find = |all: &[Connection]| all.iter().find(|c| c.local.port() == 443).cloned();
    // It counts what it sends after the call, when curl may have it already.
    let told = world.far().wait(Instant::now() + LONG, |all| find(all).is_some_and(|c| c.sent > 4321));
    ensure(told, || format!("ciphertext is longer than text: {:?}", world.far().connections()))?;
    let wire = world.wire();
    let connection = find(&world.far().connections()).ok_or("no connection")?;
    let seen = wire.connections.iter().find(|c| c.far.port() == 443).ok_or("not on the wire")?;
    equal("ciphertext out", seen.bytes_out, connection.received)?;
    // curl has its body and closes; the server's close_notify (24 bytes) may come too late to be acknowledged.
    let late = connection.sent - seen.bytes_in;
    ensure(late == 0 || late == 24, || format!("ciphertext in: {seen:?} {connection:?}"))
}

/// Answers each connection with what it finds, from a child in a session of its own.
const SERVER: &str = r#"
import os, socket
if os.fork() == 0:
    os.setsid()
    server = socket.create_server(("::", 99), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        peer, _ = server.accept()
        text = open("/srv/words/first").read() + open("/etc/hosts").read() + open("/srv/made").read()
        peer.sendall(text.encode())
        peer.close()
os.wait()
"#;

pub fn server_program() -> Outcome {
    let words = "first words, ";
    let hosts = serde_json::json!({"real.test": {"addr": ["198.51.100.99", "2001:db8:99::1"], "serve": [{
        "tcp": 99,
        "run": ["python3", "-c", SERVER],
        "prepare": [["sh", "-c", "printf ', made by '$(id -u) > made"]],
        "files": {"words/first": words, "/etc/hosts": "other hosts"},
    }]}});
    let text = format!("{words}other hosts, made by 65534");
    let before = fs::read_to_string("/etc/hosts")?;
    let world = World::new("program", &from(hosts), &[agent("scout")])?;
    let folder = format!("/run/clawker-lab/{}/program-far0", Owner::current());
    ensure(Path::new(&folder).exists(), || format!("{folder} is not there"))?;
    let cgroup = world.agent(0).cgroup.with_file_name("program-far0");
    let processes = fs::read_to_string(cgroup.join("cgroup.procs"))?;
    ensure(processes.lines().count() == 2, || format!("not the server and its child: {processes}"))?;
    for address in ["198.51.100.99", "[2001:db8:99::1]"] {
        let received = text.len() as u64;
        let report =
            act(&world, Connect { receive: received, end: End::Peer, ..connect(&format!("{address}:99")) })?;
        outcome(&report, "ok")?;
        equal("its text", report.received, received)?;
    }
    equal("the machine's own file", fs::read_to_string("/etc/hosts")?, before)?;
    drop(world);
    ensure(!cgroup.exists(), || format!("{} is left, and who is in it", cgroup.display()))?;
    ensure(!Path::new(&folder).exists(), || format!("{folder} is left"))
}

pub fn broken_server_programs() -> Outcome {
    let error = |serve: serde_json::Value| {
        let hosts = serde_json::json!({"real.test": {"addr": ["198.51.100.99"], "serve": [serve]}});
        World::new("broken", &from(hosts), &[]).err().map(|error| error.to_string()).unwrap_or_default()
    };
    for (serve, said) in [
        (serde_json::json!({"tcp": 99, "run": ["no-such-server"]}), "there is no `no-such-server` in PATH"),
        (serde_json::json!({"tcp": 99, "run": ["sh", "-c", "echo out of cheese; exit 3"]}), "out of cheese"),
        (
            serde_json::json!({"tcp": 99, "run": ["sleep", "1000"], "prepare": [["sh", "-c", "echo no key; exit 4"]]}),
            "ended with exit 4: no key",
        ),
        (
            serde_json::json!({"tcp": 99, "run": ["sleep", "1000"], "files": {"/etc/not/there": ""}}),
            "this machine has no /etc/not/there",
        ),
    ] {
        let text = error(serve);
        ensure(text.contains("host `real.test` port 99") && text.contains(said), || text.clone())?;
    }
    Ok(())
}

pub fn time_out() -> Outcome {
    let world = world("timeout")?;
    let running = world.spawn_actor(0, &exec(&["sh", "-c", "sleep 1000 & echo begun; wait"]))?;
    let id = running.id();
    let report = running.wait(Duration::from_millis(300))?;
    outcome(&report, "timeout")?;
    equal("output so far", report.stdout.as_str(), "begun\n")?;
    ensure(!alive(id), || "the shell lives".to_owned())?;
    let own = Action::Exec(Exec {
        run: vec!["sleep".into(), "1000".into()],
        timeout: Some(Duration::from_millis(50)),
        ..Exec::default()
    });
    outcome(&act(&world, own)?, "timeout")
}
