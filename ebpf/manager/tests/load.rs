//! The object that ships, against this machine's kernel. Needs root.
#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

use manager::{EnrolRequest, LoadOptions, Manager, Program, ResolverAddresses};

struct Loaded {
    manager: Manager,
    state: tempfile::TempDir,
    cgroup: PathBuf,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = self.manager.unload();
        let _ = fs::remove_dir(&self.cgroup);
    }
}

fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
    line.split(' ').nth(1).unwrap().into()
}

fn load(name: &str) -> Loaded {
    let state = tempfile::tempdir().unwrap();
    let options = LoadOptions {
        pin_dir: format!("/sys/fs/bpf/clawker-test-{}-{name}", process::id()).into(),
        state_dir: state.path().to_owned(),
        ..LoadOptions::default()
    };
    let cgroup = cgroup2().join(format!("clawker-test-{}-{name}", process::id()));
    fs::create_dir(&cgroup).unwrap();
    Loaded { manager: Manager::load(&options).unwrap(), state, cgroup }
}

#[test]
fn loads_enrols_retires_and_unloads() {
    let loaded = load("life");
    let Loaded { manager, cgroup, .. } = &loaded;
    let mut request = EnrolRequest::new(cgroup, "c1");
    request.agent = "scout\n\"".to_owned();
    let enrolment = manager.enrol(&request).unwrap();
    let status = manager.status().unwrap();
    assert_eq!(status.containers.len(), 1);
    assert_eq!(status.containers[0].attached, (Program::ALL.len(), Program::ALL.len()));
    assert!(manager.enrol(&request).unwrap_err().to_string().contains("enrolled already"));
    let child = cgroup.join("child");
    fs::create_dir(&child).unwrap();
    assert!(
        manager
            .enrol(&EnrolRequest::new(&child, "c2"))
            .unwrap_err()
            .to_string()
            .contains("above it is enrolled")
    );
    fs::remove_dir(&child).unwrap();
    manager.retire(enrolment.cgroup_id).unwrap();
    assert!(manager.retire(enrolment.cgroup_id + 1).unwrap_err().to_string().contains("no container"));
    assert_eq!(manager.status().unwrap().containers[0].attached.0, 0);
    assert!(manager.dump().unwrap().to_string().contains("ledger"));
}

/// A reader's lock is on it.
#[test]
fn the_pins_are_closed_to_strangers() {
    let loaded = load("mode");
    let dir = format!("/sys/fs/bpf/clawker-test-{}-mode", process::id());
    assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
    drop(loaded);
}

#[test]
fn a_cgroup_that_is_gone_is_said() {
    let Loaded { manager, cgroup, .. } = &load("gone");
    let id = manager.enrol(&EnrolRequest::new(cgroup, "c1")).unwrap().cgroup_id;
    assert!(!manager.status().unwrap().to_string().contains("is gone"));
    fs::remove_dir(cgroup).unwrap();
    // The kernel lets go of it in its own time.
    let deadline = Instant::now() + Duration::from_secs(20);
    while manager.status().unwrap().containers[0].attached != (0, Program::ALL.len()) {
        assert!(Instant::now() < deadline, "{}", manager.status().unwrap());
        thread::sleep(Duration::from_millis(10));
    }
    let shown = manager.status().unwrap().to_string();
    assert!(shown.contains(&format!("its cgroup is gone; `retire {id}` it")), "{shown}");
    manager.retire(id).unwrap();
    assert!(!manager.status().unwrap().to_string().contains("is gone"));
}

#[test]
fn refuses_what_is_loaded_already() {
    let loaded = load("twice");
    let again = LoadOptions {
        pin_dir: format!("/sys/fs/bpf/clawker-test-{}-twice", process::id()).into(),
        state_dir: loaded.state.path().to_owned(),
        ..LoadOptions::default()
    };
    assert!(Manager::load(&again).unwrap_err().to_string().contains("pinned at"));
    assert!(loaded.manager.status().is_ok());
}

/// What a datagram from an IPv6 socket of `cgroup` ends with. The programs decide before anything is routed, so
/// the machine's network is of no matter.
fn send(cgroup: &Path, to: &str, port: u16) -> String {
    let script = format!(
        "import errno, socket\n\
         s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n\
         try: s.sendto(b'?', ('{to}', {port}))\n\
         except OSError as error: print(errno.errorcode.get(error.errno, error.errno))"
    );
    let join = format!("echo $$ > {}/cgroup.procs; exec python3 -c \"$0\"", cgroup.display());
    let output =
        process::Command::new("unshare").args(["--net", "sh", "-c", &join, &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn dns_of_a_family_without_a_view_is_denied() {
    let Loaded { manager, cgroup, .. } = &load("dns");
    let mut request = EnrolRequest::new(cgroup, "c1");
    let view = ["192.0.2.1:5300".parse().unwrap()];
    request.resolver = Some(ResolverAddresses::new(&view, "203.0.113.53:53".parse().unwrap()).unwrap());
    let id = manager.enrol(&request).unwrap().cgroup_id;
    assert_eq!(send(cgroup, "2001:db8::53", 53), "EPERM\n", "no view of this family");
    assert_eq!(
        send(cgroup, "::ffff:203.0.113.53", 53),
        "ENETUNREACH\n",
        "decided, and redirected where no route leads"
    );
    let ledger = manager.ledger(id).unwrap();
    assert_eq!((ledger.denied, ledger.opened), (1, 1));
}

#[test]
fn a_datagram_of_a_family_without_a_proxy_is_denied() {
    let Loaded { manager, cgroup, .. } = &load("proxy");
    let mut request = EnrolRequest::new(cgroup, "c1");
    request.proxy.v4 = Some(Ipv4Addr::new(203, 0, 113, 80));
    request.rules = serde_json::from_value(serde_json::json!([
        {"dst": "198.51.100.7", "proto": "udp", "port": 9, "listener": 15009},
        {"dst": "2001:db8:1::7", "proto": "udp", "port": 9, "listener": 15009},
    ]))
    .unwrap();
    let id = manager.enrol(&request).unwrap().cgroup_id;
    assert_eq!(send(cgroup, "2001:db8:1::7", 9), "EPERM\n", "the proxy has no address of this family");
    assert_eq!(
        send(cgroup, "::ffff:198.51.100.7", 9),
        "ENETUNREACH\n",
        "decided, and handed where no route leads"
    );
    let ledger = manager.ledger(id).unwrap();
    assert_eq!((ledger.denied, ledger.opened), (1, 1));
}

/// Labels are values in the state files and on the screen, whatever they look like.
#[test]
fn hostile_labels_are_kept_and_shown_escaped() {
    let Loaded { manager, cgroup, .. } = &load("labels");
    let long = "\u{1}".repeat(4096);
    for label in [
        "",
        "nul\0 two\nlines \u{1b}[2J",
        "\u{202e}turned around",
        "e\u{301}",
        "\"}, ../../x ${x} <b>",
        &long,
    ] {
        let mut request = EnrolRequest::new(cgroup, label);
        (request.agent, request.project) = (label.to_owned(), label.to_owned());
        let enrolled = manager.enrol(&request).unwrap();
        let status = manager.status().unwrap();
        let read = &status.containers[0].enrolment;
        assert_eq!(read, &enrolled);
        assert_eq!([&read.agent, &read.project, &read.container_id], [label; 3]);
        let shown = status.to_string();
        let hidden = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{301}');
        assert!(!shown.contains(hidden) && shown.lines().all(|line| line.chars().count() < 300), "{shown}");
        manager.retire(enrolled.cgroup_id).unwrap();
    }
    let mut request = EnrolRequest::new(cgroup, "c1");
    request.project = "x".repeat(4097);
    assert!(manager.enrol(&request).unwrap_err().to_string().contains("its project has 4097 bytes"));
}
