//! How worlds begin, live beside each other and end, and what is left of them.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use harness::{
    actor::{Action, Running},
    owner::Owner,
    scenario::types::{Agent, Connect, Host},
    world::{World, sweep},
};
use indexmap::IndexMap;
use libtest_mimic::Failed;

use super::stage::*;

pub fn nothing_remains() -> Outcome {
    let world = world("remains")?;
    equal("namespaces", namespaces("remains").len(), 3)?;
    let cgroups: Vec<_> = world.agents().map(|end| end.cgroup.clone()).collect();
    let files = format!("/run/clawker-lab/{}/remains-0", Owner::current());
    ensure(Path::new(&files).exists(), || format!("{files} is missing"))?;
    let mut held: Running = world
        .spawn_actor(0, &Action::Connect(Connect { pause: Some(LONG), ..connect("198.51.100.7:21") }))?;
    // A process that left its group is still in its cgroup.
    let report = act(&world, escape())?;
    outcome(&report, "ok")?;
    let procs = fs::read_to_string(cgroups[0].join("cgroup.procs"))?;
    let pids: Vec<u32> = procs.lines().filter_map(|line| line.parse().ok()).collect();
    equal("processes", pids.len(), 2)?;
    ensure(pids.contains(&held.id()), || format!("{pids:?} lacks {}", held.id()))?;
    let orphan = pids.into_iter().find(|&pid| pid != held.id()).ok_or("no orphan")?;
    let inodes: BTreeSet<u64> = namespaces("remains")
        .iter()
        .map(|name| Ok(fs::metadata(Path::new("/run/netns").join(name))?.ino()))
        .collect::<std::io::Result<_>>()?;
    drop(world);
    held.kill();
    drop(held);
    // Without a name, a namespace and its links live as long as a descriptor or a thread of it.
    let users = fs::read_dir("/proc/self/fd")?.flatten().map(|entry| entry.path());
    let threads = fs::read_dir("/proc/self/task")?.flatten().map(|entry| entry.path().join("ns/net"));
    let users = users.chain(threads).filter_map(|path| Some(fs::metadata(path).ok()?.ino()));
    equal("users of the namespaces", users.filter(|inode| inodes.contains(inode)).count(), 0)?;
    equal("namespaces", namespaces("remains"), Vec::new())?;
    ensure(cgroups.iter().all(|cgroup| !cgroup.exists()), || format!("{cgroups:?}"))?;
    ensure(!Path::new(&files).exists(), || format!("{files} is still there"))?;
    // init reaps it; it is dead as soon as its cgroup was empty.
    let state = fs::read_to_string(format!("/proc/{orphan}/stat")).unwrap_or_default();
    ensure(!alive(orphan) || state.contains(") Z "), || format!("the orphan lives: {state}"))
}

pub fn eight_worlds() -> Outcome {
    let one = |i: usize| -> Outcome {
        let world = world(&format!("par{i}"))?;
        for agent in 0..2 {
            let action = Connect { send: 50_000, receive: 50_000, ..connect("echo.test:7") };
            let report = world.spawn_actor(agent, &Action::Connect(action))?.wait(LONG)?;
            outcome(&report, "ok")?;
            let wire = wire_side(&world.wire(), &report)?;
            equal("bytes", (wire.bytes_out, wire.bytes_in), (50_000, 50_000))?;
        }
        equal("questions", world.far().queries().len(), 2)
    };
    let before = fs::read_link("/proc/thread-self/ns/net")?;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|i| scope.spawn(move || one(i))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| Failed::from("panicked"))?)
    })?;
    equal("the caller's namespace", fs::read_link("/proc/thread-self/ns/net")?, before)
}

pub fn errors() -> Outcome {
    let text = |result: Result<World, _>| {
        result.err().map(|error: harness::world::WorldError| error.to_string()).unwrap_or_default()
    };
    let bad = text(World::new("a/b", &hosts(), &[]));
    ensure(bad.contains("a/b"), || bad.clone())?;
    let agents = [Agent { caps: vec!["net_rwa".to_owned()], ..agent("scout") }];
    let bad = text(World::new("errcap", &hosts(), &agents));
    ensure(bad.contains("net_rwa") && bad.contains("scout"), || bad.clone())?;
    let two: IndexMap<String, Host> = from(serde_json::json!({
        "a.test": {"addr": ["198.51.100.7"], "serve": [{"tcp": 7}, {"http": 7}]}
    }));
    let bad = text(World::new("errport", &two, &[agent("scout")]));
    ensure(bad.contains("a.test") && bad.contains("7") && bad.contains("in use"), || bad.clone())?;
    let none: IndexMap<String, Host> =
        from(serde_json::json!({"a.test": {"addr": ["198.51.100.7"], "serve": [{"bytes": 7}]}}));
    let bad = text(World::new("errnone", &none, &[agent("scout")]));
    ensure(bad.contains("exactly one port"), || bad.clone())?;
    for id in ["errcap", "errport", "errnone"] {
        equal("left by a failed start", namespaces(id), Vec::new())?;
    }
    let first = world("errtwice")?;
    let bad = text(World::new("errtwice", &hosts(), &[agent("scout")]));
    ensure(bad.contains("errtwice") && bad.contains("exists"), || bad.clone())?;
    equal("the first is untouched", namespaces("errtwice").len(), 3)?;
    let missing = first
        .spawn_actor(0, &exec(&["no-such-program"]))
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    ensure(missing.contains("no-such-program"), || missing.clone())
}

/// First argument of the process that [`sweeps`] kills.
pub const VICTIM: &str = "__victim";

/// Has a world and an actor in it, says the actor's process id, and waits to be killed.
pub fn victim() -> ! {
    let world = World::new("victim", &hosts(), &[agent("scout")]).expect("a world");
    let hold = Action::Connect(Connect { pause: Some(LONG), ..connect("198.51.100.7:21") });
    let running = world.spawn_actor(0, &hold).expect("an actor");
    println!("{}", running.id());
    let escaped = world.spawn_actor(0, &escape()).expect("an actor").wait(LONG);
    println!("{}", escaped.expect("a report").outcome);
    loop {
        thread::park();
    }
}

pub fn sweeps() -> Outcome {
    let mut victim = std::process::Command::new("/proc/self/exe")
        .arg(VICTIM)
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(victim.stdout.take().ok_or("no output")?).lines();
    let actor: u32 = lines.next().ok_or("no line")??.parse()?;
    equal("the second actor", lines.next().ok_or("no line")??, "ok".to_owned())?;
    let world = world("sweep")?;
    let folder = world.agent(0).cgroup.ancestors().nth(2).ok_or("a shallow cgroup")?.to_owned();
    let owner = Owner::of(victim.id()).ok_or("the victim is gone")?;
    let (cgroup, prefix) = (folder.join(owner.to_string()), format!("clw-{owner}-"));
    let names = || -> Vec<_> {
        let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        names
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|name| name.starts_with(&prefix))
            .collect()
    };
    let swept = sweep()?;
    equal("the living are left alone", names().len(), 2)?;
    ensure(alive(actor) && cgroup.exists(), || format!("the victim lives, yet: {swept:?}"))?;

    victim.kill()?;
    victim.wait()?;
    let swept = sweep()?;
    ensure(swept.cgroups >= 1 && swept.namespaces >= 2 && swept.processes >= 1, || format!("{swept:?}"))?;
    ensure(!cgroup.exists() && names().is_empty(), || {
        format!("{} or {:?} is left", cgroup.display(), names())
    })?;
    // Killed with its harness; init may still have to reap it.
    let state = fs::read_to_string(format!("/proc/{actor}/stat")).unwrap_or_default();
    ensure(!alive(actor) || state.contains(") Z "), || format!("the actor lives: {state}"))?;
    ensure(!Path::new(&format!("/run/clawker-lab/{owner}")).exists(), || "files are left".to_owned())?;
    outcome(&act(&world, connect("198.51.100.7:7"))?, "ok")
}

pub fn kept() -> Outcome {
    let world = world("kept")?;
    let cgroups: Vec<_> = world.agents().map(|end| end.cgroup.clone()).collect();
    world.keep();
    let names = namespaces("kept");
    let stayed = names.len() == 3 && cgroups.iter().all(|cgroup| cgroup.exists());
    for name in &names {
        // The kept world is like any that `ip netns` made.
        let listed =
            std::process::Command::new("ip").args(["netns", "exec", name, "ip", "-br", "link"]).output()?;
        ensure(String::from_utf8_lossy(&listed.stdout).contains("UP"), || format!("{name}: {listed:?}"))?;
        ensure(std::process::Command::new("ip").args(["netns", "del", name]).status()?.success(), || {
            name.clone()
        })?;
    }
    for cgroup in &cgroups {
        fs::remove_dir(cgroup)?;
    }
    fs::remove_dir_all(format!("/run/clawker-lab/{}/kept-0", Owner::current()))?;
    fs::remove_dir_all(format!("/run/clawker-lab/{}/kept-1", Owner::current()))?;
    ensure(stayed, || format!("{names:?} {cgroups:?}"))
}

pub fn fast_enough() -> Outcome {
    // Bounds far above what is printed below, for a busy machine.
    let start = Instant::now();
    let world = World::new("fast", &hosts(), &[agent("scout")])?;
    let creation = start.elapsed();
    let mut actors: Vec<_> = (0..20)
        .map(|_| {
            let start = Instant::now();
            act(&world, connect("198.51.100.7:81")).map(|_| start.elapsed())
        })
        .collect::<Result<_, _>>()?;
    actors.sort();
    let start = Instant::now();
    drop(world);
    eprintln!("creation {creation:?}, actor {:?} (median), removal {:?}", actors[10], start.elapsed());
    ensure(creation < Duration::from_millis(500), || format!("creation took {creation:?}"))?;
    ensure(actors[10] < Duration::from_millis(100), || format!("an actor took {:?}", actors[10]))
}
