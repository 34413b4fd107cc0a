//! The part of a command line that is about this.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::channel::Tls;

/// Where events and logs go.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "telemetry")]
pub struct Options {
    /// OTLP/gRPC endpoint of events: enrolment, rules, bypass, what does not work. Without it they wait in the state
    /// directory, as many as there is room for. `https://` needs --lane-certificates.
    #[arg(long, value_name = "URL")]
    pub events_endpoint: Option<String>,

    /// OTLP/gRPC endpoint of this program's log lines, which stderr has in any case. `https://` needs
    /// --lane-certificates.
    #[arg(long, value_name = "URL")]
    pub logs_endpoint: Option<String>,

    /// Folder of PEM files for both: collector-ca.crt, which signed the endpoints' certificates; overseer.crt and
    /// overseer.key, shown to the events' endpoint; cp.crt and cp.key, shown to the logs'.
    #[arg(long, value_name = "FOLDER")]
    pub lane_certificates: Option<PathBuf>,
}

impl Options {
    /// What is shown to, and asked of, an endpoint of this lane. Nothing where the endpoint is plain: the folder may be
    /// for the other one.
    pub(crate) fn tls(&self, url: &str, lane: &str) -> Tls {
        let folder = self.lane_certificates.as_deref().filter(|_| !url.starts_with("http://"));
        let file = |name: String| folder.map(|folder: &Path| folder.join(name));
        Tls {
            authority: file("collector-ca.crt".to_owned()),
            certificate: file(format!("{lane}.crt")),
            key: file(format!("{lane}.key")),
        }
    }
}
