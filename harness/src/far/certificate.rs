//! TLS of the servers: a certificate for the host's name, signed by an authority of this process.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};

/// The authority, and its certificate.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn of_process() -> io::Result<&'static Authority> {
    static AUTHORITY: OnceLock<Result<Authority, String>> = OnceLock::new();
    let made = AUTHORITY.get_or_init(|| make().map_err(|error| error.to_string()));
    made.as_ref().map_err(|error| io::Error::other(error.clone()))
}

fn make() -> Result<Authority, rcgen::Error> {
    let mut params = CertificateParams::default();
    // Not that of what it signs, which would look as if it had signed itself.
    params.distinguished_name.push(DnType::CommonName, "the far side");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok(Authority { issuer: Issuer::new(params, key), pem })
}

/// The authority's own certificate, as PEM.
///
/// # Errors
/// If it could not be made.
pub fn authority() -> io::Result<&'static str> {
    Ok(&of_process()?.pem)
}

/// TLS for the host `name`; `protocols` are what it negotiates, none if empty.
pub fn config(name: &str, protocols: &[&[u8]]) -> io::Result<ServerConfig> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let params = CertificateParams::new([name.to_owned()]).map_err(io::Error::other)?;
    let certificate = params.signed_by(&key, &of_process()?.issuer).map_err(io::Error::other)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)
        })
        .map_err(io::Error::other)?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}
