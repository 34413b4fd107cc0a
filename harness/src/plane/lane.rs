//! A sender of a lane, in this process.

use std::fs;

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use stack::Lane;
use ureq::{
    Agent,
    tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig},
};

use super::{ANSWER_LIMIT, Plane};

impl Plane {
    /// Sends the collector a request for logs, as the proxy does for an agent's: with the lane's certificate, and the name
    /// of its container.
    ///
    /// # Errors
    /// If it is not taken.
    pub fn tell_as(&self, container_id: &str, request: &Value) -> anyhow::Result<()> {
        let receiver = self.http_receiver(Lane::Claude).context("the lane has no receiver")?;
        let credentials = self.credentials(Lane::Claude);
        let read = |path| fs::read(path).with_context(|| format!("{path:?}"));
        let authority = Certificate::from_pem(&read(&credentials.authority)?)?;
        let certificate = Certificate::from_pem(&read(&credentials.certificate)?)?;
        let client =
            ClientCert::new_with_certs(&[certificate], PrivateKey::from_pem(&read(&credentials.key)?)?);
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[authority]))
            .client_cert(Some(client))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(ANSWER_LIMIT))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .new_agent();
        let post = agent
            .post(format!("https://{receiver}/v1/logs"))
            .header("content-type", "application/json")
            .header("x-clawker-agent", "")
            .header("x-clawker-project", "")
            .header("x-clawker-container-id", BASE64_STANDARD.encode(container_id))
            .header("x-clawker-src-ip", "192.0.2.1");
        let mut answer = post.send(request.to_string())?;
        if answer.status() != 200 {
            bail!("the collector answers {}: {}", answer.status(), answer.body_mut().read_to_string()?);
        }
        Ok(())
    }
}
