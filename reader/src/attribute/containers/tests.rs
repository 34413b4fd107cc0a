use super::*;

fn running(id: &str, agent: &str, cgroup_id: u64, addresses: &[&str], since_ns: u64) -> Running {
    Running {
        container_id: id.into(),
        labels: Some(Labels { agent: agent.into(), project: "demo".into() }),
        cgroup_id: Some(cgroup_id),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        within: None,
        since_ns,
    }
}

fn owner(containers: &Containers, cgroup_id: u64, start_ns: u64, end_ns: u64) -> (Attribution, String) {
    let owner = containers.owner(cgroup_id, start_ns, end_ns);
    (owner.attribution, owner.agent.to_string())
}

fn nobody(attribution: Attribution) -> (Attribution, String) {
    (attribution, String::new())
}

fn address() -> IpAddr {
    "198.18.0.2".parse().unwrap()
}

#[test]
fn a_container_is_found_by_its_cgroup_and_by_its_address() {
    let containers = Containers::default();
    containers.runs(running("a", "scout", 7, &["198.18.0.2", "2001:db8::2"], 100), 110);
    assert_eq!(owner(&containers, 7, 100, 200), (Attribution::Known, "scout".to_owned()));
    assert_eq!(owner(&containers, 7, 99, 200), nobody(Attribution::Unknown));
    assert_eq!(owner(&containers, 8, 100, 200), nobody(Attribution::Unknown));
    assert!(!containers.is_of_another(address(), "a", 150));
    assert!(containers.is_of_another(address(), "b", 150));
    assert!(!containers.is_of_another(address(), "b", 99), "nobody had it then");
    assert!(!containers.is_of_another("198.18.0.9".parse().unwrap(), "b", 150));
}

#[test]
fn one_that_ended_is_late_and_then_gone_and_is_never_inherited_from() {
    let containers = Containers::default();
    containers.runs(running("a", "scout", 7, &["198.18.0.2"], 100), 110);
    containers.ended("a", 300);
    assert_eq!(owner(&containers, 7, 150, 200), (Attribution::Known, "scout".to_owned()));
    assert_eq!(owner(&containers, 7, 150, 400), (Attribution::Late, "scout".to_owned()));
    assert_eq!(owner(&containers, 7, 300, 400), nobody(Attribution::Gone));
    containers.runs(running("b", "second", 7, &["198.18.0.2"], 500), 510);
    assert_eq!(owner(&containers, 7, 350, 360), nobody(Attribution::Gone));
    assert_eq!(owner(&containers, 7, 600, 700), (Attribution::Known, "second".to_owned()));
    assert!(containers.changed_hands(7, 150, 600));
    assert!(!containers.is_of_another(address(), "a", 200), "it had the address then");
    assert!(containers.is_of_another(address(), "a", 600));
}

#[test]
fn one_that_was_started_again_has_another_cgroup() {
    let containers = Containers::default();
    containers.runs(running("a", "scout", 7, &[], 100), 110);
    containers.runs(running("a", "scout", 9, &[], 300), 310);
    assert_eq!(owner(&containers, 7, 150, 200), (Attribution::Known, "scout".to_owned()));
    assert_eq!(owner(&containers, 7, 300, 310), nobody(Attribution::Gone));
    assert_eq!(owner(&containers, 9, 300, 310), (Attribution::Known, "scout".to_owned()));
}

#[test]
fn what_is_heard_twice_changes_nothing() {
    let containers = Containers::default();
    for now_ns in [110, 120, 130] {
        containers.runs(running("a", "scout", 7, &["198.18.0.2"], 100), now_ns);
    }
    assert_eq!(owner(&containers, 7, 100, 200), (Attribution::Known, "scout".to_owned()));
    containers.ended("a", 300);
    containers.ended("a", 400);
    assert_eq!(owner(&containers, 7, 350, 360), nobody(Attribution::Gone));
    assert_eq!(containers.list(), []);
}

#[test]
fn a_network_that_is_joined_and_left_changes_the_addresses_from_then_on() {
    let containers = Containers::default();
    containers.runs(running("a", "scout", 7, &[], 100), 110);
    containers.runs(running("a", "scout", 7, &["198.18.0.2"], 100), 200);
    assert!(!containers.is_of_another(address(), "b", 150));
    assert!(containers.is_of_another(address(), "b", 200));
    containers.runs(running("a", "scout", 7, &[], 100), 300);
    assert!(!containers.is_of_another(address(), "b", 300));
}

#[test]
fn a_shared_network_namespace_is_said() {
    let containers = Containers::default();
    containers.runs(running("a", "scout", 7, &["198.18.0.2"], 100), 110);
    let joined = Running { within: Some("a".into()), ..running("b", "second", 8, &["198.18.0.2"], 200) };
    containers.runs(joined, 210);
    assert!(!containers.is_of_another(address(), "a", 300));
    assert!(!containers.is_of_another(address(), "b", 300));
    assert!(containers.is_of_another(address(), "c", 300));
    assert_eq!(containers.within("a"), ["b".into()]);
    let shared: Vec<_> = containers.list().into_iter().map(|listed| listed.shared_with).collect();
    assert_eq!(shared, [BTreeSet::from(["b".into()]), BTreeSet::from(["a".into()])]);
}

#[test]
fn one_that_is_no_agent_is_listed_and_owns_nothing() {
    let containers = Containers::default();
    containers.runs(Running { labels: None, ..running("a", "", 7, &["198.18.0.2"], 100) }, 110);
    assert_eq!(owner(&containers, 7, 150, 200), nobody(Attribution::Unknown));
    assert!(containers.is_of_another(address(), "b", 150));
    assert_eq!(
        serde_json::to_value(containers.list()).unwrap(),
        serde_json::json!([{"container_id": "a", "cgroup_id": 7, "addresses": ["198.18.0.2"]}])
    );
}
