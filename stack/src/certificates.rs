//! Authorities of our own: one a lane, whose certificates open that lane alone, and the proxy's, whose certificates
//! containers are shown.

mod held;

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

pub use held::Held;

/// Clocks differ: a certificate holds from so long before it was made.
const EARLIER: Duration = Duration::from_secs(3600);
/// How long an authority holds.
const AUTHORITY: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file.
    #[error("{path}: {cause}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A key that is none, or a name that cannot be in a certificate.
    #[error("{what}: {cause}")]
    Certificate {
        /// Of what.
        what: String,
        /// Why.
        cause: rcgen::Error,
    },
    /// The key is missing, and nothing can be signed.
    #[error("{there} is there and {missing} is not. Put it back, or remove both: all certificates are made anew then.", there = there.display(), missing = missing.display())]
    Half {
        /// The one.
        there: PathBuf,
        /// The other.
        missing: PathBuf,
    },
}

/// What a certificate is shown by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A server, to those who ask for one of its names.
    Server,
    /// A client, to a server that asks who it is.
    Client,
}

/// Who signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The key: a secret.
    pub key: String,
}

impl Authority {
    /// The authority `name`, whose certificate and key are in `folder`; they are made if neither is there. A certificate that
    /// alone is missing is made of the key, which is what was written first: whatever that signed stays good.
    ///
    /// # Errors
    /// If a file cannot be read or written, is none of these, or the key alone is missing.
    pub fn open(folder: &Path, name: &str) -> Result<Self, Error> {
        let (certificate, key) =
            (folder.join(format!("{name}-ca.crt")), folder.join(format!("{name}-ca.key")));
        match (certificate.exists(), key.exists()) {
            (true, true) => {}
            (true, false) => return Err(Error::Half { there: certificate, missing: key }),
            (false, has_key) => {
                if !has_key {
                    let pair = KeyPair::generate().map_err(of(&name))?;
                    write(&key, &pair.serialize_pem(), 0o600)?;
                }
                sign(name, &certificate, &pair(&key)?)?;
            }
        }
        let pair = pair(&key)?;
        // What it signs names it by these: they are those of its own certificate.
        Ok(Self { issuer: Issuer::new(authority(name), pair), certificate: read(&certificate)? })
    }

    /// Its own certificate, as PEM: what others check by.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for these names (domains, wildcards of one label, addresses), which holds for `length` from now.
    ///
    /// # Errors
    /// If a name cannot be in a certificate.
    pub fn issue(&self, names: &[&str], role: Role, length: Duration) -> Result<Issued, Error> {
        let what = names.join(", ");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(of(&what))?;
        // All it says is in its names.
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match role {
            Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Role::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        hold(&mut params, length);
        let key = KeyPair::generate().map_err(of(&what))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(of(&what))?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Issued {
    /// Writes both into `folder`, as `<name>.crt` and `<name>.key`; whoever reads them sees the old ones or the new.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> Result<(), Error> {
        write(&folder.join(format!("{name}.key")), &self.key, 0o600)?;
        write(&folder.join(format!("{name}.crt")), &self.certificate, 0o644)
    }
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(file(path))
}

/// The key in a file.
fn pair(key: &Path) -> Result<KeyPair, Error> {
    KeyPair::from_pem(&read(key)?).map_err(of(&key.display()))
}

/// Makes an authority's own certificate.
fn sign(name: &str, certificate: &Path, pair: &KeyPair) -> Result<(), Error> {
    let mut params = authority(name);
    hold(&mut params, AUTHORITY);
    let signed = params.self_signed(pair).map_err(of(&name))?;
    write(certificate, &signed.pem(), 0o644)
}

/// An authority that signs what shows itself, and no other authority.
fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, format!("clawker {name}"));
    params.distinguished_name = called;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn hold(params: &mut CertificateParams, length: Duration) {
    let now = SystemTime::now();
    params.not_before = now.checked_sub(EARLIER).unwrap_or(now).into();
    // One for longer than there is time holds for no time.
    params.not_after = now.checked_add(length).unwrap_or(now).into();
}

/// By a file beside it that takes its place.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let beside = path.with_extension("new");
    let mut new = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)
        .map_err(file(&beside))?;
    // One that was left there may be for others to read.
    new.set_permissions(Permissions::from_mode(mode)).map_err(file(&beside))?;
    new.write_all(text.as_bytes()).map_err(file(&beside))?;
    // What is there is whole, whenever the power goes.
    new.sync_all().map_err(file(&beside))?;
    fs::rename(&beside, path).map_err(file(path))
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |cause| Error::File { path, cause }
}

fn of(what: &impl ToString) -> impl FnOnce(rcgen::Error) -> Error {
    let what = what.to_string();
    move |cause| Error::Certificate { what, cause }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    /// What OpenSSL says of a certificate that is checked by an authority.
    fn verify(folder: &Path, authority: &str, certificate: &str, more: &[&str]) -> Result<(), String> {
        let output = Command::new("openssl")
            .args(["verify", "-CAfile"])
            .arg(folder.join(format!("{authority}-ca.crt")))
            .args(more)
            .arg(folder.join(format!("{certificate}.crt")))
            .output()
            .expect("openssl runs");
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    #[test]
    fn a_certificate_is_of_one_authority_one_role_and_its_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let one = Authority::open(folder.path(), "one").expect("an authority");
        Authority::open(folder.path(), "two").expect("another");
        let server =
            one.issue(&["api.test", "*.cdn.test", "198.18.0.2"], Role::Server, DAY).expect("a certificate");
        server.write(folder.path(), "server").expect("it is written");
        let client = one.issue(&["envoy"], Role::Client, DAY).expect("a certificate");
        client.write(folder.path(), "client").expect("it is written");
        let verify =
            |authority, certificate, more: &[&str]| verify(folder.path(), authority, certificate, more);
        for name in ["api.test", "x.cdn.test"] {
            assert_eq!(verify("one", "server", &["-purpose", "sslserver", "-verify_hostname", name]), Ok(()));
        }
        assert_eq!(verify("one", "server", &["-verify_ip", "198.18.0.2"]), Ok(()));
        assert_eq!(verify("one", "client", &["-purpose", "sslclient"]), Ok(()));
        for (authority, certificate, more, told) in [
            ("two", "server", &["-purpose", "sslserver"][..], "unable to get local issuer"),
            ("one", "server", &["-purpose", "sslclient"], "unsuitable certificate purpose"),
            ("one", "client", &["-purpose", "sslserver"], "unsuitable certificate purpose"),
            ("one", "server", &["-verify_hostname", "a.b.cdn.test"], "hostname mismatch"),
            ("one", "server", &["-attime", "4102444800"], "has expired"),
        ] {
            let said = verify(authority, certificate, more).expect_err("it is refused").to_lowercase();
            assert!(said.contains(told), "{certificate} by {authority} {more:?}: {said}");
        }
    }

    #[test]
    fn an_authority_stays_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Authority::open(folder.path(), "one").expect("made").certificate().to_owned();
        let again = Authority::open(folder.path(), "one").expect("read");
        assert_eq!(again.certificate(), first);
        again
            .issue(&["api.test"], Role::Server, DAY)
            .expect("a certificate")
            .write(folder.path(), "late")
            .expect("written");
        assert_eq!(verify(folder.path(), "one", "late", &["-purpose", "sslserver"]), Ok(()));
        let mode = fs::metadata(folder.path().join("one-ca.key")).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // A kill between the two files leaves the key alone.
        fs::remove_file(folder.path().join("one-ca.crt")).expect("removed");
        Authority::open(folder.path(), "one").expect("signed again");
        assert_eq!(verify(folder.path(), "one", "late", &["-purpose", "sslserver"]), Ok(()));
        fs::remove_file(folder.path().join("one-ca.key")).expect("removed");
        assert!(matches!(Authority::open(folder.path(), "one"), Err(Error::Half { .. })));
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::open(folder.path(), "one").expect("made");
        assert!(authority.issue(&["ä.test"], Role::Server, DAY).is_err());
    }
}
