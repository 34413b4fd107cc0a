use super::*;

struct World {
    dir: tempfile::TempDir,
    enrolments: Enrolments,
    counters: Arc<Counters>,
    clock: Offset,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(Enrolment::FOLDER)).unwrap();
    let counters = Arc::<Counters>::default();
    let enrolments = Enrolments::new(dir.path(), Arc::clone(&counters));
    World { dir, enrolments, counters, clock: Offset::measure().unwrap() }
}

impl World {
    fn path(&self, id: u64) -> PathBuf {
        self.dir.path().join(Enrolment::FOLDER).join(format!("{id}.json"))
    }

    fn enrol(&self, id: u64, agent: &str, enrolled_ns: u64, retired_ns: Option<u64>) {
        self.write(&Enrolment { retired_ns, ..enrolment(id, agent, enrolled_ns) });
    }

    /// Writes as the manager does: a new file under a temporary name, then a rename.
    fn write(&self, enrolment: &Enrolment) {
        let temporary = self.dir.path().join("new");
        fs::write(&temporary, serde_json::to_vec(enrolment).unwrap()).unwrap();
        fs::rename(temporary, self.path(enrolment.cgroup_id)).unwrap();
    }

    fn owner(&mut self, id: u64, start_ns: u64, end_ns: u64) -> (Attribution, String) {
        self.enrolments.refresh(self.clock).unwrap();
        let owner = self.enrolments.owner(id, start_ns, end_ns, self.clock);
        (owner.attribution, owner.agent.to_string())
    }
}

fn enrolment(cgroup_id: u64, agent: &str, enrolled_ns: u64) -> Enrolment {
    Enrolment {
        cgroup_id,
        container_id: format!("container of {agent}"),
        agent: agent.to_owned(),
        project: "demo".to_owned(),
        enrolled_ns,
        retired_ns: None,
        earlier: Vec::new(),
    }
}

fn named(attribution: Attribution, agent: &str) -> (Attribution, String) {
    (attribution, agent.to_owned())
}

fn nobody(attribution: Attribution) -> (Attribution, String) {
    named(attribution, "")
}

#[test]
fn a_live_container_is_known() {
    let mut world = world();
    world.enrol(7, "scout", 100, None);
    assert_eq!(world.owner(7, 100, 200), named(Attribution::Known, "scout"));
}

/// Under load a file is read, or even dated, long after what it is about.
#[test]
fn when_a_file_was_written_and_read_is_of_no_matter() {
    let mut world = world();
    assert_eq!(world.owner(7, 150, 200), nobody(Attribution::Unknown));
    world.enrol(7, "scout", 100, None);
    for modified in [SystemTime::UNIX_EPOCH, SystemTime::now() + std::time::Duration::from_secs(3600)] {
        File::options().write(true).open(world.path(7)).unwrap().set_modified(modified).unwrap();
        assert_eq!(world.owner(7, 150, 200), named(Attribution::Known, "scout"));
    }
}

#[test]
fn every_word_has_its_times() {
    let mut world = world();
    world.enrol(7, "scout", 100, Some(300));
    for (start, end, expected) in [
        (99, 99, nobody(Attribution::Unknown)),
        (99, 200, nobody(Attribution::Unknown)),
        (100, 100, named(Attribution::Known, "scout")),
        (100, 299, named(Attribution::Known, "scout")),
        (299, 300, named(Attribution::Late, "scout")),
        (100, u64::MAX, named(Attribution::Late, "scout")),
        (300, 300, nobody(Attribution::Gone)),
        (u64::MAX, u64::MAX, nobody(Attribution::Gone)),
    ] {
        assert_eq!(world.owner(7, start, end), expected, "from {start} to {end}");
    }
}

#[test]
fn nobody_is_named_where_nobody_was_enrolled() {
    let mut world = world();
    world.enrol(7, "scout", 100, None);
    assert_eq!(world.owner(8, 150, 200), nobody(Attribution::Unknown));
    assert_eq!(world.owner(7, 99, 200), nobody(Attribution::Unknown), "started before it was enrolled");
    assert_eq!(world.owner(0, 150, 200), nobody(Attribution::Unknown));
}

#[test]
fn a_flow_that_outlives_its_container_keeps_it_and_a_later_one_does_not_get_it() {
    let mut world = world();
    world.enrol(7, "scout", 100, None);
    assert_eq!(world.owner(7, 150, 200), named(Attribution::Known, "scout"));
    world.enrol(7, "scout", 100, Some(300));
    assert_eq!(world.owner(7, 150, 400), named(Attribution::Late, "scout"));
    assert_eq!(world.owner(7, 300, 400), nobody(Attribution::Gone));
}

#[test]
fn a_container_first_read_when_retired_is_still_known() {
    let mut world = world();
    world.enrol(7, "scout", 100, Some(300));
    assert_eq!(world.owner(7, 150, 200), named(Attribution::Known, "scout"));
}

#[test]
fn a_reused_id_never_inherits_in_either_direction() {
    let mut world = world();
    world.enrol(7, "first", 100, Some(300));
    assert_eq!(world.owner(7, 150, 200), named(Attribution::Known, "first"));
    world.enrol(7, "second", 500, None);
    assert_eq!(world.owner(7, 600, 700), named(Attribution::Known, "second"));
    assert_eq!(world.owner(7, 400, 700), nobody(Attribution::Gone));
    assert_eq!(
        world.owner(7, 150, 700),
        named(Attribution::Late, "first"),
        "it ended with another in its place"
    );
    assert_eq!(world.owner(7, 150, 200), named(Attribution::Known, "first"));
}

#[test]
fn a_reused_id_does_not_inherit_from_a_holder_that_was_never_read() {
    let mut world = world();
    world.enrol(7, "first", 100, None);
    world.enrol(7, "second", 500, None);
    assert_eq!(world.owner(7, 150, 700), nobody(Attribution::Unknown));
    assert_eq!(world.owner(7, 499, 500), nobody(Attribution::Unknown));
    assert_eq!(world.owner(7, 500, 500), named(Attribution::Known, "second"));
}

#[test]
fn holders_that_were_never_read_one_by_one_are_in_the_file_of_the_last() {
    let mut world = world();
    world.enrol(7, "first", 100, None);
    assert_eq!(world.owner(7, 150, 200), named(Attribution::Known, "first"));
    let holder =
        |agent, enrolled_ns, retired_ns| Enrolment { retired_ns, ..enrolment(7, agent, enrolled_ns) };
    let earlier = vec![holder("first", 100, Some(300)), holder("second", 400, Some(600))];
    world.write(&Enrolment { earlier, ..enrolment(7, "third", 700) });
    assert_eq!(world.owner(7, 150, 200), named(Attribution::Known, "first"));
    assert_eq!(world.owner(7, 350, 360), nobody(Attribution::Gone));
    assert_eq!(world.owner(7, 450, 460), named(Attribution::Known, "second"));
    assert_eq!(world.owner(7, 450, 650), named(Attribution::Late, "second"));
    assert_eq!(world.owner(7, 750, 760), named(Attribution::Known, "third"));
}

#[test]
fn an_id_that_was_taken_over_without_a_retirement_changes_hands_at_the_new_enrolment() {
    let mut world = world();
    world.enrol(7, "first", 100, None);
    assert_eq!(world.owner(7, 150, 200), named(Attribution::Known, "first"));
    world.enrol(7, "second", 500, None);
    assert_eq!(world.owner(7, 400, 499), named(Attribution::Known, "first"));
    assert_eq!(world.owner(7, 499, 700), named(Attribution::Late, "first"));
    assert_eq!(world.owner(7, 500, 700), named(Attribution::Known, "second"));
}

#[test]
fn a_file_that_vanished_retires_its_container() {
    let mut world = world();
    world.enrol(7, "scout", 100, None);
    assert_eq!(world.owner(7, 150, 200), named(Attribution::Known, "scout"));
    fs::remove_file(world.path(7)).unwrap();
    assert_eq!(world.owner(7, 150, 200), named(Attribution::Known, "scout"));
    assert_eq!(world.owner(7, u64::MAX, u64::MAX), nobody(Attribution::Gone));
}

#[test]
fn an_unknown_id_is_looked_for_again() {
    let mut world = world();
    assert_eq!(world.owner(7, 150, 200), nobody(Attribution::Unknown));
    world.enrol(7, "scout", 100, None);
    assert_eq!(world.owner(7, 150, 200), named(Attribution::Known, "scout"));
}

#[test]
fn a_bad_file_is_counted_once_and_replaced_later() {
    let mut world = world();
    fs::write(world.path(7), b"{ half").unwrap();
    assert_eq!(world.owner(7, 150, 200), nobody(Attribution::Unknown));
    assert_eq!(world.owner(7, 150, 200), nobody(Attribution::Unknown));
    assert_eq!(world.counters.read().unreadable_enrolments, 1);
    world.enrol(7, "scout", 100, None);
    assert_eq!(world.owner(7, 150, 200), named(Attribution::Known, "scout"));
}

#[test]
fn a_file_about_another_cgroup_attributes_nothing() {
    let mut world = world();
    world.enrol(8, "scout", 100, None);
    fs::rename(world.path(8), world.path(7)).unwrap();
    assert_eq!(world.owner(7, 150, 200), nobody(Attribution::Unknown));
    assert_eq!(world.counters.read().unreadable_enrolments, 1);
}

#[test]
fn the_longest_labels_fit_however_they_are_written() {
    let mut world = world();
    let label = "\u{1}".repeat(Enrolment::MOST_LABEL);
    let enrolment = Enrolment {
        cgroup_id: 7,
        container_id: label.clone(),
        agent: label.clone(),
        project: label.clone(),
        enrolled_ns: u64::MAX - 1,
        retired_ns: Some(u64::MAX),
        earlier: Vec::new(),
    };
    fs::write(world.path(7), serde_json::to_vec_pretty(&enrolment).unwrap()).unwrap();
    assert_eq!(world.owner(7, u64::MAX - 1, u64::MAX), named(Attribution::Late, &label));
    fs::write(world.path(8), vec![b' '; Enrolment::MOST_FILE + 1]).unwrap();
    assert_eq!(world.owner(8, 0, 0), nobody(Attribution::Unknown));
    assert_eq!(world.counters.read().unreadable_enrolments, 1);
}
