//! The files below /etc that an agent sees in place of the machine's.

use std::{
    ffi::CString,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use super::{FOLDER, WorldError, addresses, cgroup::create_below};
use crate::owner::Owner;

/// Below here, by owner and agent.
pub const ROOT: &str = "/run";

/// Whom programs trust, in one file.
const AUTHORITIES: &str = "ssl/certs/ca-certificates.crt";

const FILES: [&str; 3] = ["resolv.conf", "hosts", "nsswitch.conf"];

/// Generated files of one agent, removed on drop.
pub struct EtcFiles {
    folder: PathBuf,
    keep: bool,
}

impl EtcFiles {
    /// Writes `/run/clawker-lab/<owner>/<name>/…`.
    pub fn create(name: &str, trust: Option<&str>) -> Result<Self, WorldError> {
        let parent = Path::new(ROOT).join(FOLDER).join(Owner::current().to_string());
        let folder = parent.join(name);
        let write = || -> io::Result<Self> {
            create_below(&parent, &folder)?;
            let files = Self { folder: folder.clone(), keep: false };
            for name in FILES.into_iter().chain(trust.map(|_| AUTHORITIES)) {
                let path = folder.join(name);
                fs::create_dir_all(path.parent().unwrap_or(&folder))?;
                let trusted = trust.filter(|_| name == AUTHORITIES);
                fs::write(&path, trusted.map_or_else(|| content(name), str::to_owned))?;
                // The agent is another user; the umask may be strict.
                fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
            }
            Ok(files)
        };
        write().map_err(WorldError::io(format!("write {}", folder.display())))
    }

    /// What to bind over what. A file that the machine does not have is left out, for a bind mount
    /// needs a target; libc's defaults say the same as ours.
    pub fn binds(&self) -> Vec<(CString, CString)> {
        binds(&self.folder)
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Leaves them in place on drop.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for EtcFiles {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        let _ = fs::remove_dir_all(&self.folder);
        for parent in self.folder.ancestors().skip(1).take(2) {
            let _ = fs::remove_dir(parent);
        }
    }
}

/// As [`EtcFiles::binds`], of files that stay where they are.
pub fn binds(folder: &Path) -> Vec<(CString, CString)> {
    let text = |path: PathBuf| CString::new(path.as_os_str().as_bytes()).ok();
    FILES
        .into_iter()
        .chain([AUTHORITIES])
        .map(|name| (folder.join(name), Path::new("/etc").join(name)))
        .filter(|(source, target)| source.exists() && target.exists())
        .filter_map(|(source, target)| text(source).zip(text(target)))
        .collect()
}

fn content(name: &str) -> String {
    match name {
        "resolv.conf" => format!("nameserver {}\noptions attempts:1 timeout:2\n", addresses::AUTHORITY),
        "hosts" => "127.0.0.1 localhost\n::1 localhost\n".to_owned(),
        _ => "passwd: files\ngroup: files\nhosts: files dns\n".to_owned(),
    }
}
