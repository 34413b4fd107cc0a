//! Room for new names where a container has had its fill: what is long over makes place.

use std::{collections::HashSet, time::Duration};

use abi::DnsEntry;

use super::{Names, ip};
use crate::{
    clock::{boot_ns, nanoseconds},
    error::{Error, Result},
    pins::{all, found},
    sweep::MOST_SEEN,
};

/// How long a name serves attribution after it permits nothing: records of it may be on their way.
const KEPT: Duration = Duration::from_secs(60);
/// Between two searches: they walk whole maps, and a container can ask for names as fast as it likes.
const PAUSE: Duration = Duration::from_secs(10);

impl Names {
    /// Forgets addresses that have permitted nothing for a while, and names that then neither lead anywhere
    /// nor have a flow open.
    pub(super) fn make_room(&mut self) -> Result<()> {
        let now = boot_ns();
        if now < self.searched_ns.saturating_add(nanoseconds(PAUSE)) {
            return Ok(());
        }
        self.searched_ns = now;
        let mut in_use = HashSet::new();
        let mut cache = self.manager.pins.dns_cache()?;
        let entries = all("dns_cache", cache.iter())?;
        for (key, entry) in entries.into_iter().filter(|(key, _)| key.cgroup_id == self.cgroup_id) {
            if over(&entry, now) {
                found("dns_cache", cache.remove(&key))?;
                self.addresses.remove(&ip(key.addr));
            } else {
                in_use.extend(entry.names.map(|name| name.domain));
            }
        }
        let flows = self.manager.pins.flows()?;
        for pair in flows.iter().take(MOST_SEEN) {
            in_use.insert(pair.map_err(Error::map("flows"))?.1.domain);
        }
        let (mut routes, mut names) = (self.manager.pins.routes()?, self.manager.pins.domain_names()?);
        for (_, domain) in self.known.extract_if(|_, domain| !in_use.contains(domain)) {
            found("route_map", routes.remove(&domain))?;
            found("domain_names", names.remove(&domain))?;
        }
        Ok(())
    }
}

/// Whether no name of an entry has permitted anything for a while.
fn over(entry: &DnsEntry, now: u64) -> bool {
    let last = entry.names.iter().map(|name| name.expires_ns).max().unwrap_or(0);
    last.saturating_add(nanoseconds(KEPT)) <= now
}

#[cfg(test)]
mod tests {
    use abi::DnsName;

    use super::*;

    #[test]
    fn an_address_is_over_a_while_after_its_last_name() {
        let name = |expires_ns, domain| DnsName { expires_ns, domain, pad: 0 };
        let names = [name(5, 1), name(1_000, 2), DnsName::default(), DnsName::default()];
        let entry = DnsEntry { names, latest: 2, pad: 0 };
        let kept = nanoseconds(KEPT);
        assert!(!over(&entry, 1_000));
        assert!(!over(&entry, kept + 999));
        assert!(over(&entry, kept + 1_000));
    }
}
