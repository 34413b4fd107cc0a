use std::thread;

use proptest::prelude::*;

use super::*;
use crate::{Outcome, Owner};

fn events(state: &Path) -> Events {
    Events::of(state, "manager", Some("node"))
}

fn waiting(events: &Events) -> Vec<Event> {
    events.oldest(usize::MAX).unwrap().into_iter().map(|kept| kept.event).collect()
}

fn files(events: &Events) -> Vec<String> {
    let names = events.names().unwrap();
    let mut names: Vec<_> =
        names.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn events_come_back_in_their_order_whoever_wrote_them() {
    let state = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..8 {
                    events(state.path()).record(Event::new(What::RulesApplied));
                }
            });
        }
    });
    let kept = events(state.path()).oldest(usize::MAX).unwrap();
    assert_eq!(kept.len(), 32);
    assert!(kept.is_sorted_by_key(|kept| kept.time));
    let ids: std::collections::HashSet<_> = kept.iter().map(|kept| &kept.event.event_id).collect();
    assert_eq!(ids.len(), 32);
    assert_eq!((kept[0].event.component.as_str(), kept[0].event.node.as_str()), ("manager", "node"));
}

#[test]
fn what_has_no_room_is_counted_and_that_is_an_event_once_there_is_room() {
    let state = tempfile::tempdir().unwrap();
    let events = events(state.path()).bounded(Bound { files: 3, bytes: u64::MAX });
    for _ in 0..8 {
        events.record(Event::new(What::BypassOn));
    }
    events.tell_lost().unwrap();
    let kept = events.oldest(usize::MAX).unwrap();
    assert!(kept.len() == 3 && kept.iter().all(|kept| kept.event.event == What::BypassOn), "{kept:?}");
    events.forget(&kept[0].path).unwrap();
    events.tell_lost().unwrap();
    let lost: Vec<_> = waiting(&events).into_iter().filter(|one| one.event == What::EventsLost).collect();
    assert_eq!(lost.iter().map(|lost| lost.event_count).collect::<Vec<_>>(), [Some(5)]);
    assert!(lost[0].detail.as_ref().unwrap().as_ref().starts_with("3 wait already"), "{lost:?}");
    events.tell_lost().unwrap();
    assert_eq!(waiting(&events).len(), 3, "once");
}

#[test]
fn bytes_are_bounded_too() {
    let state = tempfile::tempdir().unwrap();
    let events = events(state.path()).bounded(Bound { files: u64::MAX, bytes: 4096 });
    let long = Owner { agent: Some("a".repeat(1500)), ..Owner::default() };
    for _ in 0..4 {
        events.record(Event::new(What::Enrolled).of(long.clone()));
    }
    assert_eq!(waiting(&events).len(), 2);
    assert!(files(&events).contains(&"lost".to_owned()));
}

#[test]
fn what_a_killed_writer_left_is_no_event_and_goes() {
    let state = tempfile::tempdir().unwrap();
    let events = events(state.path());
    events.record(Event::new(What::Loaded));
    fs::write(events.folder.join("00000000000000000001-1-1.json.new"), b"{\"vers").unwrap();
    assert_eq!(waiting(&events).len(), 1);
    events.record(Event::new(What::Loaded));
    assert_eq!(waiting(&events).len(), 2);
    assert!(files(&events).iter().all(|name| !name.ends_with(".new")), "{:?}", files(&events));
}

#[test]
fn a_folder_that_cannot_be_is_no_failure_of_the_command() {
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join(FOLDER), b"a file").unwrap();
    let events = events(state.path());
    events.record(Event::new(What::Loaded));
    assert!(events.oldest(1).is_err());
}

#[test]
fn a_file_of_another_version_is_set_aside_and_told() {
    let state = tempfile::tempdir().unwrap();
    let events = events(state.path());
    events.record(Event::new(What::Loaded));
    let path = events.oldest(1).unwrap().remove(0).path;
    let line = fs::read_to_string(&path).unwrap().replace("\"version\":1", "\"version\":2");
    fs::write(&path, line).unwrap();
    assert!(waiting(&events).is_empty());
    assert!(path.with_extension("bad").exists());
    events.tell_lost().unwrap();
    let told = waiting(&events).remove(0);
    assert_eq!((told.event, told.event_count), (What::EventsLost, Some(1)));
    assert!(told.detail.unwrap().as_ref().contains("version 2"));
}

#[test]
fn what_is_set_aside_takes_no_room_of_what_waits_and_is_bounded() {
    let state = tempfile::tempdir().unwrap();
    let events = events(state.path()).bounded(Bound { files: 3, bytes: 1 << 20 });
    for _ in 0..MOST_BAD + 5 {
        events.record(Event::new(What::Loaded));
        let path = events.oldest(1).unwrap().remove(0).path;
        events.set_aside(&path, "refused").unwrap();
    }
    let bad =
        events.names().unwrap().iter().filter(|path| path.extension() == Some(OsStr::new("bad"))).count();
    assert_eq!(bad, MOST_BAD);
    events.record(Event::new(What::Loaded));
    events.tell_lost().unwrap();
    let told: Vec<_> = waiting(&events).into_iter().map(|event| (event.event, event.event_count)).collect();
    let lost = (What::EventsLost, Some(MOST_BAD as u64 + 5));
    assert!(told.contains(&lost) && told.contains(&(What::Loaded, None)), "{told:?}");
}

fn any_event() -> impl Strategy<Value = Event> {
    let text = || proptest::option::of(any::<String>());
    let whose = (text(), text(), text(), proptest::option::of(any::<u64>()));
    let what = (proptest::sample::select(What::ALL), proptest::sample::select(Outcome::ALL));
    let more = (proptest::option::of(any::<u64>()), any::<u64>(), any::<String>());
    (whose, what, more).prop_map(|((agent, project, container_id, cgroup_id), (what, outcome), more)| {
        let mut event =
            Event::new(what).of(Owner { agent, project, container_id, cgroup_id }).until(more.1).told(more.2);
        event.outcome = outcome;
        (event.rules, event.actor) = (more.0, more.0);
        event
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_event_is_read_as_it_was_written(given in proptest::collection::vec(any_event(), 1..5)) {
        let state = tempfile::tempdir().unwrap();
        let events = events(state.path());
        for event in &given {
            events.record(event.clone());
        }
        let read = waiting(&events);
        prop_assert_eq!(read.len(), given.len());
        for (read, given) in read.into_iter().zip(given) {
            let Event { component, node, event_id, .. } = read.clone();
            prop_assert_eq!(read, Event { component, node, event_id, ..given });
        }
    }

    /// Whatever a file holds, it is an event or it is set aside; those beside it are not touched.
    #[test]
    fn no_file_is_in_the_way_of_others(bytes: Vec<u8>, cut in 0_usize..400) {
        let state = tempfile::tempdir().unwrap();
        let events = events(state.path());
        events.record(Event::new(What::Loaded));
        let whole = fs::read(&events.oldest(1).unwrap()[0].path).unwrap();
        fs::write(events.folder.join("00000000000000000000-1-1.json"), bytes).unwrap();
        // Without its line's end it is whole all the same.
        let part = &whole[..cut.min(whole.len() - 2)];
        fs::write(events.folder.join("00000000000000000000-1-2.json"), part).unwrap();
        prop_assert_eq!(waiting(&events).len(), 1);
        events.tell_lost().unwrap();
        let told: Vec<_> = waiting(&events).into_iter().filter_map(|event| event.event_count).collect();
        prop_assert_eq!(told, [2]);
    }
}
