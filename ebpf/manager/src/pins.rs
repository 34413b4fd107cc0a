//! Where things are pinned, and typed access to the pinned maps.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use abi::{
    ABI_VERSION, Budget, Bypass, Container, DnsEntry, DnsKey, DomainName, Flow, FlowKey, Fold, FoldKey,
    Identity, Ledger, MetricKey, Noted, Prefix, PrefixKey, Routes, pin,
};
#[expect(deprecated, reason = "its successor, BPF_MAP_TYPE_CGRP_STORAGE, needs Linux 6.2")]
use aya::maps::CgroupStorage;
use aya::maps::{Array, HashMap, Map, MapData, MapError, lpm_trie::LpmTrie};

use crate::error::{Error, Result};

/// Folder of every container's links, below the pin directory.
const LINKS: &str = "links";

/// A pin directory on a bpffs.
#[derive(Clone, Debug)]
pub struct Pins {
    dir: PathBuf,
}

macro_rules! maps {
    ($($(#[$doc:meta])* $method:ident: $name:literal, $kind:ident<$($shape:ty),+>, $variant:ident;)+) => {
        $(
            $(#[$doc])*
            pub(crate) fn $method(&self) -> Result<$kind<MapData, $($shape),+>> {
                let data = MapData::from_pin(self.dir.join($name)).map_err(Error::map($name))?;
                $kind::try_from(Map::$variant(data)).map_err(Error::map($name))
            }
        )+

        /// Every map's name, as pinned.
        pub(crate) const MAPS: &[&str] = &[$($name,)+ "identity", "socks", pin::EVENTS];
    };
}

impl Pins {
    maps! {
        /// Settings by cgroup id.
        containers: "container_map", HashMap<u64, Container>, HashMap;
        /// Bypass by cgroup id.
        bypass: "bypass_map", HashMap<u64, Bypass>, HashMap;
        /// Names by container and address.
        dns_cache: "dns_cache", HashMap<DnsKey, DnsEntry>, HashMap;
        /// Port ranges by domain identity.
        routes: "route_map", HashMap<u32, Routes>, HashMap;
        /// Port ranges by container and prefix.
        prefixes: "prefix_map", LpmTrie<PrefixKey, Prefix>, LpmTrie;
        /// Names by domain identity.
        domain_names: "domain_names", HashMap<u32, DomainName>, HashMap;
        /// Open flows.
        flows: "flows", HashMap<FlowKey, Flow>, HashMap;
        /// When sockets with several flows were closed, by cookie.
        tombstones: "tombstones", HashMap<u64, u64>, LruHashMap;
        /// Counters by cgroup id.
        ledger: "ledger", HashMap<u64, Ledger>, HashMap;
        /// Denied attempts that were counted instead of recorded.
        folds: "folds", HashMap<FoldKey, Fold>, HashMap;
        /// How much of it is documented.
        fold_readings: "fold_readings", HashMap<FoldKey, Noted>, HashMap;
        /// What containers have used of their records' budget.
        budgets: "budgets", HashMap<u64, Budget>, HashMap;
        /// Debugging counters.
        metrics: "metrics_map", HashMap<MetricKey, u64>, LruHashMap;
        /// The version of the shapes.
        abi_version: "abi_version", Array<u32>, Array;
    }

    /// Pins below `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Refuses if nothing is pinned here, or something of another version.
    pub(crate) fn check(&self) -> Result<()> {
        let version = self.dir.join(pin::ABI_VERSION);
        if !version.try_exists().map_err(Error::file(version))? {
            return Err(Error::NotLoaded(self.dir.clone()));
        }
        let found = self.abi_version()?.get(&0, 0).map_err(Error::map("abi_version"))?;
        if found == ABI_VERSION { Ok(()) } else { Err(Error::AbiVersion { path: self.dir.clone(), found }) }
    }

    /// Identities by attach point.
    #[expect(deprecated, reason = "as above")]
    pub(crate) fn identity(&self) -> Result<CgroupStorage<MapData, Identity>> {
        let data = MapData::from_pin(self.dir.join("identity")).map_err(Error::map("identity"))?;
        CgroupStorage::try_from(Map::CgroupStorage(data)).map_err(Error::map("identity"))
    }

    /// Where a program is pinned.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.dir.join("programs").join(name)
    }

    /// Where a container's links are pinned.
    pub(crate) fn links(&self, cgroup_id: u64) -> PathBuf {
        self.dir.join(LINKS).join(cgroup_id.to_string())
    }

    /// Containers that programs are attached to.
    pub(crate) fn attached(&self) -> Result<usize> {
        let links = self.dir.join(LINKS);
        match fs::read_dir(&links) {
            Ok(entries) => Ok(entries.count()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(Error::file(links)(error)),
        }
    }

    /// Whether all is pinned, and of this version: whoever removes it begins with the programs.
    pub(crate) fn is_whole(&self) -> bool {
        self.check().is_ok() && self.program("sweep").exists()
    }

    /// Detaches every container's programs.
    pub(crate) fn detach_all(&self) -> Result<()> {
        remove_tree(&self.dir.join(LINKS))
    }

    /// Removes every pin. Links go first, so that no hook runs half configured.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn remove(&self) -> Result<()> {
        self.detach_all()?;
        remove_tree(&self.dir.join("programs"))?;
        remove_tree(&self.dir)
    }
}

/// Removes a folder of pins and folders; one that is not there is fine. bpffs has no recursion of its own.
pub(crate) fn remove_tree(dir: &Path) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file(dir)(error)),
    };
    for entry in entries {
        let path = entry.map_err(Error::file(dir))?.path();
        if path.is_dir() {
            remove_tree(&path)?;
        } else {
            fs::remove_file(&path).map_err(Error::file(&path))?;
        }
    }
    fs::remove_dir(dir).map_err(Error::file(dir))
}

/// What an iteration over a map gives. One under which entries go away is aya's to go on with; this is for what fails.
pub(crate) fn all<T>(
    map: &'static str,
    items: impl Iterator<Item = std::result::Result<T, MapError>>,
) -> Result<Vec<T>> {
    items.map(|item| item.map_err(Error::map(map))).collect()
}

/// Turns "no such key" into `None`.
pub(crate) fn found<T>(map: &'static str, result: std::result::Result<T, MapError>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(None),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(Error::Map { map, cause }),
    }
}

/// Says "full" where the kernel says E2BIG or ENOSPC.
pub(crate) fn stored(
    map: &'static str,
    what: impl FnOnce() -> String,
    result: std::result::Result<(), MapError>,
) -> Result<()> {
    match result {
        Err(MapError::SyscallError(error))
            if matches!(error.io_error.raw_os_error(), Some(nix::libc::E2BIG | nix::libc::ENOSPC)) =>
        {
            Err(Error::Full { map, what: what() })
        }
        other => other.map_err(Error::map(map)),
    }
}
