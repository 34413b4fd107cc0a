//! Files and folders, written so that whoever reads them sees the old ones or the new.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

/// Who a service is: user and group.
pub type User = (u32, u32);

/// Makes a folder, if it is not there, of `user` if that is somebody else.
pub fn folder(path: &Path, mode: u32, user: Option<User>) -> anyhow::Result<()> {
    let make = || {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        own(path, user)
    };
    make().with_context(|| format!("cannot make {}", path.display()))
}

/// Writes a file, if it is not so already: says whether it was not.
pub fn write(path: &Path, content: &[u8], mode: u32, user: Option<User>) -> anyhow::Result<bool> {
    if fs::read(path).is_ok_and(|there| there == content) {
        own(path, user).with_context(|| format!("cannot change {}", path.display()))?;
        return Ok(false);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
        own(&beside, user)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

/// Gives a file or folder to somebody.
pub fn own(path: &Path, user: Option<User>) -> std::io::Result<()> {
    match user {
        Some((user, group)) => chown(path, Some(user), Some(group)),
        None => Ok(()),
    }
}

/// For as long as it lives, no other `stack` changes what is in `folder`.
pub fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join(".lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            bail!("another `stack` is changing {} just now: wait for it", folder.display())
        }
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}
