//! Who is at the other end, and by what each knows the other.

use std::{fs, io, net::IpAddr, path::PathBuf, time::Duration};

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::chain;

/// Longest time for a connection to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// After this long without a word it is asked whether the other end is there.
const ALIVE: Duration = Duration::from_secs(30);

/// PEM files for mutual TLS.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Authority that signed the endpoint's certificate.
    pub authority: Option<PathBuf>,
    /// What the sender shows.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// Why an endpoint as given cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Not a URL.
    #[error("{option} {url}: {cause}; give http://host:port or https://host:port", cause = chain(cause))]
    Url {
        /// Which option.
        option: &'static str,
        /// As given.
        url: String,
        /// Why.
        cause: tonic::transport::Error,
    },
    /// Neither http nor https.
    #[error("{option} {url} is neither http:// nor https://")]
    Scheme {
        /// Which option.
        option: &'static str,
        /// As given.
        url: String,
    },
    /// TLS without an authority.
    #[error("{option} {url} needs {tls}: the authority of its lane is trusted, no public one")]
    NoAuthority {
        /// Which option.
        option: &'static str,
        /// As given.
        url: String,
        /// The option that gives one.
        tls: &'static str,
    },
    /// TLS files for a plain endpoint.
    #[error("{option} {url} is plain, but TLS files are given; use https://, or leave them out")]
    PlainWithTls {
        /// Which option.
        option: &'static str,
        /// As given.
        url: String,
    },
    /// A PEM file.
    #[error("cannot read {path}: {cause}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The PEM files do not make a configuration.
    #[error("the TLS files cannot be used: {cause}", cause = chain(.0))]
    Tls(tonic::transport::Error),
}

/// An endpoint to be connected to. `option` gave its URL, and `tls_option` would give the files, for what is wrong.
///
/// # Errors
/// Where the URL and the files do not fit, or cannot be read.
pub fn channel(
    option: &'static str,
    url: &str,
    tls_option: &'static str,
    tls: &Tls,
) -> Result<Endpoint, ChannelError> {
    let owned = || url.to_owned();
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|cause| ChannelError::Url { option, url: owned(), cause })?
        .connect_timeout(CONNECT)
        .tcp_keepalive(Some(ALIVE))
        .http2_keep_alive_interval(ALIVE)
        .keep_alive_while_idle(true);
    let given = tls.authority.is_some() || tls.certificate.is_some() || tls.key.is_some();
    match (endpoint.uri().scheme_str(), &tls.authority) {
        (Some("http"), _) if given => Err(ChannelError::PlainWithTls { option, url: owned() }),
        (Some("http"), _) => {
            warn_if_remote(option, &endpoint, tls_option);
            Ok(endpoint)
        }
        (Some("https"), Some(authority)) => {
            endpoint.tls_config(config(authority, tls)?).map_err(ChannelError::Tls)
        }
        (Some("https"), None) => Err(ChannelError::NoAuthority { option, url: owned(), tls: tls_option }),
        _ => Err(ChannelError::Scheme { option, url: owned() }),
    }
}

fn config(authority: &PathBuf, tls: &Tls) -> Result<ClientTlsConfig, ChannelError> {
    let read =
        |path: &PathBuf| fs::read(path).map_err(|cause| ChannelError::File { path: path.clone(), cause });
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(authority)?));
    Ok(match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => config.identity(Identity::from_pem(read(certificate)?, read(key)?)),
        _ => config,
    })
}

fn warn_if_remote(option: &'static str, endpoint: &Endpoint, tls_option: &'static str) {
    let host = endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !loopback {
        tracing::warn!(
            event = "plaintext_endpoint",
            option,
            host,
            "evidence leaves this machine readable and unauthenticated; use https:// with {tls_option}",
        );
    }
}
