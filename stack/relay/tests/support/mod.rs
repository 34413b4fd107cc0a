//! A relay's process, an endpoint behind it and senders before it.

mod endpoint;
mod process;
mod sender;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

pub use endpoint::{Endpoint, Manner};
pub use process::Relay;
pub use sender::{Sender, numbered, request};

/// Longer than anything here takes.
pub const LONG: Duration = Duration::from_secs(60);

/// Waits until `is` says so.
pub fn until(what: &str, mut is: impl FnMut() -> bool) -> Result<(), Failed> {
    let deadline = Instant::now() + LONG;
    while !is() {
        if Instant::now() > deadline {
            return Err(format!("within {LONG:?}: not {what}").into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A folder with certificates of two authorities, for 127.0.0.1.
pub struct Certificates(TempDir);

impl Certificates {
    pub fn make() -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        for authority in ["right", "wrong"] {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            let file = |name: &str| folder.path().join(format!("{authority}{name}"));
            fs::write(file("-ca.crt"), params.self_signed(&key)?.pem())?;
            let issuer = Issuer::new(params, key);
            let key = KeyPair::generate()?;
            let one = CertificateParams::new(["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
            fs::write(file(".crt"), one.pem())?;
            fs::write(file(".key"), key.serialize_pem())?;
        }
        Ok(Self(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn pem(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).expect("a file that was written")
    }
}
