//! A folder below /run that goes with its world.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use super::{FOLDER, WorldError, cgroup::create_below, etc::ROOT};
use crate::{actor::confine::NOBODY, owner::Owner};

/// An empty folder that belongs to `nobody`, removed with its content on drop.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes `/run/clawker-lab/<owner>/<name>`, which the sweeper removes if this process is killed.
    pub fn create(name: &str) -> Result<Self, WorldError> {
        let top = Path::new(ROOT).join(FOLDER);
        let parent = top.join(Owner::current().to_string());
        let path = parent.join(name);
        let make = || -> io::Result<Self> {
            create_below(&parent, &path)?;
            let folder = Self { path: path.clone() };
            // Programs of another user find their way here, whatever the umask.
            for path in [&top, &parent, &path] {
                fs::set_permissions(path, Permissions::from_mode(0o755))?;
            }
            chown(&path, Some(NOBODY), Some(NOBODY))?;
            Ok(folder)
        };
        make().map_err(WorldError::io(format!("make the folder {}", path.display())))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        for parent in self.path.ancestors().skip(1).take(2) {
            let _ = fs::remove_dir(parent);
        }
    }
}
