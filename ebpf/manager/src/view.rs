//! A container's resolver view and rules, as they are kept.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use ipnet::IpNet;
use rules::{Rule, forbidden};
use serde::{Deserialize, Serialize};

use crate::{
    Manager,
    error::{Error, Result},
    lock::Lock,
    network::Network,
    permit::{Permit, permits},
    resolver::ResolverAddresses,
    state::{read_folder, read_json},
};

/// Folder of views below the state directory.
pub(crate) const VIEWS: &str = "views";

/// A container's resolver view and rules, as the state file `views/<cgroup id>.json` holds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct View {
    /// Whose.
    pub cgroup_id: u64,
    /// When that was enrolled: a cgroup id is used again.
    pub enrolled_ns: u64,
    /// Where it listens and asks; absent: no DNS.
    pub resolver: Option<ResolverAddresses>,
    /// Shortest time an answer permits its addresses, milliseconds.
    pub dns_ttl_floor_ms: u64,
    /// The container's own network.
    pub network: Network,
    /// Networks that no name leads it to.
    #[serde(default)]
    pub forbidden: Vec<IpNet>,
    /// The egress rules.
    pub rules: Vec<Rule>,
}

impl View {
    /// What makes `address` one that no name leads the container to; `None` if it is none.
    ///
    /// In its own network no name permits anything either, but there it is the kernel that denies: the attempt is recorded, with
    /// the name that led there, and infrastructure has names. Behind a translator the kernel would not know that network again.
    pub(crate) fn forbids(&self, address: IpAddr) -> Option<&'static str> {
        if self.network.holds(address) {
            return None;
        }
        let gateways = self.network.gateways.iter().copied().map(IpNet::from);
        let own: Vec<IpNet> =
            self.forbidden.iter().chain(&self.network.subnets).copied().chain(gateways).collect();
        forbidden::why(address, &own)
    }
}

/// A container's view as it is now, and what its rules permit: read again once its file is another, for a container asks as fast
/// as it likes.
pub(crate) struct Current {
    manager: Manager,
    cgroup_id: u64,
    last: Mutex<Option<(Version, Arc<Permitted>)>>,
}

/// A view, and what its rules permit.
pub(crate) struct Permitted {
    pub view: View,
    pub permits: Vec<Permit>,
}

/// What tells one file from the next in its place: inode, change (seconds, nanoseconds), size.
type Version = (u64, i64, i64, u64);

impl Current {
    pub(crate) fn new(manager: &Manager, cgroup_id: u64) -> Self {
        Self { manager: manager.clone(), cgroup_id, last: Mutex::default() }
    }

    /// `None` if it is not enrolled.
    pub(crate) fn get(&self) -> Result<Option<Arc<Permitted>>> {
        let path = self.manager.view_path(self.cgroup_id);
        let file = match fs::metadata(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file(path)(error)),
        };
        // Before it is read: what comes into its place meanwhile is another the next time.
        let version = (file.ino(), file.ctime(), file.ctime_nsec(), file.size());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, permitted)) = last.as_ref().filter(|(of, _)| *of == version) {
            return Ok(Some(Arc::clone(permitted)));
        }
        let Some(view) = self.manager.view(self.cgroup_id)? else { return Ok(None) };
        let permitted = Arc::new(Permitted { permits: permits(&view.rules)?, view });
        *last = Some((version, Arc::clone(&permitted)));
        Ok(Some(permitted))
    }
}

impl Manager {
    /// A container's view and rules; `None` if it is not enrolled.
    pub(crate) fn view(&self, cgroup_id: u64) -> Result<Option<View>> {
        read_json(&self.view_path(cgroup_id))
    }

    /// Every view there is.
    pub(crate) fn views(&self) -> Result<Vec<View>> {
        read_folder(&self.state_dir.join(VIEWS))
    }

    /// Holds a view's rules still, across processes, while the maps are brought in line with them.
    pub(crate) fn lock_view(&self, cgroup_id: u64) -> Result<Lock> {
        Lock::take_of(&self.state_dir.join("views.lock"), cgroup_id)
    }

    pub(crate) fn view_path(&self, cgroup_id: u64) -> PathBuf {
        self.state_dir.join(VIEWS).join(format!("{cgroup_id}.json"))
    }
}
