//! What stays of a container that is retired, also where the manager is killed on the way. Needs root, cgroup v2 and a
//! BPF file system; says so where it is not run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use abi::{Fold, FoldKey, Hook, Ledger, Noted};
use aya::maps::{HashMap, Map, MapData};
use manager::{EnrolRequest, LoadOptions, Manager, Totals};
use nix::unistd::geteuid;

struct World {
    manager: Manager,
    state: tempfile::TempDir,
    pins: PathBuf,
    cgroup: PathBuf,
    cgroup_id: u64,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.manager.unload();
        let _ = fs::remove_dir(&self.cgroup);
    }
}

const KEY: FoldKey = FoldKey {
    cgroup_id: 0,
    dst: [9; 16],
    dst_port: 9,
    l4_proto: 17,
    verdict: 1,
    reason: 5,
    hook: 1,
    close_reason: 0,
    direction: 0,
};

/// A container that denied seven attempts, five of them in a fold and two beyond, all documented.
fn world(name: &str) -> Option<World> {
    if !geteuid().is_root() {
        eprintln!("skipped: needs root");
        return None;
    }
    let name = format!("retired-{name}-{}", std::process::id());
    let state = tempfile::tempdir().unwrap();
    let pins = PathBuf::from("/sys/fs/bpf").join(&name);
    let manager = load(&pins, state.path());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
    let cgroup = PathBuf::from(root.split(' ').nth(1).unwrap()).join(&name);
    fs::create_dir(&cgroup).unwrap();
    let mut world = World { manager, state, pins, cgroup, cgroup_id: 0 };
    world.cgroup_id = world.enrol();
    let key = FoldKey { cgroup_id: world.cgroup_id, ..KEY };
    let various = FoldKey::various(world.cgroup_id, Hook::Sendmsg);
    let mut ledgers: HashMap<_, u64, Ledger> = world.map("ledger");
    let mut ledger = ledgers.get(&world.cgroup_id, 0).unwrap();
    (ledger.denied, ledger.folded, ledger.fold_keys) = (7, 7, 1);
    ledger.overflow[Hook::Sendmsg as usize] = 2;
    ledgers.insert(world.cgroup_id, ledger, 0).unwrap();
    let fold = Fold { count: 5, first_ns: 3, last_ns: 4, ..Fold::default() };
    world.map::<FoldKey, Fold>("folds").insert(key, fold, 0).unwrap();
    let mut readings = world.map::<FoldKey, Noted>("fold_readings");
    readings.insert(key, Noted { first_ns: 3, count: 5 }, 0).unwrap();
    readings.insert(various, Noted { first_ns: ledger.since_ns, count: 2 }, 0).unwrap();
    Some(world)
}

fn load(pins: &Path, state: &Path) -> Manager {
    let options = LoadOptions { pin_dir: pins.into(), state_dir: state.into(), ..LoadOptions::default() };
    Manager::load(&options).unwrap()
}

impl World {
    fn load(&mut self) {
        self.manager = load(&self.pins, self.state.path());
    }

    fn enrol(&self) -> u64 {
        let mut request = EnrolRequest::new(&self.cgroup, "c0ffee");
        request.accept_unobserved = true;
        self.manager.enrol(&request).unwrap().cgroup_id
    }

    fn map<K: aya::Pod, V: aya::Pod>(&self, name: &str) -> HashMap<MapData, K, V> {
        HashMap::try_from(Map::HashMap(MapData::from_pin(self.pins.join(name)).unwrap())).unwrap()
    }

    fn left(&self) -> usize {
        let dump = self.manager.dump().unwrap().0;
        ["folds", "fold_readings"].iter().map(|map| dump[map].len()).sum::<usize>() + dump["ledger"].len() - 1
    }

    fn totals(&self) -> Totals {
        self.manager.totals(self.cgroup_id).unwrap()
    }
}

fn cleared(world: &World) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while world.left() > 0 {
        assert!(std::time::Instant::now() < deadline, "{:?}", world.manager.dump().unwrap().0["ledger"]);
        world.manager.clear_retired().unwrap();
    }
}

const TOTALS: Totals = Totals { denied: 7, opened: 0, closed: 0, submitted: 0, folded: 7 };

#[test]
fn counters_leave_the_kernel_for_a_file() {
    let Some(world) = world("plain") else { return };
    assert_eq!(world.manager.clear_retired().unwrap(), 0, "it is enrolled");
    world.manager.retire(world.cgroup_id).unwrap();
    cleared(&world);
    assert_eq!(world.totals(), TOTALS);
    assert_eq!(world.manager.status().unwrap().retired.totals, TOTALS);
}

#[test]
fn unloading_keeps_counters_and_enrolments() {
    for (name, documented) in [("unloaded", 5), ("unloaded-early", 4)] {
        let Some(mut world) = world(name) else { return };
        let key = FoldKey { cgroup_id: world.cgroup_id, ..KEY };
        let noted = Noted { first_ns: 3, count: documented };
        world.map::<FoldKey, Noted>("fold_readings").insert(key, noted, 0).unwrap();
        let nobody = Ledger { denied: 3, ..Ledger::default() };
        world.map::<u64, Ledger>("ledger").insert(0, nobody, 0).unwrap();
        for _ in 0..2 {
            world.manager.unload().unwrap();
            world.load();
            let status = world.manager.status().unwrap();
            assert_eq!((status.retired.containers, status.retired.totals), (1, TOTALS), "{name}");
            assert_eq!((status.unowned, status.containers.len()), (3, 0), "{name}");
            assert_eq!(world.totals(), TOTALS, "{name}");
        }
        assert_eq!(world.enrol(), world.cgroup_id);
        assert_eq!(world.totals(), TOTALS, "{name}");
        let file = world.state.path().join(format!("containers/{}.json", world.cgroup_id));
        let enrolment: abi::Enrolment = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        assert!(enrolment.retired_ns.is_none() && enrolment.earlier.len() == 1, "{enrolment:?}");
    }
}

/// As after thousands of containers beside which no daemon ran.
#[test]
fn an_enrolment_finds_the_room_of_those_that_were_retired() {
    let Some(world) = world("full") else { return };
    world.manager.retire(world.cgroup_id).unwrap();
    let mut ledgers = world.map::<u64, Ledger>("ledger");
    let filled = (1 << 40_u64..).take_while(|id| ledgers.insert(id, Ledger::default(), 0).is_ok()).count();
    assert!(filled > 4000, "{filled}");
    let other = world.cgroup.with_extension("other");
    fs::create_dir(&other).unwrap();
    let mut request = EnrolRequest::new(&other, "decade");
    request.accept_unobserved = true;
    let first = world.manager.enrol(&request).map(|enrolment| enrolment.cgroup_id);
    let second = world.manager.enrol(&EnrolRequest::new(&world.cgroup, "c0ffee")).unwrap_err().to_string();
    if let Ok(id) = first {
        world.manager.retire(id).unwrap();
    }
    fs::remove_dir(&other).unwrap();
    assert!(first.is_ok(), "{first:?}");
    assert!(second.contains("`ledger` is full"), "{second}");
    assert_eq!(world.totals(), TOTALS);
}

/// Another version's maps, or what an unload that was killed has left of them.
#[test]
fn what_is_not_whole_is_unloaded_too() {
    for (name, left) in [("other", "programs/sweep"), ("killed", "abi_version")] {
        let Some(mut world) = world(name) else { return };
        fs::remove_file(world.pins.join(left)).unwrap();
        world.manager.unload().unwrap();
        world.load();
        assert_eq!(world.manager.status().unwrap().retired.containers, 1);
        world.enrol();
    }
}

#[test]
fn what_no_record_tells_of_stays() {
    let Some(world) = world("undocumented") else { return };
    let key = FoldKey { cgroup_id: world.cgroup_id, ..KEY };
    // Of another entry with this key: it says nothing about this one.
    world.map::<FoldKey, Noted>("fold_readings").insert(key, Noted { first_ns: 1, count: 5 }, 0).unwrap();
    world.manager.retire(world.cgroup_id).unwrap();
    assert_eq!(world.manager.clear_retired().unwrap(), 0);
    assert_eq!((world.left(), world.totals()), (4, TOTALS));
}

/// Killed after the file was written, and after each of the removals.
#[test]
fn a_clearing_that_was_cut_short_is_finished_and_counts_nothing_twice() {
    for (name, again) in [("cut", false), ("cut-again", true)] {
        let Some(world) = world(name) else { return };
        world.manager.retire(world.cgroup_id).unwrap();
        let file = world.state.path().join(format!("containers/{}.json", world.cgroup_id));
        let enrolment: abi::Enrolment = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let past = serde_json::json!({
            "cgroup_id": world.cgroup_id, "enrolled_ns": enrolment.enrolled_ns,
            "totals": {"denied": 7, "opened": 0, "closed": 0, "submitted": 0, "folded": 7},
        });
        fs::create_dir_all(world.state.path().join("ledgers")).unwrap();
        fs::write(world.state.path().join(format!("ledgers/{}.json", world.cgroup_id)), past.to_string())
            .unwrap();
        assert_eq!(world.totals(), TOTALS);
        world.map::<FoldKey, Fold>("folds").remove(&FoldKey { cgroup_id: world.cgroup_id, ..KEY }).unwrap();
        if again {
            world.enrol();
            assert_eq!(world.totals(), TOTALS, "the new life has done nothing yet");
            world.manager.retire(world.cgroup_id).unwrap();
        }
        cleared(&world);
        assert_eq!(world.totals(), TOTALS);
    }
}
