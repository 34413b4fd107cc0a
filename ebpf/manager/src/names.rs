//! Domain identities: allocated, never reused, and stamped on the addresses a name led to.

mod room;

use std::{
    collections::{HashMap, HashSet},
    io::{Read as _, Seek as _, Write as _},
    net::IpAddr,
    path::Path,
};

use abi::{DnsEntry, DnsKey, DnsName, DomainName, NAME_LEN};

use crate::{
    Manager,
    error::{Error, Result},
    lock::Lock,
    permit::permits,
    pins::{all, found, stored},
    routes,
};

/// Names remembered per container.
const NAME_QUOTA: usize = 2048;
/// Addresses remembered per container.
const ADDRESS_QUOTA: usize = 8192;

/// The names of one container, as its resolver view learns them.
pub(crate) struct Names {
    manager: Manager,
    cgroup_id: u64,
    known: HashMap<String, u32>,
    addresses: HashSet<IpAddr>,
    /// When room was last looked for, nanoseconds of `CLOCK_BOOTTIME`.
    searched_ns: u64,
}

impl Names {
    /// Takes up what an earlier view of this container has learnt.
    pub(crate) fn open(manager: &Manager, cgroup_id: u64) -> Result<Self> {
        let known =
            manager.domain_names(cgroup_id)?.into_iter().map(|(domain, name)| (name, domain)).collect();
        let cache = manager.pins.dns_cache()?;
        let keys = all("dns_cache", cache.keys())?;
        let addresses =
            keys.iter().filter(|key| key.cgroup_id == cgroup_id).map(|key| ip(key.addr)).collect();
        Ok(Self { manager: manager.clone(), cgroup_id, known, addresses, searched_ns: 0 })
    }

    /// Notes that `name` (lower case, no final dot) leads to `addresses` and permits them until
    /// `expires_ns`. When this returns, a connection to them is decided by the name's rules.
    pub(crate) fn stamp(&mut self, name: &str, addresses: &[IpAddr], expires_ns: u64) -> Result<()> {
        let _lock = self.manager.lock_view(self.cgroup_id)?;
        // Read under the lock: the rules of this very moment.
        let Some(view) = self.manager.view(self.cgroup_id)? else {
            return Err(Error::NotEnrolled(self.cgroup_id));
        };
        let routes = routes::of_name(&permits(&view.rules)?, name)?;
        let more_addresses = addresses.iter().filter(|address| !self.addresses.contains(address)).count();
        if self.addresses.len().saturating_add(more_addresses) > ADDRESS_QUOTA
            || (self.known.len() >= NAME_QUOTA && !self.known.contains_key(name))
        {
            self.make_room()?;
        }
        let domain = self.identify(name)?;
        let what = || format!("what {name} is permitted");
        stored("route_map", what, self.manager.pins.routes()?.insert(domain, routes, 0))?;
        for address in addresses {
            self.stamp_address(domain, *address, expires_ns)?;
        }
        Ok(())
    }

    fn identify(&mut self, name: &str) -> Result<u32> {
        if let Some(domain) = self.known.get(name) {
            return Ok(*domain);
        }
        if self.known.len() >= NAME_QUOTA {
            return Err(Error::Full {
                map: "domain_names",
                what: format!("name {} of this container", NAME_QUOTA.saturating_add(1)),
            });
        }
        let domain = allocate(self.manager.state_dir())?;
        let mut bytes = [0; NAME_LEN];
        for (slot, byte) in bytes.iter_mut().zip(name.bytes()) {
            *slot = byte;
        }
        let len = u32::try_from(name.len().min(NAME_LEN)).unwrap_or(0);
        let value = DomainName { cgroup_id: self.cgroup_id, len, pad: 0, name: bytes };
        let insert = || -> Result<()> {
            stored(
                "domain_names",
                || format!("the name {name}"),
                self.manager.pins.domain_names()?.insert(domain, value, 0),
            )
        };
        match insert() {
            Err(Error::Full { .. }) => {
                self.manager.purge_retired_names()?;
                insert()?;
            }
            other => other?,
        }
        self.known.insert(name.to_owned(), domain);
        Ok(domain)
    }

    fn stamp_address(&mut self, domain: u32, address: IpAddr, expires_ns: u64) -> Result<()> {
        if !self.addresses.contains(&address) && self.addresses.len() >= ADDRESS_QUOTA {
            return Err(Error::Full {
                map: "dns_cache",
                what: format!("address {} of this container", ADDRESS_QUOTA.saturating_add(1)),
            });
        }
        let key = DnsKey { cgroup_id: self.cgroup_id, addr: routes::address(address) };
        let mut cache = self.manager.pins.dns_cache()?;
        let mut entry = found("dns_cache", cache.get(&key, 0))?.unwrap_or_default();
        put(&mut entry, DnsName { expires_ns, domain, pad: 0 });
        stored("dns_cache", || format!("address {address}"), cache.insert(key, entry, 0))?;
        self.addresses.insert(address);
        Ok(())
    }
}

/// Puts a name into an entry: in its own slot, else a free one, else in place of the one that ends first.
fn put(entry: &mut DnsEntry, name: DnsName) {
    let own = entry.names.iter().position(|slot| slot.domain == name.domain);
    let free = || entry.names.iter().position(|slot| slot.domain == 0);
    let oldest =
        || entry.names.iter().enumerate().min_by_key(|(_, slot)| slot.expires_ns).map(|(index, _)| index);
    if let Some(slot) = own.or_else(free).or_else(oldest).and_then(|index| entry.names.get_mut(index)) {
        *slot = name;
    }
    entry.latest = name.domain;
}

impl Manager {
    /// Identities and names of a container.
    pub(crate) fn domain_names(&self, cgroup_id: u64) -> Result<Vec<(u32, String)>> {
        let mut names = Vec::new();
        for pair in self.pins.domain_names()?.iter() {
            let (domain, name) = pair.map_err(Error::map("domain_names"))?;
            if name.cgroup_id == cgroup_id {
                names.push((domain, text(&name)));
            }
        }
        Ok(names)
    }

    /// Identities of a container.
    pub(crate) fn domains(&self, cgroup_id: u64) -> Result<Vec<u32>> {
        Ok(self.domain_names(cgroup_id)?.into_iter().map(|(domain, _)| domain).collect())
    }

    /// Makes room: names of containers that are retired only serve records long gone.
    fn purge_retired_names(&self) -> Result<()> {
        let live: HashSet<u64> = self.views()?.into_iter().map(|view| view.cgroup_id).collect();
        let mut map = self.pins.domain_names()?;
        let mut gone = Vec::new();
        for pair in map.iter() {
            let (domain, name) = pair.map_err(Error::map("domain_names"))?;
            if !live.contains(&name.cgroup_id) {
                gone.push(domain);
            }
        }
        for domain in gone {
            found("domain_names", map.remove(&domain))?;
        }
        Ok(())
    }
}

/// The name as text.
pub(crate) fn text(name: &DomainName) -> String {
    let len = usize::try_from(name.len).unwrap_or(0);
    String::from_utf8_lossy(name.name.get(..len).unwrap_or_default()).into_owned()
}

/// The address, IPv4 unmapped.
pub(crate) fn ip(addr: abi::Address) -> IpAddr {
    std::net::Ipv6Addr::from(addr).to_canonical()
}

/// The next identity. Kept in a locked file, so that no process and no restart gives one out twice.
fn allocate(state_dir: &Path) -> Result<u32> {
    let path = state_dir.join("next_domain");
    let lock = Lock::take(&path)?;
    let mut file = lock.file();
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(Error::file(&path))?;
    let next: u32 = if text.is_empty() {
        1
    } else {
        text.trim()
            .parse()
            .map_err(|_| Error::State { path: path.clone(), problem: format!("`{text}` is not a number") })?
    };
    let after = next
        .checked_add(1)
        .ok_or_else(|| Error::State { path: path.clone(), problem: "identities are used up".to_owned() })?;
    file.rewind().map_err(Error::file(&path))?;
    write!(file, "{after:<10}").map_err(Error::file(&path))?;
    Ok(next)
}
