//! Switching enforcement off for a time; recording goes on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use abi::Bypass;
use emitter::{Event, What};

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
        let event = Event::new(What::BypassOn)
            .of(self.owner(cgroup_id))
            .until(wall_ns(boot_ns().saturating_add(nanoseconds(duration))));
        self.tell(event, self.switch_on(cgroup_id, duration))
    }

    fn switch_on(&self, cgroup_id: u64, duration: Duration) -> Result<()> {
        // Nobody retires it meanwhile: the next container with this id would find the bypass on.
        let _lock = self.lock_changes()?;
        if found("container_map", self.pins.containers()?.get(&cgroup_id, 0))?.is_none() {
            return Err(Error::NotEnrolled(cgroup_id));
        }
        let mut map = self.pins.bypass()?;
        self.end_if_over(cgroup_id)?;
        let now = boot_ns();
        let current = found("bypass_map", map.get(&cgroup_id, 0))?.filter(|bypass| now < bypass.deadline_ns);
        let bypass = Bypass {
            deadline_ns: now.saturating_add(nanoseconds(duration)),
            epoch: current.map_or(now, |bypass| bypass.epoch),
        };
        stored("bypass_map", || format!("the bypass of {cgroup_id}"), map.insert(cgroup_id, bypass, 0))?;
        tracing::warn!(event = "bypass_on", cgroup_id, seconds = duration.as_secs_f64());
        Ok(())
    }

    /// Ends a bypass now; flows it permitted are cut. Without one nothing happens, and `false` is returned.
    ///
    /// # Errors
    /// If the container is not enrolled, or a map refuses.
    pub fn bypass_off(&self, cgroup_id: u64) -> Result<bool> {
        let event = Event::new(What::BypassOff).of(self.owner(cgroup_id));
        match self.switch_off(cgroup_id) {
            Ok(false) => Ok(false),
            result => self.tell(event, result),
        }
    }

    fn switch_off(&self, cgroup_id: u64) -> Result<bool> {
        let _lock = self.lock_changes()?;
        if found("container_map", self.pins.containers()?.get(&cgroup_id, 0))?.is_none() {
            return Err(Error::NotEnrolled(cgroup_id));
        }
        self.end_if_over(cgroup_id)?;
        let was_on = found("bypass_map", self.pins.bypass()?.remove(&cgroup_id))?.is_some();
        if was_on {
            tracing::warn!(event = "bypass_off", cgroup_id);
        }
        Ok(was_on)
    }

    /// Tells of every bypass that has reached its end, which the kernel saw to, and forgets it. Returns how many.
    ///
    /// # Errors
    /// If a map refuses.
    pub fn end_bypasses(&self) -> Result<usize> {
        let mut over = Vec::new();
        for pair in self.pins.bypass()?.iter() {
            let (cgroup_id, bypass) = pair.map_err(Error::map("bypass_map"))?;
            if boot_ns() >= bypass.deadline_ns {
                over.push(cgroup_id);
            }
        }
        let mut ended = 0_usize;
        for cgroup_id in over {
            // Somebody may be moving its end.
            let _lock = self.lock_changes()?;
            ended = ended.saturating_add(usize::from(self.end_if_over(cgroup_id)?));
        }
        Ok(ended)
    }

    /// Under the lock. To the kernel, one that is over and none are the same.
    fn end_if_over(&self, cgroup_id: u64) -> Result<bool> {
        let mut map = self.pins.bypass()?;
        let over =
            found("bypass_map", map.get(&cgroup_id, 0))?.filter(|bypass| boot_ns() >= bypass.deadline_ns);
        let Some(bypass) = over else { return Ok(false) };
        let event = Event::new(What::BypassEnded).of(self.owner(cgroup_id));
        self.events().record(event.until(wall_ns(bypass.deadline_ns)));
        found("bypass_map", map.remove(&cgroup_id))?;
        Ok(true)
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

/// A moment of the boot clock, in nanoseconds since 1970.
fn wall_ns(boot: u64) -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanoseconds);
    let now = boot_ns();
    wall.saturating_add(boot).saturating_sub(now)
}
