//! Worlds that a run left up, as another process finds and enters them.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{FOLDER, World, WorldError, cgroup::Cgroup, etc};
use crate::{actor::confine::Confinement, owner::Owner, scenario::types::Agent};

/// A world that is up, and where its parts are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptWorld {
    /// `<run>/<world>`, unique on the machine.
    pub name: String,
    /// The cell that it was built for.
    pub cell: String,
    /// The agents, in order.
    pub agents: Vec<KeptAgent>,
    /// The far side.
    pub far: Entrance,
}

/// One agent of a kept world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAgent {
    /// Labels, user and capabilities.
    pub agent: Agent,
    /// Where it is.
    pub entrance: Entrance,
    files: PathBuf,
}

/// A cgroup and a network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrance {
    /// Folder of the cgroup.
    pub cgroup: PathBuf,
    /// File of the namespace.
    pub netns: PathBuf,
}

impl Entrance {
    /// `cgroup.procs` for writing, and the namespace.
    pub(crate) fn open(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        let procs = fs::File::options().write(true).open(self.cgroup.join("cgroup.procs"))?;
        Ok((procs.into(), fs::File::open(&self.netns)?.into()))
    }
}

impl KeptAgent {
    /// What makes a process one of this agent's.
    pub(crate) fn confinement(&self) -> Result<Confinement, WorldError> {
        let opened = self.entrance.open();
        let (procs, netns) = opened.map_err(WorldError::io(format!("enter {:?}", self.agent.agent)))?;
        let binds: Vec<(CString, CString)> = etc::binds(&self.files);
        Confinement::new(&self.agent, procs.as_fd(), netns.as_fd(), binds)
    }
}

impl KeptWorld {
    /// Every world of living runs, in order of their names.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let folders = fs::read_dir(Path::new(etc::ROOT).join(FOLDER)).into_iter().flatten().flatten();
        let living = folders.map(|entry| entry.path()).filter(|folder| {
            let owner = folder.file_name().and_then(|name| name.to_str()?.parse::<Owner>().ok());
            owner.is_some_and(|owner| !owner.is_dead())
        });
        let files = living.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
        let json =
            files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
        let mut worlds: Vec<Self> =
            json.filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok()).collect();
        worlds.sort_by(|a, b| a.name.cmp(&b.name));
        worlds
    }
}

/// Tells other processes of a world, until dropped.
pub struct Notice {
    /// What is told.
    pub world: KeptWorld,
    path: PathBuf,
    // Ends what was started on the far side.
    _far: Cgroup,
}

impl Notice {
    /// Writes `/run/clawker-lab/<owner>/<id>.json` for `world`, which was made as `id` of `agents` for
    /// `cell`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn of(world: &World, id: &str, agents: &[Agent], cell: &str) -> Result<Self, WorldError> {
        let owner = Owner::current();
        let far = Cgroup::create(&super::cgroup_mount()?, &format!("{id}-far"))?;
        let folder = Path::new(etc::ROOT).join(FOLDER).join(owner.to_string());
        let agents = agents.iter().zip(&world.agents).map(|(agent, room)| KeptAgent {
            agent: agent.clone(),
            entrance: Entrance { cgroup: room.end.cgroup.clone(), netns: room.end.netns.clone() },
            files: room.files.folder().to_owned(),
        });
        let world = KeptWorld {
            name: format!("{owner}/{id}"),
            cell: cell.to_owned(),
            agents: agents.collect(),
            far: Entrance { cgroup: far.path().to_owned(), netns: world.far_netns.path().to_owned() },
        };
        let path = folder.join(format!("{id}.json"));
        let text = serde_json::to_vec_pretty(&world).map_err(io::Error::from);
        text.and_then(|text| fs::write(&path, text))
            .map_err(WorldError::io(format!("write {}", path.display())))?;
        Ok(Self { world, path, _far: far })
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        // Gone already if somebody swept too eagerly.
        let _ = fs::remove_file(&self.path);
    }
}
