//! Certificates of the lanes, made for a run.

use std::{
    collections::HashMap,
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use stack::{
    Lane, RELAY,
    certificates::{Authority, Role},
};

/// Longer than any run.
const LENGTH: Duration = Duration::from_secs(2 * 86_400);

/// Files that a sender shows, and that it checks the collector by.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The authority that the collector's own certificate is checked by.
    pub authority: PathBuf,
    /// What the sender shows.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A folder of all of them.
#[derive(Debug)]
pub(super) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes every authority, a certificate of each for one sender, one for the collectors by their addresses, and what they
    /// and the relay, which is beside the first, show each other.
    pub fn make(folder: &Path, collectors: [IpAddr; 2]) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        let mut authorities = HashMap::new();
        for lane in Lane::ALL {
            let authority = Authority::open(folder, lane.word())?;
            authority.issue(&[lane.word()], Role::Client, LENGTH)?.write(folder, lane.word())?;
            authorities.insert(lane, authority);
        }
        let authority = Authority::open(folder, "collector")?;
        let [beside, other] = collectors.map(|address| address.to_string());
        let names = ["collector", &beside, &other];
        authority.issue(&names, Role::Server, LENGTH)?.write(folder, "server")?;
        let relay = Authority::open(folder, RELAY)?;
        relay.issue(&[RELAY, &beside], Role::Server, LENGTH)?.write(folder, RELAY)?;
        for client in ["to-relay", "kept"] {
            relay.issue(&[client], Role::Client, LENGTH)?.write(folder, client)?;
        }
        // The collector is another user.
        for key in ["server.key", "to-relay.key"] {
            fs::set_permissions(folder.join(key), fs::Permissions::from_mode(0o644))?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where they are, named as `--lane-certificates` has them.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Those of a lane's sender.
    pub fn of(&self, lane: Lane) -> Credentials {
        let file = |extension: &str| self.folder.join(format!("{}.{extension}", lane.word()));
        Credentials {
            authority: self.folder.join("collector-ca.crt"),
            certificate: file("crt"),
            key: file("key"),
        }
    }
}
