use std::{fs, path::Path};

use abi::Enrolment;

use super::*;
use crate::attribute::containers::{Labels, Running};

const SRC: &str = "198.18.0.2";
const FULL: &str = "c0ffeec0ffeec0ffee";

struct World {
    dir: tempfile::TempDir,
    containers: Arc<Containers>,
    counters: Arc<Counters>,
    clock: Offset,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(Enrolment::FOLDER)).unwrap();
    World { dir, containers: Arc::default(), counters: Arc::default(), clock: Offset::measure().unwrap() }
}

fn enrol(dir: &Path, container_id: &str, agent: &str, retired_ns: Option<u64>) {
    let enrolment = Enrolment {
        cgroup_id: 7,
        container_id: container_id.to_owned(),
        agent: agent.to_owned(),
        project: "demo".to_owned(),
        enrolled_ns: 100,
        retired_ns,
        earlier: Vec::new(),
    };
    let path = dir.join(Enrolment::FOLDER).join("7.json");
    fs::write(path, serde_json::to_vec(&enrolment).unwrap()).unwrap();
}

impl World {
    fn runs(&self, container_id: &str, agent: &str, cgroup_id: u64, address: &str) {
        let running = Running {
            container_id: container_id.into(),
            labels: Some(Labels { agent: agent.into(), project: "demo".into() }),
            cgroup_id: Some(cgroup_id),
            addresses: vec![address.parse().unwrap()],
            within: None,
            since_ns: 90,
        };
        self.containers.runs(running, 95);
    }

    /// Of a flow from 150 to 200, and what was counted for it.
    fn owner(&self) -> (Attribution, String, Option<&'static str>) {
        let enrolments = Enrolments::new(self.dir.path(), Arc::clone(&self.counters));
        let mut owners =
            Owners::new(enrolments, Some(Arc::clone(&self.containers)), Arc::clone(&self.counters));
        let before = self.counters.read().contradictions;
        let owner = owners.owner(7, 150, 200, Some(SRC.parse().unwrap()), self.clock);
        let after = self.counters.read().contradictions;
        let counted = after.into_iter().find(|(what, count)| before[what] != *count).map(|(what, _)| what);
        (owner.attribution, owner.agent.to_string(), counted)
    }
}

fn known(agent: &str, counted: Option<&'static str>) -> (Attribution, String, Option<&'static str>) {
    (Attribution::Known, agent.to_owned(), counted)
}

#[test]
fn either_source_names_what_the_other_does_not_know() {
    let world = world();
    enrol(world.dir.path(), FULL, "scout", None);
    assert_eq!(world.owner(), known("scout", None));
    fs::remove_file(world.dir.path().join(Enrolment::FOLDER).join("7.json")).unwrap();
    assert_eq!(world.owner(), (Attribution::Unknown, String::new(), None));
    world.runs(FULL, "scout", 7, SRC);
    assert_eq!(world.owner(), known("scout", None));
    enrol(world.dir.path(), FULL, "scout", Some(120));
    assert_eq!(world.owner(), known("scout", None), "retired, and still running with its labels");
    world.containers.ended(FULL, 140);
    assert_eq!(world.owner(), (Attribution::Gone, String::new(), None));
    fs::remove_file(world.dir.path().join(Enrolment::FOLDER).join("7.json")).unwrap();
    assert_eq!(world.owner(), (Attribution::Gone, String::new(), None));
}

#[test]
fn the_short_form_of_an_identifier_is_the_same_container() {
    let world = world();
    world.runs(FULL, "scout", 7, SRC);
    for (id, counted) in [(FULL, None), (&FULL[..12], None), (&FULL[..11], Some("container"))] {
        enrol(world.dir.path(), id, "scout", None);
        assert_eq!(world.owner().2, counted, "{id}");
    }
}

#[test]
fn labels_are_those_of_the_container() {
    let world = world();
    enrol(world.dir.path(), FULL, "mistyped", None);
    world.runs(FULL, "scout", 7, SRC);
    assert_eq!(world.owner(), known("scout", Some("labels")));
}

#[test]
fn nobody_is_named_where_two_containers_could_be() {
    let world = world();
    enrol(world.dir.path(), "another container", "scout", None);
    world.runs(FULL, "second", 7, SRC);
    assert_eq!(world.owner(), (Attribution::Unknown, String::new(), Some("container")));
}

#[test]
fn a_borrowed_address_does_not_change_the_owner() {
    let world = world();
    enrol(world.dir.path(), FULL, "scout", None);
    world.runs(FULL, "scout", 7, "198.18.0.3");
    assert_eq!(world.owner(), known("scout", None), "nobody's address");
    world.runs("lender", "lender", 8, SRC);
    assert_eq!(world.owner(), known("scout", Some("address")));
}

#[test]
fn late_is_late_by_either_source() {
    let world = world();
    enrol(world.dir.path(), FULL, "scout", None);
    world.runs(FULL, "scout", 7, SRC);
    world.containers.ended(FULL, 180);
    assert_eq!(world.owner(), (Attribution::Late, "scout".to_owned(), None));
}
