//! The containers that were applied last, and what each destination and container was given: kept, so that they keep it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use anyhow::Context as _;
use rules::Destination;
use serde::{Deserialize, Serialize};
use stack::{Container, Handed, Listeners, Plan};

use super::{Wrong, files};

/// Where it is, below the stack's folder.
const FILE: &str = "plan.json";
/// First port of a container's DNS.
const FIRST: u16 = 5301;

/// All of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    /// As they were listed.
    pub containers: Vec<Container>,
    /// Every destination that ever had a port of the proxy.
    handed: Vec<Port>,
    /// Ports of DNS, by container.
    dns: BTreeMap<String, u16>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Port {
    dst: Destination,
    port: u16,
    listener: u16,
}

impl Kept {
    /// That of the stack in `folder`; nothing, if nothing was applied yet.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .with_context(|| format!("{}: this is no plan of `stack apply`", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        files::write(&folder.join(FILE), &serde_json::to_vec_pretty(self)?, 0o600, None).map(drop)
    }

    /// The plan for what is listed in it.
    pub fn plan(&self) -> anyhow::Result<Plan> {
        let handed =
            self.handed.iter().map(|one| (Handed { dst: one.dst.clone(), port: one.port }, one.listener));
        let before =
            Plan { containers: Vec::new(), handed: handed.collect(), listeners: Listeners::default() };
        Plan::new(&self.containers, Listeners::default(), Some(&before))
            .map_err(|error| Wrong(error.to_string()).into())
    }

    /// With these containers instead, which have what they had, and the plan for them.
    pub fn with(&self, containers: Vec<Container>) -> anyhow::Result<(Self, Plan)> {
        let mut next = Self { containers, ..self.clone() };
        let new: Vec<String> = next
            .containers
            .iter()
            .map(|container| container.container_id.clone())
            .filter(|id| !next.dns.contains_key(id))
            .collect();
        // One that is gone may be enrolled still, and come back: the kernel sends it to the port that it had.
        let taken: BTreeSet<u16> = self.dns.values().copied().collect();
        let mut free = (FIRST..=u16::MAX).filter(|port| !taken.contains(port));
        for id in new {
            let port = match free.next() {
                Some(port) => port,
                None => next.taken_from_one_that_is_gone()?,
            };
            next.dns.insert(id, port);
        }
        let plan = next.plan()?;
        let kept = |(handed, listener): (&Handed, &u16)| Port {
            dst: handed.dst.clone(),
            port: handed.port,
            listener: *listener,
        };
        let now: Vec<Port> = plan.handed.iter().map(kept).collect();
        // A destination that is gone keeps its port, unless another had to have it.
        next.handed.retain(|one| now.iter().all(|other| other.listener != one.listener));
        next.handed.extend(now);
        Ok((next, plan))
    }

    fn taken_from_one_that_is_gone(&mut self) -> anyhow::Result<u16> {
        let is_gone = |id: &&String| self.containers.iter().all(|container| container.container_id != **id);
        let gone = self.dns.keys().find(is_gone).cloned();
        gone.and_then(|id| self.dns.remove(&id))
            .ok_or_else(|| Wrong("there are more containers than ports for their DNS".to_owned()).into())
    }

    /// Port of a container's DNS: where the resolver serves it, and where its view is behind that, on the machine.
    pub fn dns(&self, container: &Container) -> Option<u16> {
        self.dns.get(&container.container_id).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn containers(text: &str) -> Vec<Container> {
        stack::containers(text).expect("containers")
    }

    fn listeners(plan: &Plan) -> Vec<(String, u16)> {
        plan.handed.iter().map(|(handed, port)| (handed.dst.to_string(), *port)).collect()
    }

    #[test]
    fn a_destination_and_a_containers_dns_keep_their_ports_through_what_comes_between() {
        let folder = tempfile::tempdir().expect("a folder");
        let of = |id: &str, address: u8, host: &str| {
            format!(
                "- {{container_id: {id}, agent: a, project: p, addresses: [198.18.0.{address}], rules: [{{dst: {host}, proto: ssh}}]}}\n"
            )
        };
        let apply = |text: &str| {
            let (kept, plan) =
                Kept::read(folder.path()).expect("read").with(containers(text)).expect("a plan");
            kept.write(folder.path()).expect("written");
            assert_eq!(kept.plan().expect("the same again"), plan);
            (kept, plan)
        };
        let (first, plan) = apply(&(of("one", 130, "m.test") + &of("two", 131, "z.test")));
        let ports = listeners(&plan);
        assert_eq!(ports, [("m.test".to_owned(), 16_000), ("z.test".to_owned(), 16_001)]);
        let (second, plan) = apply(&of("three", 132, "a.test"));
        assert_eq!(listeners(&plan), [("a.test".to_owned(), 16_002)]);
        assert_eq!(second.dns(&second.containers[0]), Some(5303));
        let (third, plan) = apply(&(of("two", 131, "z.test") + &of("one", 130, "m.test")));
        assert_eq!(listeners(&plan), ports);
        // What was not listed in between has what it had.
        assert_eq!(third.dns(&third.containers[0]), Some(5302));
        assert_eq!(third.dns(&third.containers[1]), Some(5301));
        assert_eq!(first.dns(&first.containers[1]), Some(5302));
    }
}
