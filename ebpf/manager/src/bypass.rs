//! Switching enforcement off for a time; recording goes on.

use std::time::Duration;

use abi::Bypass;

use crate::{
    Manager,
    clock::{boot_ns, nanoseconds},
    error::{Error, Result},
    pins::{found, stored},
};

impl Manager {
    /// Lets a container pass for `duration`. While a bypass is on, this moves its end; flows it
    /// permitted go on until then.
    ///
    /// # Errors
    /// If the container is not enrolled, or the map refuses.
    pub fn bypass_on(&self, cgroup_id: u64, duration: Duration) -> Result<()> {
        // Nobody retires it meanwhile: the next container with this id would find the bypass on.
        let _lock = self.lock_changes()?;
        if found("container_map", self.pins.containers()?.get(&cgroup_id, 0))?.is_none() {
            return Err(Error::NotEnrolled(cgroup_id));
        }
        let now = boot_ns();
        let mut map = self.pins.bypass()?;
        let current = found("bypass_map", map.get(&cgroup_id, 0))?.filter(|bypass| now < bypass.deadline_ns);
        let bypass = Bypass {
            deadline_ns: now.saturating_add(nanoseconds(duration)),
            epoch: current.map_or(now, |bypass| bypass.epoch),
        };
        stored("bypass_map", || format!("the bypass of {cgroup_id}"), map.insert(cgroup_id, bypass, 0))?;
        tracing::warn!(event = "bypass_on", cgroup_id, seconds = duration.as_secs_f64());
        Ok(())
    }

    /// Ends a bypass now; flows it permitted are cut. Without one, nothing happens.
    ///
    /// # Errors
    /// If the map refuses.
    pub fn bypass_off(&self, cgroup_id: u64) -> Result<()> {
        found("bypass_map", self.pins.bypass()?.remove(&cgroup_id))?;
        tracing::warn!(event = "bypass_off", cgroup_id);
        Ok(())
    }

    /// How long a container's bypass still lasts; `None` if it is off.
    ///
    /// # Errors
    /// If the map refuses.
    pub fn bypass_left(&self, cgroup_id: u64) -> Result<Option<Duration>> {
        let bypass = found("bypass_map", self.pins.bypass()?.get(&cgroup_id, 0))?;
        Ok(bypass
            .and_then(|bypass| bypass.deadline_ns.checked_sub(boot_ns()))
            .filter(|left| *left > 0)
            .map(Duration::from_nanos))
    }
}
