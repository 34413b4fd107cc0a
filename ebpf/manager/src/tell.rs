//! What the manager tells of what it did: an event for each change, however it ended.

use std::fmt::Write as _;

use abi::Enrolment;
use emitter::{Event, Events, Outcome, Owner, What};
use rules::Rule;
use sha2::{Digest as _, Sha256};

use crate::{
    EnrolRequest, Kind, Manager,
    error::{Error, Result},
    refuse::{cgroup_id, unobserved},
    state::read_json,
};

/// The program, in what it tells.
pub(crate) const COMPONENT: &str = "manager";

impl Manager {
    /// Where what it did is kept until it is sent.
    #[must_use]
    pub const fn events(&self) -> &Events {
        &self.events
    }

    /// Tells that a command came to nothing before there was anything to ask of the manager: a file of rules that cannot be
    /// read, a set that is not loaded.
    pub fn tell_failed(&self, event: Event, error: &Error) {
        self.events.record(failed(event, error).by_caller());
    }

    /// Tells how what a person asked for ended, and returns that.
    pub(crate) fn tell<T>(&self, event: Event, result: Result<T>) -> Result<T> {
        match &result {
            Ok(_) => self.events.record(event.by_caller()),
            Err(error) => self.tell_failed(event, error),
        }
        result
    }

    /// Who holds a cgroup, as it was enrolled; of one that is not enrolled, its number.
    pub(crate) fn owner(&self, cgroup_id: u64) -> Owner {
        let enrolment: Option<Enrolment> = read_json(&self.enrolment_path(cgroup_id)).ok().flatten();
        match enrolment.filter(|enrolment| enrolment.retired_ns.is_none()) {
            Some(Enrolment { agent, project, container_id, .. }) => Owner {
                agent: Some(agent),
                project: Some(project),
                container_id: Some(container_id),
                cgroup_id: Some(cgroup_id),
            },
            None => Owner { cgroup_id: Some(cgroup_id), ..Owner::default() },
        }
    }

    /// Who was to be enrolled.
    pub(crate) fn owner_to_be(&self, request: &EnrolRequest, enrolment: Option<&Enrolment>) -> Owner {
        Owner {
            agent: Some(request.agent.clone()),
            project: Some(request.project.clone()),
            container_id: Some(request.container_id.clone()),
            cgroup_id: enrolment.map(|one| one.cgroup_id).or_else(|| cgroup_id(&request.cgroup).ok()),
        }
    }

    /// How processes of the container could go around the hooks, where they could and it was enrolled all the same.
    pub(crate) fn accepted(&self, request: &EnrolRequest) -> Option<String> {
        if !request.accept_unobserved {
            return None;
        }
        // That it cannot be looked at was accepted, too.
        unobserved(&request.cgroup).unwrap_or_else(|error| Some(format!("it is not known: {error}")))
    }
}

fn failed(mut event: Event, error: &Error) -> Event {
    event.outcome = match error.kind() {
        Kind::Failed => Outcome::Failed,
        Kind::Request | Kind::Refused => Outcome::Refused,
    };
    event.told(error.to_string())
}

/// With how many rules it was about, and which.
pub(crate) fn with_rules(mut event: Event, rules: &[Rule]) -> Event {
    event.rules = Some(rules.len() as u64);
    event.rules_hash = hash(rules);
    event
}

/// SHA-256 of a list of rules as JSON, in hexadecimal.
fn hash(rules: &[Rule]) -> Option<String> {
    let text = serde_json::to_vec(rules).ok()?;
    let mut hash = String::with_capacity(64);
    for byte in Sha256::digest(text) {
        // Writing to a string does not fail.
        let _ = write!(hash, "{byte:02x}");
    }
    Some(hash)
}

/// That a part of the daemon does not work, or works again.
pub(crate) fn part(what: What, owner: Owner, part: &str, why: Option<&str>) -> Event {
    let detail = why.map_or_else(|| part.to_owned(), |why| format!("{part}: {why}"));
    Event::new(what).of(owner).told(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_have_one_hash_and_others_another() {
        let hash = |text| hash(&rules::parse(text).expect("rules")).expect("a hash");
        let one = hash("- {dst: a.test, proto: https}");
        assert_eq!(one, hash("rules: [{proto: https, dst: a.test}]"));
        assert_ne!(one, hash("- {dst: a.test, proto: http}"));
        assert_eq!(one.len(), 64);
    }
}
