//! The sign that an enrolment is complete, for the start gate in the container: a file named after its cgroup id, in a
//! folder that says nothing else, so that a container may see it. It holds the boot that it is of: cgroup ids begin anew with the
//! next one, and a folder on a disk does not.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    Manager,
    attach::Program,
    clock::boot,
    daemon::ViewState,
    error::{Error, Result},
    state::remove_file,
};

/// Folder below the state directory.
const FOLDER: &str = "ready";

impl Manager {
    /// Makes the sign of every container whose enrolment is complete, and removes all others. `view` says how a
    /// container's resolver view stands.
    ///
    /// # Errors
    /// If a map or file refuses.
    pub(crate) fn refresh_ready(&self, view: impl Fn(u64) -> ViewState) -> Result<()> {
        // Whoever enrols holds this until every hook is attached and has its identity.
        let _lock = self.lock_changes()?;
        let folder = self.ready_folder()?;
        let mut wanted = BTreeSet::new();
        for cgroup_id in self.pins.containers()?.keys() {
            let cgroup_id = cgroup_id.map_err(Error::map("container_map"))?;
            if self.is_complete(cgroup_id, &view)? {
                wanted.insert(cgroup_id.to_string());
            }
        }
        let boot = boot()?;
        for entry in fs::read_dir(&folder).map_err(Error::file(&folder))? {
            let entry = entry.map_err(Error::file(&folder))?;
            let is_of_now = fs::read_to_string(entry.path()).is_ok_and(|of| of == boot);
            if !is_of_now || !entry.file_name().to_str().is_some_and(|name| wanted.remove(name)) {
                remove_file(&entry.path())?;
            }
        }
        for name in wanted {
            sign(&folder.join(name), &boot)?;
        }
        Ok(())
    }

    /// Makes the sign of one container if its enrolment is complete; `view` is how its resolver view stands. For whoever
    /// serves views without the daemon. Returns whether it is.
    ///
    /// # Errors
    /// If a map or file refuses.
    pub fn ready_if_complete(&self, cgroup_id: u64, view: &ViewState) -> Result<bool> {
        let _lock = self.lock_changes()?;
        let complete = self.is_complete(cgroup_id, |_| view.clone())?;
        if complete {
            sign(&self.ready_folder()?.join(cgroup_id.to_string()), &boot()?)?;
        }
        Ok(complete)
    }

    /// The folder of signs, made if it is not there: containers see it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn ready_folder(&self) -> Result<PathBuf> {
        let folder = self.ready();
        fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).map_err(Error::file(&folder))?;
        Ok(folder)
    }

    /// Takes a container's sign away.
    pub(crate) fn not_ready(&self, cgroup_id: u64) -> Result<()> {
        remove_file(&self.ready().join(cgroup_id.to_string()))
    }

    fn is_complete(&self, cgroup_id: u64, view: impl Fn(u64) -> ViewState) -> Result<bool> {
        let links = self.pins.links(cgroup_id);
        let attached = match fs::read_dir(&links) {
            Ok(links) => links.count(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(Error::file(&links)(error)),
        };
        let asks = self.view(cgroup_id)?.is_some_and(|view| view.resolver.is_some());
        Ok(attached == Program::ALL.len() && (!asks || view(cgroup_id) == ViewState::Serving))
    }

    fn ready(&self) -> PathBuf {
        self.state_dir().join(FOLDER)
    }
}

/// Makes a sign that whoever the agent is may read, whatever this process's umask.
fn sign(path: &Path, boot: &str) -> Result<()> {
    fs::write(path, boot).map_err(Error::file(path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(Error::file(path))
}
