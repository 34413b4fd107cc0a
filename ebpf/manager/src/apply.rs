//! Replacing a container's rules.

use abi::PrefixKey;
use aya::maps::lpm_trie::Key;
use emitter::{Event, What};
use rules::Rule;

use crate::{
    Manager,
    error::{Error, Result},
    permit::permits,
    pins::{all, found, stored},
    routes,
    state::write_json,
    tell::with_rules,
};

impl Manager {
    /// Replaces a container's rules, for new flows; open flows go on as they were decided.
    ///
    /// # Errors
    /// If it is not enrolled, or a rule cannot be: nothing has changed then. If a map has no room,
    /// some of the new rules may hold already; apply a shorter list.
    pub fn apply_rules(&self, cgroup_id: u64, rules: &[Rule]) -> Result<()> {
        let event = with_rules(Event::new(What::RulesApplied).of(self.owner(cgroup_id)), rules);
        let apply = || {
            let _lock = self.lock_changes()?;
            self.replace_rules(cgroup_id, rules)
        };
        self.tell(event, apply())
    }

    pub(crate) fn replace_rules(&self, cgroup_id: u64, rules: &[Rule]) -> Result<()> {
        let permits = permits(rules)?;
        routes::fit(&permits)?;
        let _lock = self.lock_view(cgroup_id)?;
        let Some(mut view) = self.view(cgroup_id)? else { return Err(Error::NotEnrolled(cgroup_id)) };
        let prefixes = routes::of_prefixes(&permits, &view.network, cgroup_id)?;
        view.rules = rules.to_vec();

        let mut containers = self.pins.containers()?;
        let Some(mut settings) = found("container_map", containers.get(&cgroup_id, 0))? else {
            return Err(Error::NotEnrolled(cgroup_id));
        };
        if settings.proxy == [0; 16] && permits.iter().any(|permit| permit.range.listener != 0) {
            return Err(Error::NoProxy(cgroup_id));
        }
        settings.kinds = permits.iter().fold(0, |kinds, permit| kinds | permit.kinds);
        stored(
            "container_map",
            || format!("container {cgroup_id}"),
            containers.insert(cgroup_id, settings, 0),
        )?;

        let mut route_map = self.pins.routes()?;
        for (domain, name) in self.domain_names(cgroup_id)? {
            let routes = routes::of_name(&permits, &name)?;
            stored("route_map", || format!("what {name} is permitted"), route_map.insert(domain, routes, 0))?;
        }
        let stale = self.prefixes_of(cgroup_id)?;
        let mut prefix_map = self.pins.prefixes()?;
        for (key, prefix) in &prefixes {
            stored("prefix_map", || "an address range".to_owned(), prefix_map.insert(key, prefix, 0))?;
        }
        for key in stale {
            if !prefixes.iter().any(|(kept, _)| routes::same_key(kept, &key)) {
                found("prefix_map", prefix_map.remove(&key))?;
            }
        }
        write_json(&self.view_path(cgroup_id), &view)
    }

    pub(crate) fn clear_prefixes(&self, cgroup_id: u64) -> Result<()> {
        let mut prefix_map = self.pins.prefixes()?;
        for key in self.prefixes_of(cgroup_id)? {
            found("prefix_map", prefix_map.remove(&key))?;
        }
        Ok(())
    }

    fn prefixes_of(&self, cgroup_id: u64) -> Result<Vec<Key<PrefixKey>>> {
        let owner = cgroup_id.to_be_bytes();
        let map = self.pins.prefixes()?;
        let keys = all("prefix_map", map.keys())?;
        Ok(keys.into_iter().filter(|key| key.data().cgroup_id_be == owner).collect())
    }
}
