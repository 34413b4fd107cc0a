//! Requests to the store, and what it answers.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use ureq::{
    Agent,
    http::{Request, Response},
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
};

/// The largest answer that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// A name and its password.
#[derive(Clone)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

/// Without the password.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why the store could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The authority's text.
    #[error(
        "the authority holds no certificate: {0}. It is to be PEM, as in the collector's `-ca.crt` files."
    )]
    Authority(String),
    /// No answer.
    #[error(
        "{url} does not answer: {cause}. See that the store runs, and that its certificate is for this name."
    )]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        cause: Box<ureq::Error>,
    },
    /// It would not.
    #[error("the store refused {request} ({status}): {reason}")]
    Refused {
        /// Method and path.
        request: String,
        /// HTTP's.
        status: u16,
        /// What it says.
        reason: String,
    },
    /// An answer that is not as the API has it.
    #[error("the store's answer to {request} has no {missing}: is this OpenSearch?")]
    Unexpected {
        /// Method and path.
        request: String,
        /// What was looked for.
        missing: &'static str,
    },
}

/// Where requests go to.
pub(super) struct Server {
    agent: Agent,
    url: String,
    authorization: Option<String>,
}

/// What the store answered.
pub(super) struct Answer {
    pub request: String,
    pub status: u16,
    pub body: Value,
}

impl Server {
    pub fn new(
        url: &str,
        credentials: Option<&Credentials>,
        authority: Option<&str>,
        patience: Duration,
    ) -> Result<Self, Error> {
        let mut tls = TlsConfig::builder();
        if let Some(pem) = authority {
            tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates(pem)?)));
        }
        let agent = Agent::config_builder()
            .tls_config(tls.build())
            .timeout_global(Some(patience))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .new_agent();
        Ok(Self { agent, url: url.trim_end_matches('/').to_owned(), authorization: credentials.map(basic) })
    }

    /// The same server, as somebody else.
    pub fn by(&self, credentials: &Credentials) -> Self {
        Self { agent: self.agent.clone(), url: self.url.clone(), authorization: Some(basic(credentials)) }
    }

    pub fn get(&self, path: &str) -> Result<Answer, Error> {
        self.send("GET", path, None)
    }

    pub fn delete(&self, path: &str) -> Result<Answer, Error> {
        self.send("DELETE", path, None)
    }

    pub fn put(&self, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        self.send("PUT", path, body)
    }

    pub fn post(&self, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        self.send("POST", path, body)
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        let unreachable = |cause| Error::Unreachable { url: self.url.clone(), cause: Box::new(cause) };
        let mut request = Request::builder().method(method).uri(format!("{}/{path}", self.url));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let answer = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(body.to_string())
                .map_err(ureq::Error::from)
                .and_then(|request| self.agent.run(request)),
            None => request.body(()).map_err(ureq::Error::from).and_then(|request| self.agent.run(request)),
        };
        let mut answer: Response<ureq::Body> = answer.map_err(unreachable)?;
        let text = answer.body_mut().with_config().limit(LARGEST).read_to_string().map_err(unreachable)?;
        Ok(Answer {
            request: format!("{method} /{path}"),
            status: answer.status().as_u16(),
            // A gateway in between may answer with a page.
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        })
    }
}

impl Answer {
    /// The body, if the store did as it was told.
    pub fn done(self) -> Result<Value, Error> {
        if (200..300).contains(&self.status) { Ok(self.body) } else { Err(self.refused()) }
    }

    /// The body, or nothing where there is no such thing.
    pub fn found(self) -> Result<Option<Value>, Error> {
        if self.status == 404 { Ok(None) } else { self.done().map(Some) }
    }

    /// Whether the part of the store that would answer is not there.
    pub fn is_unknown(&self) -> bool {
        let told = self.body.get("error").and_then(Value::as_str).unwrap_or_default();
        matches!(self.status, 400 | 404 | 405) && told.contains("no handler found")
    }

    /// The error that it is.
    pub fn refused(self) -> Error {
        let reason = self.body.pointer("/error/reason").or_else(|| self.body.get("error"));
        let reason =
            ["reason", "message"].iter().fold(reason, |found, key| found.or_else(|| self.body.get(key)));
        let reason = reason.unwrap_or(&self.body);
        let reason = reason.as_str().map_or_else(|| reason.to_string(), str::to_owned);
        Error::Refused { request: self.request, status: self.status, reason }
    }
}

/// What an answer must have.
pub(super) fn needed<'a>(
    answer: &'a Value,
    pointer: &'static str,
    request: &str,
) -> Result<&'a Value, Error> {
    answer.pointer(pointer).ok_or_else(|| Error::Unexpected { request: request.to_owned(), missing: pointer })
}

fn basic(credentials: &Credentials) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", credentials.user, credentials.password)))
}

fn certificates(pem: &str) -> Result<Vec<ureq::tls::Certificate<'static>>, Error> {
    let mut certificates = Vec::new();
    for item in parse_pem(pem.as_bytes()) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(cause) => return Err(Error::Authority(cause.to_string())),
        }
    }
    if certificates.is_empty() {
        return Err(Error::Authority("there is none in it".to_owned()));
    }
    Ok(certificates)
}
