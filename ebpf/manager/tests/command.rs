//! The `ebpf-manager` command as its user meets it: what it says, how it exits, and what two of it do to
//! each other. Needs root.
#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use manager::Program;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use support::{BINARY, LONG, Set, said};

/// `ebpf-manager run` in a network namespace of its own; terminated on drop.
struct Daemon {
    child: Child,
    log: Receiver<Value>,
}

impl Daemon {
    fn start(set: &Set) -> Self {
        let manager = set.command(Path::new(BINARY), &["run"]);
        let mut child = Command::new("unshare")
            // Where nothing is up, any address can be bound.
            .args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
            .arg(manager.get_program())
            .args(manager.get_args())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, log) = channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        // Until it is in a network of its own, a command for that would be one for this machine's.
        let network = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
        let (own, began) = (network("self"), Instant::now());
        while network(&child.id().to_string()) == own {
            assert!(began.elapsed() < LONG, "it is in no network of its own");
            thread::sleep(Duration::from_millis(1));
        }
        Self { child, log }
    }

    /// Every event up to the first with this name.
    fn events_until(&self, name: &str) -> Vec<String> {
        let mut events = Vec::new();
        loop {
            let line = self.log.recv_timeout(LONG).unwrap();
            events.push(line["fields"]["event"].as_str().unwrap_or_default().to_owned());
            if events.last().is_some_and(|event| event == name) {
                return events;
            }
        }
    }

    fn in_its_network(&self, command: &str) {
        let pid = self.child.id().to_string();
        let nsenter = ["-t", &pid, "-n", "sh", "-c", command];
        let status = Command::new("nsenter").args(nsenter).status().unwrap();
        assert!(status.success(), "{command:?}");
    }

    fn stop(mut self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn each_failure_is_said_once_and_has_its_exit_code() {
    let set = Set::new("codes");
    let expect = |(text, code): (String, Option<i32>), expected: i32, words: &str| {
        assert!(code == Some(expected) && text.matches(words).count() == 1, "{code:?}: {text}");
    };
    expect(set.run(&["status"]), 3, "no programs are pinned");
    expect(set.run(&["unload", "--force"]), 3, "no programs are pinned");
    expect(set.run(&["statu"]), 2, "unrecognized subcommand");
    let rules = set.state.path().join("rules.yaml");
    fs::write(&rules, "- {dst: api.test, prot: https}").unwrap();
    expect(set.enrol(&["--rules", rules.to_str().unwrap()]), 2, "unknown field `prot`");
    expect(set.run(&["bypass", "on", "1", "--for", "0"]), 2, "`bypass off` ends a bypass");
    expect(set.run(&["bypass", "on", "1", "--for", "86401"]), 2, "at most a day");
    expect(set.run(&["load"]), 0, "loaded and pinned");
    expect(set.run(&["load"]), 3, "pinned at");
    expect(set.enrol(&["--resolver", "[fe80::1]:53", "--upstream", "203.0.113.53:53"]), 2, "link-local");
    expect(set.enrol(&[]), 0, "enrolled cgroup");
    expect(set.enrol(&[]), 3, "cannot be enrolled: it is enrolled already");
    expect(set.run(&["retire", "1"]), 3, "no container with cgroup id 1");
    expect(set.run(&["unload"]), 3, "attached to 1 container(s)");
    assert_eq!(set.status()["containers"][0]["attached"][0], Program::ALL.len(), "nothing was detached");
    let id = set.status()["containers"][0]["cgroup_id"].to_string();
    expect(set.run(&["retire", &id]), 0, "retired");
    expect(set.run(&["retire", &id]), 3, "no container with cgroup id");
    expect(set.run(&["unload"]), 0, "0 container(s) detached");
    expect(set.run(&["load"]), 0, "loaded and pinned");
    expect(set.enrol(&[]), 0, "enrolled cgroup");
    expect(set.run(&["unload", "--force"]), 0, "1 container(s) detached");

    // Where whoever is not root can run it.
    let binary = set.state.path().join("ebpf-manager");
    // By a process of its own: one that another test starts meanwhile would hold the file open for writing, and a file
    // that is written to is not run.
    assert!(Command::new("cp").arg(BINARY).arg(&binary).status().unwrap().success());
    fs::set_permissions(set.state.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let output = set.command(&binary, &["load"]).uid(65_534).gid(65_534).output().unwrap();
    expect(said(&output), 1, "this is not root");
}

/// A container that runs is not let go by a slip.
#[test]
fn what_has_processes_is_not_retired() {
    let set = Set::new("live");
    assert_eq!(set.run(&["load"]).1, Some(0));
    assert_eq!(set.enrol(&[]).1, Some(0));
    let id = set.status()["containers"][0]["cgroup_id"].to_string();
    // Not in the cgroup itself: an init system of the container has its processes in those below.
    let below = set.cgroup.join("init.scope");
    fs::create_dir(&below).unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(below.join("cgroup.procs"), child.id().to_string()).unwrap();
    let refused = set.run(&["retire", &id]);
    let attached = set.status()["containers"][0]["attached"][0].clone();
    let forced = set.run(&["retire", &id, "--force"]);
    let again = set.run(&["retire", &id]);
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_dir(below).unwrap();
    let cgroup = set.cgroup.display().to_string();
    assert!(
        refused.1 == Some(3) && refused.0.contains(&cgroup) && refused.0.contains("--force"),
        "{refused:?}"
    );
    assert_eq!(attached, Program::ALL.len(), "nothing was detached");
    assert_eq!(forced.1, Some(0), "{forced:?}");
    assert!(again.0.contains("no container with cgroup id"), "{again:?}");
}

/// A container that was started again has another cgroup, and is told that its view's address is not free.
#[test]
fn the_view_of_one_that_is_gone_is_named() {
    let set = Set::new("again");
    assert_eq!(set.run(&["load"]).1, Some(0));
    let view = ["--resolver", "127.0.0.1:5353", "--upstream", "203.0.113.53:53"];
    assert_eq!(set.enrol(&view).1, Some(0));
    let id = set.status()["containers"][0]["cgroup_id"].to_string();
    fs::remove_dir(&set.cgroup).unwrap();
    // The kernel lets go of it in its own time.
    set.until(|status| status["containers"][0]["attached"][0] == 0);
    let rules = set.state.path().join("rules.yaml");
    fs::write(&rules, "[]").unwrap();
    let applied = set.run(&["rules", "apply", rules.to_str().unwrap(), "--cgroup-id", &id]);
    assert!(
        applied.1 == Some(0) && applied.0.contains(&format!("`ebpf-manager retire {id}`")),
        "{applied:?}"
    );
    fs::create_dir(&set.cgroup).unwrap();
    let refused = set.enrol(&view);
    assert!(
        refused.1 == Some(3) && refused.0.contains(&format!("`ebpf-manager retire {id}` first")),
        "{refused:?}"
    );
    assert_eq!(set.run(&["retire", &id]).1, Some(0));
    assert_eq!(set.enrol(&view).1, Some(0));
}

/// What a start gate waits for is there only while every hook is attached and the resolver's view answers.
#[test]
fn the_sign_of_a_complete_enrolment() {
    let set = Set::new("ready");
    assert_eq!(set.run(&["load"]).1, Some(0));
    let view = ["--resolver", "127.0.0.1:5353", "--upstream", "203.0.113.53:53"];
    assert_eq!(set.enrol(&view).1, Some(0));
    let id = set.status()["containers"][0]["cgroup_id"].to_string();
    let sign = set.state.path().join("ready").join(&id);
    assert!(!sign.exists(), "nobody serves its view");
    let daemon = Daemon::start(&set);
    set.until(|status| status["containers"][0]["resolver"]["state"] == "serving");
    let until = |there: bool| {
        let deadline = Instant::now() + LONG;
        while sign.exists() != there {
            assert!(Instant::now() < deadline, "the sign is {}there", if there { "not " } else { "" });
            thread::sleep(Duration::from_millis(20));
        }
    };
    until(true);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(fs::read_to_string(&sign).unwrap(), boot, "it says nothing but that, and when");
    // One that a folder on a disk has kept is made anew.
    fs::write(&sign, "of another boot").unwrap();
    let deadline = Instant::now() + LONG;
    while fs::read_to_string(&sign).ok().as_ref() != Some(&boot) {
        assert!(Instant::now() < deadline, "the sign is of another boot");
        thread::sleep(Duration::from_millis(20));
    }
    // A hook that is detached takes the sign away.
    fs::remove_file(set.pins.join("links").join(&id).join("connect4")).unwrap();
    until(false);
    assert_eq!(set.run(&["retire", &id]).1, Some(0));
    assert_eq!(set.enrol(&[]).1, Some(0));
    until(true);
    assert_eq!(set.run(&["retire", &id]).1, Some(0));
    assert!(!sign.exists(), "at once");
    drop(daemon);
}

/// In a network where every address is its own: an upstream that knows no name, and says so as an authority; then what
/// each question from `source` is answered: its flags and code, `-` for nothing.
const ASK: &str = r#"
import socket, struct, sys, threading
def message(flags, name, answer_to=None):
    head = struct.pack(">HHHHHH", 7, flags, 1, 0, 0, 0)
    return head + b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0\0\1\0\1"
def bound(address, port=0):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, port))
    s.settimeout(30)
    return s
def upstream(s):
    while True:
        question, peer = s.recvfrom(512)
        s.sendto(question[:2] + b"\x85\x83" + question[4:], peer)
threading.Thread(target=upstream, args=(bound("203.0.113.53", 53),), daemon=True).start()
stranger = bound("198.18.0.4")
stranger.sendto(message(0x0100, "api.test"), ("198.18.0.1", 5301))
front = bound("198.18.0.3")
for name in ["api.test", "other.test"]:
    front.sendto(message(0x0100, name), ("198.18.0.1", 5301))
    print(name, front.recv(512)[2:4].hex())
print("stranger", flush=True)
sys.stdin.read()
stranger.setblocking(False)
try:
    print(stranger.recv(512))
except BlockingIOError:
    print("-")
"#;

/// A view behind another server answers that server alone, and says which answers are by policy.
#[test]
fn a_view_stands_behind_another_server() {
    let set = Set::new("behind");
    assert_eq!(set.run(&["load"]).1, Some(0));
    let rules = set.state.path().join("rules.yaml");
    fs::write(&rules, "- {dst: api.test, proto: https}").unwrap();
    let resolver = ["--resolver", "198.18.0.3:53", "--upstream", "203.0.113.53:53"];
    let (text, code) = set.enrol(&[&resolver[..], &["--view", "198.18.0.3:53"]].concat());
    assert!(code == Some(2) && text.contains("another server is there"), "{text}");
    let rules = ["--view", "198.18.0.1:5301", "--rules", rules.to_str().unwrap()];
    assert_eq!(set.enrol(&[&resolver[..], &rules].concat()).1, Some(0));
    let shown = set.run(&["status"]).0;
    assert!(shown.contains("198.18.0.3:53") && shown.contains("> 198.18.0.1:5301"), "{shown}");
    assert_eq!(set.status()["containers"][0]["dns"]["view"], "198.18.0.1:5301");

    let daemon = Daemon::start(&set);
    for address in ["198.18.0.1", "198.18.0.3", "198.18.0.4", "203.0.113.53"] {
        daemon.in_its_network(&format!("ip address add {address}/32 dev lo"));
    }
    daemon.events_until("view_started");
    let pid = daemon.child.id().to_string();
    let mut asker = Command::new("nsenter");
    asker.args(["-t", &pid, "-n", "python3", "-c", ASK]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut asker = asker.spawn().unwrap();
    let mut lines = BufReader::new(asker.stdout.take().unwrap()).lines().map(Result::unwrap);
    // That the upstream is an authority is not this server's to say.
    assert_eq!(lines.next().unwrap(), "api.test 8183", "no such name, says the upstream");
    assert_eq!(lines.next().unwrap(), "other.test 8583", "no such name, by policy");
    // It is logged instead of answered.
    daemon.events_until("resolver_stranger");
    drop(asker.stdin.take());
    assert_eq!(lines.collect::<Vec<_>>(), ["stranger", "-"]);
    assert!(asker.wait().unwrap().success());
}

/// In such a network: an upstream whose names resolve to the addresses that they spell, with an alias first; then how each
/// question is answered: its flags and code, and the addresses.
const LED: &str = r#"
import socket, struct, sys, threading
def bound(address, port=0):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, port))
    s.settimeout(30)
    return s
def record(kind, data):
    return b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data
def upstream(s):
    while True:
        question, peer = s.recvfrom(512)
        texts = question[13:13 + question[12]].decode().replace("_", ":").replace("-", ".").split("x")
        kinds = [(28 if ":" in text else 1, text) for text in texts]
        packed = [record(k, socket.inet_pton(socket.AF_INET6 if k == 28 else socket.AF_INET, t)) for k, t in kinds]
        answers = [record(5, b"\x05alias\xc0\x0c")] + packed
        s.sendto(question[:2] + b"\x85\x80" + question[4:6] + struct.pack(">HHH", len(answers), 0, 0) + question[12:] + b"".join(answers), peer)
def addresses(answer):
    at = 12
    while answer[at]:
        at += answer[at] + 1
    at += 5
    for _ in range(struct.unpack(">H", answer[6:8])[0]):
        while answer[at] not in (0, 0xc0):
            at += answer[at] + 1
        at += 1 if answer[at] == 0 else 2
        kind, _, _, length = struct.unpack(">HHIH", answer[at:at + 10])
        data = answer[at + 10:at + 10 + length]
        at += 10 + length
        yield "alias" if kind == 5 else socket.inet_ntop(socket.AF_INET6 if kind == 28 else socket.AF_INET, data)
threading.Thread(target=upstream, args=(bound("203.0.113.53", 53),), daemon=True).start()
front = bound("198.18.0.3")
for line in sys.stdin:
    texts, kind = line.split()
    name = texts.replace(":", "_").replace(".", "-").replace("+", "x").encode()
    head = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0)
    question = head + bytes([len(name)]) + name + b"\x03led\x04test\0" + struct.pack(">HH", int(kind), 1)
    front.sendto(question, ("198.18.0.1", 5301))
    answer = front.recv(4096)
    print(answer[2:4].hex(), *addresses(answer), flush=True)
"#;

/// Whoever serves a ruled name does not choose where its rules lead: such addresses are left out, and it is told.
#[test]
fn a_name_leads_nobody_where_none_leads() {
    const A: u16 = 1;
    const AAAA: u16 = 28;
    const ANY: u16 = 255;
    let set = Set::new("led");
    assert_eq!(set.run(&["load"]).1, Some(0));
    let rules = set.state.path().join("rules.yaml");
    fs::write(&rules, "- {dst: '*.led.test', proto: udp, port: 1-65535}").unwrap();
    let enrol = [
        &["--resolver", "198.18.0.3:53", "--upstream", "203.0.113.53:53", "--view", "198.18.0.1:5301"][..],
        &["--subnet", "198.18.0.0/24", "--gateway", "198.18.0.1", "--infrastructure", "198.18.0.2:9"],
        &["--forbidden", "198.18.1.0/24", "--forbidden", "2001:db8:1::/64"],
        &["--rules", rules.to_str().unwrap()],
    ];
    let (text, code) = set.enrol(&enrol.concat());
    assert_eq!(code, Some(0), "{text}");
    // What was enrolled by a version that knew of no such networks is served as it was.
    let cgroup_id = set.status()["containers"][0]["cgroup_id"].as_u64().unwrap();
    let view = set.state.path().join("views").join(format!("{cgroup_id}.json"));
    let written = fs::read(&view).unwrap();
    let mut old: Value = serde_json::from_slice(&written).unwrap();
    let networks = old.as_object_mut().unwrap().remove("forbidden").unwrap();
    assert_eq!(networks, serde_json::json!(["198.18.1.0/24", "2001:db8:1::/64"]));
    fs::write(&view, old.to_string()).unwrap();

    let daemon = Daemon::start(&set);
    for address in ["198.18.0.1", "198.18.0.3", "203.0.113.53"] {
        daemon.in_its_network(&format!("ip address add {address}/32 dev lo"));
    }
    daemon.events_until("view_started");
    let pid = daemon.child.id().to_string();
    let mut asker = Command::new("nsenter");
    asker.args(["-t", &pid, "-n", "python3", "-c", LED]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut asker = asker.spawn().unwrap();
    let mut question = asker.stdin.take().unwrap();
    let mut lines = BufReader::new(asker.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut ask = |addresses: &str, kind: u16| {
        writeln!(question, "{addresses} {kind}").unwrap();
        lines.next().unwrap()
    };
    assert_eq!(ask("198.18.1.1", A), "8180 alias 198.18.1.1", "the old state says nothing of it");
    fs::write(&view, written).unwrap();
    // `aa`: it is by policy. The name is there all the same, and says so.
    for address in ["198.18.1.1", "169.254.169.254", "100.100.100.200", "127.0.0.11", "0.0.0.0"] {
        assert_eq!(ask(address, A), "8580 alias", "{address}");
    }
    for address in [
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::c612:101",
        "2001:db8:1::7",
        "fd00:ec2::254",
        "fe80::1",
        // A neighbour, by way of a translator: the kernel would not know it.
        "64:ff9b::c612:9",
    ] {
        assert_eq!(ask(address, AAAA), "8580 alias", "{address}");
    }
    // Of several, the others are there, and it is the upstream's answer.
    assert_eq!(ask("169.254.169.254+203.0.113.7+198.18.1.1", A), "8180 alias 203.0.113.7");
    assert_eq!(ask("10.0.0.7+::1+2001:db8:2::7", ANY), "8180 alias 10.0.0.7 2001:db8:2::7");
    // In its own network the kernel decides, and records.
    assert_eq!(ask("198.18.0.9+198.18.0.2", A), "8180 alias 198.18.0.9 198.18.0.2");
    let status = set.until(|status| status["containers"][0]["answers_withheld"] == 14);
    assert_eq!(status["containers"][0]["questions_put_off"], 0);
    let shown = set.run(&["status"]).0;
    assert!(shown.contains("14 answers had addresses where no name leads"), "{shown}");
    let dump = set.run(&["dump"]).0;
    assert!(dump.contains("203.0.113.7") && !dump.contains("169.254.169.254"), "{dump}");

    // Under a bypass it may go anywhere; what is stamped would outlive that.
    let id = cgroup_id.to_string();
    assert_eq!(set.run(&["bypass", "on", &id, "--for", "600"]).1, Some(0));
    assert_eq!(ask("169.254.169.254", A), "8180 alias 169.254.169.254");
    assert!(!set.run(&["dump"]).0.contains("169.254.169.254"));
    assert_eq!(set.run(&["bypass", "off", &id]).1, Some(0));
    assert_eq!(ask("169.254.169.254", A), "8580 alias");
    drop(question);
    assert!(asker.wait().unwrap().success());
    let told = daemon.log.try_iter().filter(|line| line["fields"]["event"] == "resolver_forbidden_address");
    let told: Vec<Value> = told.collect();
    let [told] = told.as_slice() else { panic!("one line a minute, at most: {told:?}") };
    let said = |name: &str| told["fields"][name].as_str().unwrap_or_default();
    assert_eq!((said("name"), said("address")), ("198-18-1-1.led.test", "198.18.1.1"), "{told}");
    assert_eq!((said("why"), &told["level"]), ("in a network of the stack itself", &"WARN".into()), "{told}");
}

#[test]
fn an_audit_exits_with_what_it_found() {
    use abi::spool::{INTAKE, Intake, format::VERSION, table};

    let set = Set::new("audit");
    assert_eq!(set.run(&["audit"]).1, Some(2), "nothing is loaded");
    assert_eq!(set.run(&["load"]).1, Some(0));
    assert_eq!(set.enrol(&[]).1, Some(0));
    let (text, code) = set.run(&["audit"]);
    assert!(code == Some(0) && text.contains("not asked") && text.contains("the ledger is closed"), "{text}");
    let documents = set.state.path().join("export.jsonl");
    fs::write(&documents, "no document").unwrap();
    let (text, code) = set.run(&["audit", "--documents", documents.to_str().unwrap()]);
    assert!(code == Some(2) && text.contains("line 1: "), "{text}");

    // A spool that has what the kernel never handed over.
    let cgroup_id = set.status()["containers"][0]["cgroup_id"].as_u64().unwrap();
    let mut own = [0; table::VALUES];
    own[..3].copy_from_slice(&[table::MAGIC, VERSION.into(), 7]);
    let row = |key, values: &table::Values| {
        let mut row: Vec<u8> =
            table::seal(1, key, values).iter().flat_map(|word| word.to_ne_bytes()).collect();
        row.resize(table::ROW, 0);
        row
    };
    let intake = Intake { records: 5, ..Intake::default() };
    let spool = set.state.path().join("elsewhere");
    fs::create_dir(&spool).unwrap();
    fs::write(spool.join(INTAKE), [row(table::SELF, &own), row(cgroup_id, &intake.values())].concat())
        .unwrap();
    let args = ["audit", "--spool-dir", spool.to_str().unwrap(), "--json"];
    let output = set.command(Path::new(BINARY), &args).output().unwrap();
    let audit: Value = serde_json::from_slice(&output.stdout).unwrap();
    let residuals = &audit["containers"][0]["residuals"];
    assert_eq!(
        (output.status.code(), &residuals["ring"]),
        (Some(1), &serde_json::json!([-5, -5])),
        "{audit:#}"
    );
    assert_eq!(residuals["spool"], serde_json::json!([5, 5]), "nothing became of them");
    assert_eq!((&residuals["store"], &audit["closed"]), (&Value::Null, &Value::Bool(false)), "{audit:#}");

    fs::write(spool.join(INTAKE), row(cgroup_id, &intake.values())).unwrap();
    let (text, code) = set.run(&args);
    assert!(code == Some(2) && text.contains("own row cannot be read"), "{text}");
}

#[test]
fn of_many_that_enrol_one_container_at_once_one_does() {
    let set = Set::new("race");
    assert_eq!(set.run(&["load"]).1, Some(0));
    let results: Vec<_> = thread::scope(|scope| {
        let racers: Vec<_> = (0..6).map(|_| scope.spawn(|| set.enrol(&[]))).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let enrolled = results.iter().filter(|(_, code)| *code == Some(0)).count();
    let refused = results.iter().filter(|(text, code)| *code == Some(3) && text.contains("enrolled already"));
    assert_eq!((enrolled, refused.count()), (1, 5), "{results:?}");
    assert_eq!(set.status()["containers"][0]["attached"][0], Program::ALL.len());
}

#[test]
fn one_daemon_serves_a_set_and_status_shows_how_its_views_stand() {
    let set = Set::new("views");
    assert_eq!(set.run(&["load"]).1, Some(0));
    let (text, code) = set.enrol(&["--resolver", "192.0.2.1:5300", "--upstream", "203.0.113.53:53"]);
    assert!(code == Some(0) && text.contains("once `ebpf-manager run` is running"), "{text}");
    let view = |status: &Value| status["containers"][0]["resolver"].clone();
    let state = |status: &Value| view(status)["state"].as_str().unwrap().to_owned();
    let before = set.status();
    assert!(before["daemon_pid"].is_null() && state(&before) == "daemon_not_running", "{before:#}");

    let daemon = Daemon::start(&set);
    let failed = set.until(|status| state(status) == "failed");
    assert_eq!(failed["daemon_pid"], daemon.child.id());
    assert!(view(&failed)["cause"].as_str().unwrap().contains("192.0.2.1:5300"), "{failed:#}");
    assert!(set.run(&["status"]).0.contains("the resolver view cannot listen on 192.0.2.1:5300"));
    let (text, code) = set.run(&["run"]);
    let pid = daemon.child.id();
    assert!(code == Some(3) && text.contains(&format!("(process {pid}) serves this set")), "{text}");

    // Time for several attempts, of which none has news.
    thread::sleep(Duration::from_millis(1500));
    daemon.in_its_network("ip address add 192.0.2.1/32 dev lo");
    let events = daemon.events_until("view_started");
    assert_eq!(events, ["manager_running", "view_failed", "view_started"]);
    set.until(|status| state(status) == "serving");

    daemon.stop();
    let after = set.status();
    assert!(after["daemon_pid"].is_null() && state(&after) == "daemon_not_running", "{after:#}");
}
