//! Domain identities become names.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use abi::DomainName;
use aya::maps::{HashMap as BpfHashMap, Map, MapData, MapError};

use crate::{document::text, observe::Counters};

/// Identities are never reused, so a name once read stays right; this bounds what is kept.
const KEPT: usize = 65_536;
/// How often the pin is compared with the map in hand.
const CHECK: Duration = Duration::from_secs(1);

/// A source of names.
pub trait DomainNames: Send {
    /// The name of an identity other than 0.
    fn name(&mut self, domain: u32) -> Option<Arc<str>>;

    /// Called before each batch.
    fn refresh(&mut self) {}
}

/// Knows no name.
#[derive(Clone, Copy, Debug)]
pub struct NoNames;

impl DomainNames for NoNames {
    fn name(&mut self, _domain: u32) -> Option<Arc<str>> {
        None
    }
}

/// `<pin dir>/domain_names`, opened when it is there.
pub struct PinnedNames {
    path: PathBuf,
    counters: Arc<Counters>,
    map: Option<(u32, BpfHashMap<MapData, u32, DomainName>)>,
    cache: HashMap<u32, Arc<str>>,
    checked: Option<Instant>,
}

impl PinnedNames {
    /// Names from the map pinned below `pin_dir`.
    pub fn new(pin_dir: &std::path::Path, counters: Arc<Counters>) -> Self {
        Self {
            path: pin_dir.join(abi::pin::DOMAIN_NAMES),
            counters,
            map: None,
            cache: HashMap::new(),
            checked: None,
        }
    }

    fn open(&self) -> Result<(u32, BpfHashMap<MapData, u32, DomainName>), MapError> {
        let data = MapData::from_pin(&self.path)?;
        let id = data.info()?.id();
        Ok((id, Map::from_map_data(data).and_then(BpfHashMap::try_from)?))
    }
}

impl DomainNames for PinnedNames {
    fn name(&mut self, domain: u32) -> Option<Arc<str>> {
        if self.cache.len() >= KEPT {
            self.cache.clear();
        }
        let vacant = match self.cache.entry(domain) {
            Entry::Occupied(known) => return Some(Arc::clone(known.get())),
            Entry::Vacant(vacant) => vacant,
        };
        let read = self.map.as_ref().and_then(|(_, map)| map.get(&domain, 0).ok());
        let Some(name) = read.as_ref().and_then(used) else {
            self.counters.name_missing();
            return None;
        };
        Some(Arc::clone(vacant.insert(name.into())))
    }

    /// Another map under the same pin counts its identities anew: what was cached is then wrong.
    fn refresh(&mut self) {
        if self.checked.is_some_and(|at| at.elapsed() < CHECK) && self.map.is_some() {
            return;
        }
        self.checked = Some(Instant::now());
        match self.open() {
            Ok((id, map)) => {
                if self.map.as_ref().is_none_or(|(known, _)| *known != id) {
                    self.cache.clear();
                    self.map = Some((id, map));
                }
            }
            Err(error) => {
                tracing::debug!(event = "names_unavailable", path = %self.path.display(), %error)
            }
        }
    }
}

fn used(name: &DomainName) -> Option<String> {
    let bytes = name.name.get(..usize::try_from(name.len).ok()?)?;
    Some(text(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_its_room_is_no_name() {
        let mut name = DomainName { cgroup_id: 1, len: 8, pad: 0, name: [0; abi::NAME_LEN] };
        name.name[..8].copy_from_slice(b"api.test");
        assert_eq!(used(&name).as_deref(), Some("api.test"));
        name.len = 257;
        assert_eq!(used(&name), None);
    }
}
