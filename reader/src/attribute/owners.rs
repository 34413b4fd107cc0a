//! Whom a flow belongs to, by what the manager enrolled and by what the runtime runs.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use super::{Containers, Enrolments};
use crate::{
    clock::Offset,
    document::{Attribution, Owner},
    observe::Counters,
};

/// Contradictions that are logged, each container's once; all are counted.
const LOGGED: usize = 4096;
/// Shortest part of a container's identifier that stands for all of it.
const SHORT_ID: usize = 12;

/// What two sources say of one flow, and cannot both be right about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contradiction {
    /// The cgroup was enrolled for one container and is another one's. Nobody is named.
    Container,
    /// It was enrolled with other labels than the container has. The container's are used.
    Labels,
    /// The flow's source address was another container's. Its cgroup says whose it is.
    Address,
}

impl Contradiction {
    /// Every member.
    pub const ALL: &'static [Self] = &[Self::Container, Self::Labels, Self::Address];

    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Labels => "labels",
            Self::Address => "address",
        }
    }
}

/// The sources, as one.
pub struct Owners {
    enrolments: Enrolments,
    containers: Option<Arc<Containers>>,
    counters: Arc<Counters>,
    logged: HashSet<(Contradiction, Arc<str>)>,
}

impl Owners {
    /// Those of the manager alone, or with a runtime's.
    pub fn new(enrolments: Enrolments, containers: Option<Arc<Containers>>, counters: Arc<Counters>) -> Self {
        Self { enrolments, containers, counters, logged: HashSet::new() }
    }

    /// Sees what was enrolled and retired.
    ///
    /// # Errors
    /// Why enrolments cannot be read.
    pub fn refresh(&mut self, clock: Offset) -> Result<(), String> {
        self.enrolments.refresh(clock)
    }

    /// Who had `cgroup_id` when a flow from `src` started at `start_ns` that ended at `end_ns`, both since boot.
    pub fn owner(
        &mut self,
        cgroup_id: u64,
        start_ns: u64,
        end_ns: u64,
        src: Option<IpAddr>,
        clock: Offset,
    ) -> Owner {
        let enrolled = self.enrolments.owner(cgroup_id, start_ns, end_ns, clock);
        let Some(containers) = &self.containers else { return enrolled };
        let run = containers.owner(cgroup_id, start_ns, end_ns);
        let (owner, mut contradiction) = reconcile(enrolled, run);
        let named = !owner.container_id.is_empty();
        if named && src.is_some_and(|src| containers.is_of_another(src, &owner.container_id, start_ns)) {
            contradiction = contradiction.or(Some(Contradiction::Address));
        }
        if let Some(contradiction) = contradiction {
            self.contradicted(contradiction, cgroup_id, &owner.container_id);
        }
        owner
    }

    /// Whether a cgroup went to another container after a start and by an end.
    pub fn changed_hands(&mut self, cgroup_id: u64, start_ns: u64, end_ns: u64, clock: Offset) -> bool {
        self.enrolments.changed_hands(cgroup_id, start_ns, end_ns, clock)
            || self.containers.as_ref().is_some_and(|of| of.changed_hands(cgroup_id, start_ns, end_ns))
    }

    fn contradicted(&mut self, what: Contradiction, cgroup_id: u64, container_id: &Arc<str>) {
        self.counters.contradicted(what);
        if self.logged.len() < LOGGED && self.logged.insert((what, Arc::clone(container_id))) {
            tracing::warn!(
                event = "attribution_contradicted",
                by = what.as_str(),
                cgroup_id,
                container_id = &**container_id,
                "enrolment and runtime do not agree; compare `ebpf-manager status` with /containers"
            );
        }
    }
}

/// One owner of what the enrolment and the runtime say. Where only one names somebody, it is right.
fn reconcile(enrolled: Owner, run: Owner) -> (Owner, Option<Contradiction>) {
    match (enrolled.container_id.is_empty(), run.container_id.is_empty()) {
        (true, true) if run.attribution == Attribution::Gone => return (run, None),
        (true, false) => return (run, None),
        (_, true) => return (enrolled, None),
        (false, false) => {}
    }
    if !is_same(&enrolled.container_id, &run.container_id) {
        return (Owner::nobody(Attribution::Unknown), Some(Contradiction::Container));
    }
    let differ = (&enrolled.agent, &enrolled.project) != (&run.agent, &run.project);
    let is_late = enrolled.attribution == Attribution::Late || run.attribution == Attribution::Late;
    let attribution = if is_late { Attribution::Late } else { Attribution::Known };
    (Owner { attribution, ..run }, differ.then_some(Contradiction::Labels))
}

/// Whether both name one container; an operator may give the short form.
fn is_same(enrolled: &str, run: &str) -> bool {
    enrolled == run || (enrolled.len() >= SHORT_ID && run.starts_with(enrolled))
}

#[cfg(test)]
mod tests;
