//! The containers of a runtime under two indexes: the cgroup id, which records carry, and the address, which
//! is what a proxy or a name server sees of them.
//!
//! An id has one holder at a time. An address may have several: containers that share a network namespace.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use serde::Serialize;

use super::holders::{History, Holder};
use crate::document::{Attribution, Owner};

/// The raw labels of an agent's container.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// `dev.clawker.agent`.
    pub agent: Arc<str>,
    /// `dev.clawker.project`; empty where it has none.
    pub project: Arc<str>,
}

/// What a runtime says of a container that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its identifier.
    pub container_id: Arc<str>,
    /// `None`: it has no agent label, and is no agent.
    pub labels: Option<Labels>,
    /// Inode number of its cgroup, if that could be had.
    pub cgroup_id: Option<u64>,
    /// Its addresses in every network.
    pub addresses: Vec<IpAddr>,
    /// The container whose network namespace it lives in, if that is not its own.
    pub within: Option<Arc<str>>,
    /// Nothing of it ran before, nanoseconds since boot.
    pub since_ns: u64,
}

/// A container that runs, as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its identifier.
    pub container_id: Arc<str>,
    /// Raw label `dev.clawker.agent`; absent where it is no agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Arc<str>>,
    /// Raw label `dev.clawker.project`; absent like `agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<Arc<str>>,
    /// Inode number of its cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_id: Option<u64>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Who has one of these addresses too: by address alone, nobody can say which of them it was.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub shared_with: BTreeSet<Arc<str>>,
}

/// Both indexes, shared by who fills them and who looks up.
#[derive(Debug, Default)]
pub struct Containers(RwLock<Indexes>);

#[derive(Debug, Default)]
struct Indexes {
    running: HashMap<Arc<str>, Running>,
    by_cgroup: HashMap<u64, History>,
    by_address: HashMap<IpAddr, History>,
}

impl Containers {
    /// Enters a container, or what changed of it at `now_ns`.
    pub fn runs(&self, new: Running, now_ns: u64) {
        let mut indexes = self.write();
        let old = indexes.running.insert(Arc::clone(&new.container_id), new.clone());
        let had = |address: &IpAddr| old.as_ref().is_some_and(|old| old.addresses.contains(address));
        if let Some(old) = &old {
            if let Some(id) = old.cgroup_id.filter(|_| old.cgroup_id != new.cgroup_id) {
                indexes.left_cgroup(id, &new.container_id, new.since_ns);
            }
            for address in old.addresses.iter().filter(|address| !new.addresses.contains(address)) {
                indexes.left_address(*address, &new.container_id, now_ns);
            }
        }
        let holder = |from_ns| {
            let Labels { agent, project } = new.labels.clone().unwrap_or_default();
            Holder { from_ns, until_ns: None, agent, project, container_id: Arc::clone(&new.container_id) }
        };
        let known = old.as_ref().is_some_and(|old| old.cgroup_id == new.cgroup_id);
        if let Some(id) = new.cgroup_id.filter(|_| !known && new.labels.is_some()) {
            indexes.by_cgroup.entry(id).or_default().add(holder(new.since_ns));
        }
        for address in new.addresses.iter().filter(|address| !had(address)) {
            let from_ns = if old.is_some() { now_ns } else { new.since_ns };
            indexes.by_address.entry(*address).or_default().add(holder(from_ns));
        }
    }

    /// Retires a container that ended at `at_ns`; what is long gone is forgotten.
    pub fn ended(&self, container_id: &str, at_ns: u64) {
        let mut indexes = self.write();
        let Some(old) = indexes.running.remove(container_id) else { return };
        if let Some(id) = old.cgroup_id {
            indexes.left_cgroup(id, container_id, at_ns);
        }
        for address in old.addresses {
            indexes.left_address(address, container_id, at_ns);
        }
        indexes.by_cgroup.retain(|_, history| history.is_remembered(at_ns));
        indexes.by_address.retain(|_, history| history.is_remembered(at_ns));
    }

    /// Identifiers of all that run.
    pub fn running(&self) -> Vec<Arc<str>> {
        self.read().running.keys().cloned().collect()
    }

    /// Whether this container was entered, and has not ended.
    pub fn runs_already(&self, container_id: &str) -> bool {
        self.read().running.contains_key(container_id)
    }

    /// Who lives in the network namespace of this container.
    pub fn within(&self, container_id: &str) -> Vec<Arc<str>> {
        let indexes = self.read();
        let within = indexes.running.values().filter(|other| other.within.as_deref() == Some(container_id));
        within.map(|other| Arc::clone(&other.container_id)).collect()
    }

    /// Who had this cgroup when a flow started at `start_ns` that ended at `end_ns`, nanoseconds since boot.
    pub fn owner(&self, cgroup_id: u64, start_ns: u64, end_ns: u64) -> Owner {
        let nobody = || Owner::nobody(Attribution::Unknown);
        self.read().by_cgroup.get(&cgroup_id).map_or_else(nobody, |history| history.owner(start_ns, end_ns))
    }

    /// Whether a cgroup went from one container to another between a start and an end.
    pub fn changed_hands(&self, cgroup_id: u64, start_ns: u64, end_ns: u64) -> bool {
        let indexes = self.read();
        indexes.by_cgroup.get(&cgroup_id).is_some_and(|history| history.changed_hands(start_ns, end_ns))
    }

    /// Whether this address was another container's at `time_ns`, and not this one's.
    pub fn is_of_another(&self, address: IpAddr, container_id: &str, time_ns: u64) -> bool {
        let indexes = self.read();
        let Some(history) = indexes.by_address.get(&address) else { return false };
        let mut holders = history.at(time_ns).peekable();
        holders.peek().is_some() && holders.all(|holder| *holder.container_id != *container_id)
    }

    /// All that run, by identifier.
    pub fn list(&self) -> Vec<Listed> {
        let indexes = self.read();
        let mut holders: HashMap<IpAddr, Vec<&Arc<str>>> = HashMap::new();
        for container in indexes.running.values() {
            for address in &container.addresses {
                holders.entry(*address).or_default().push(&container.container_id);
            }
        }
        let listed = |container: &Running| {
            let labels = container.labels.as_ref();
            let holders = container.addresses.iter().filter_map(|address| holders.get(address)).flatten();
            let others = holders.filter(|other| ***other != container.container_id);
            Listed {
                container_id: Arc::clone(&container.container_id),
                agent: labels.map(|labels| Arc::clone(&labels.agent)),
                project: labels.map(|labels| Arc::clone(&labels.project)),
                cgroup_id: container.cgroup_id,
                addresses: container.addresses.clone(),
                shared_with: others.map(|other| Arc::clone(other)).collect(),
            }
        };
        let mut list: Vec<_> = indexes.running.values().map(listed).collect();
        list.sort_by(|a, b| a.container_id.cmp(&b.container_id));
        list
    }

    /// No writer leaves the indexes half done but by a panic, and they have none to offer.
    fn read(&self) -> RwLockReadGuard<'_, Indexes> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Indexes> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Indexes {
    fn left_cgroup(&mut self, cgroup_id: u64, container_id: &str, at_ns: u64) {
        if let Some(history) = self.by_cgroup.get_mut(&cgroup_id) {
            history.left(container_id, at_ns);
        }
    }

    fn left_address(&mut self, address: IpAddr, container_id: &str, at_ns: u64) {
        if let Some(history) = self.by_address.get_mut(&address) {
            history.left(container_id, at_ns);
        }
    }
}

#[cfg(test)]
mod tests;
