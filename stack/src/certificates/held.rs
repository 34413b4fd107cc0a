//! What a certificate in a file says.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    pem::parse_x509_pem,
    prelude::X509Certificate,
};

use super::{Authority, Error};

/// A certificate that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Until when it holds.
    pub until: SystemTime,
    /// Domains and addresses that it is for.
    pub names: Vec<String>,
    /// Which key signed it.
    signer: Option<Vec<u8>>,
    /// Which key is its own.
    own: Option<Vec<u8>>,
}

impl Held {
    /// The first certificate in a file; `None` if there is no file.
    ///
    /// # Errors
    /// If the file cannot be read, or holds none.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        let problem = |cause| Error::File { path: path.to_owned(), cause };
        match fs::read(path) {
            Ok(pem) => Self::of(&pem).map(Some).ok_or_else(|| {
                problem(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "this is no certificate; remove it, and it is made anew",
                ))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(problem(error)),
        }
    }

    fn of(pem: &[u8]) -> Option<Self> {
        let (_, pem) = parse_x509_pem(pem).ok()?;
        let certificate = pem.parse_x509().ok()?;
        let until = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        let mut held = Self {
            until: UNIX_EPOCH.checked_add(Duration::from_secs(until))?,
            names: names(&certificate),
            signer: None,
            own: None,
        };
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(key) => {
                    held.signer = key.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                ParsedExtension::SubjectKeyIdentifier(key) => held.own = Some(key.0.to_vec()),
                _ => {}
            }
        }
        Some(held)
    }

    /// Whether it is of this authority, for these names, and holds for at least `length` from now.
    #[must_use]
    pub fn is_good(&self, authority: &Authority, names: &[&str], length: Duration) -> bool {
        let signer = Self::of(authority.certificate().as_bytes()).and_then(|authority| authority.own);
        let mut wanted: Vec<&str> = names.to_vec();
        let mut there: Vec<&str> = self.names.iter().map(String::as_str).collect();
        wanted.sort_unstable();
        there.sort_unstable();
        let enough = SystemTime::now().checked_add(length).is_some_and(|then| then < self.until);
        signer.is_some() && signer == self.signer && wanted == there && enough
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.into_iter().flat_map(|names| &names.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::IpAddr::from(bytes).to_string()),
                _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::IpAddr::from(bytes).to_string()),
            },
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::Role;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_certificate_is_good_for_its_names_its_time_and_its_authority() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = ["collector", "*.cdn.test", "198.18.1.11", "2001:db8::1"];
        let authority = Authority::open(folder.path(), "one").expect("an authority");
        let issued = authority.issue(&names, Role::Server, 10 * DAY).expect("a certificate");
        issued.write(folder.path(), "server").expect("it is written");
        let held = Held::read(&folder.path().join("server.crt")).expect("it is read").expect("it is there");
        assert_eq!(held.names, names);
        let reversed: Vec<&str> = names.into_iter().rev().collect();
        assert!(held.is_good(&authority, &reversed, 9 * DAY));
        assert!(!held.is_good(&authority, &names, 11 * DAY), "it ends before");
        assert!(!held.is_good(&authority, &["collector"], DAY), "other names");
        let other = Authority::open(&folder.path().join("."), "two").expect("another");
        assert!(!held.is_good(&other, &names, DAY), "another authority");
        assert_eq!(Held::read(&folder.path().join("none.crt")).expect("it is looked for"), None);
        fs::write(folder.path().join("server.crt"), "nothing").expect("it is written");
        assert!(Held::read(&folder.path().join("server.crt")).is_err());
    }
}
