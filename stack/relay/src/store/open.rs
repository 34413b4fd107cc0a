//! Opening a lane's file; what is no file of the relay's any more is set aside.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    panic::catch_unwind,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use redb::{Database, ReadableDatabase as _, backends::FileBackend};

use super::{NUMBERS, Open, RECORDS};

/// Bytes of a file that are held in memory.
const CACHE: usize = 16 << 20;
/// What the name of a file that was set aside goes on with.
const ASIDE: &str = ".damaged-";

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another relay has it.
    #[error("{path}: another process uses it; end that one, or give this one another --state-dir", path = path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// What is in it is not what was written.
    #[error("{path}: damaged: {cause}", path = path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// It cannot be read or written.
    #[error("{path}: {cause}; see that there is room, and that the folder is the relay's to write", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// Whatever is wrong is in the log.
    #[error("{path}: it cannot be used as it is, and is opened again", path = path.display())]
    Panicked {
        /// Which.
        path: PathBuf,
    },
}

impl OpenError {
    pub(super) fn new(path: &Path, cause: redb::Error) -> Self {
        let path = path.to_owned();
        match cause {
            redb::Error::DatabaseAlreadyOpen => Self::InUse { path },
            redb::Error::Corrupted(cause) => Self::Damaged { path, cause },
            redb::Error::Io(cause)
                if matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Self::Damaged { path, cause: cause.to_string() }
            }
            cause @ (redb::Error::UpgradeRequired(_)
            | redb::Error::RepairAborted
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableIsMultimap(_)) => Self::Damaged { path, cause: cause.to_string() },
            cause => Self::File { path, cause: cause.to_string() },
        }
    }
}

/// Opens or makes it. Every page is looked at.
pub(super) fn open(path: &Path) -> Result<Open, OpenError> {
    let cause = match attempt(path) {
        Err(OpenError::Damaged { cause, .. }) => cause,
        Err(OpenError::Panicked { .. }) => "it cannot be read".to_owned(),
        done => return done,
    };
    let aside = aside(path);
    let failed = |error: io::Error| OpenError::File { path: path.to_owned(), cause: error.to_string() };
    fs::rename(path, &aside).map_err(failed)?;
    tracing::error!(
        event = "store_set_aside",
        path = %path.display(),
        kept_as = %aside.display(),
        cause,
        "its records are not sent, and its counts are lost; a new file goes on"
    );
    attempt(path)
}

fn attempt(path: &Path) -> Result<Open, OpenError> {
    let opened = catch_unwind(|| {
        let database = opened(path)?;
        let nonce = prepared(&database)?;
        Ok(Open { database, nonce })
    });
    match opened {
        Ok(opened) => opened.map_err(|cause| OpenError::new(path, cause)),
        Err(_) => Err(OpenError::Panicked { path: path.to_owned() }),
    }
}

fn opened(path: &Path) -> Result<Database, redb::Error> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    Ok(builder.create_with_backend(FileBackend::new(file)?)?)
}

/// Makes what is not there yet.
fn prepared(database: &Database) -> Result<u64, redb::Error> {
    let reading = database.begin_read()?;
    if let Ok(numbers) = reading.open_table(NUMBERS)
        && let Some(nonce) = numbers.get("nonce")?
    {
        return Ok(nonce.value());
    }
    drop(reading);
    let nonce = fastrand::u64(..);
    let transaction = database.begin_write()?;
    transaction.open_table(NUMBERS)?.insert("nonce", nonce)?;
    transaction.open_table(RECORDS)?;
    transaction.commit()?;
    Ok(nonce)
}

/// A name that no file has.
fn aside(path: &Path) -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let name = |number: u64| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{ASIDE}{now}-{number}"));
        PathBuf::from(name)
    };
    (0..).map(name).find(|name| !name.exists()).unwrap_or_else(|| name(0))
}

/// How many there are.
pub(super) fn set_aside(path: &Path) -> u64 {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return 0;
    };
    let begin = format!("{name}{ASIDE}");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&begin))).count()
        as u64
}
