//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, ValueEnum, builder::RangedU64ValueParser};
use emitter::Tls;

/// Drain the record ring, attribute each record to its container, export OTLP logs.
#[derive(Clone, Debug, Parser)]
#[command(name = "reader", version)]
pub struct Options {
    /// Where the manager pinned its maps.
    #[arg(long, default_value = abi::pin::DEFAULT_DIR)]
    pub pin_dir: PathBuf,

    /// The manager's state directory: enrolments are read below it, the reader's lock is taken in it.
    #[arg(long, default_value = abi::Enrolment::DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,

    /// OTLP/gRPC endpoint. `https://` needs --tls-ca.
    #[arg(long, default_value = "http://127.0.0.1:4317")]
    pub endpoint: String,

    /// How the endpoint is authenticated, and how to it.
    #[command(flatten)]
    pub tls: TlsOptions,

    /// Address of /metrics, /healthz and /containers; with port 0 the chosen address is in the log.
    #[arg(long, default_value = "127.0.0.1:9464")]
    pub listen: SocketAddr,

    /// Docker's socket: container labels and addresses then come from the daemon too, and are compared with what
    /// was enrolled. Without a value: /var/run/docker.sock.
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, default_missing_value = "/var/run/docker.sock")]
    pub docker: Option<PathBuf>,

    /// Name of this node in `event_id`. Default: the host name.
    #[arg(long)]
    pub node: Option<String>,

    /// Most records in one export request. The bound keeps a request below the 4 MiB that an endpoint
    /// accepts by default: a larger one would be refused for ever.
    #[arg(long, default_value_t = 512, value_parser = RangedU64ValueParser::<usize>::new().range(1..=2048))]
    pub batch: usize,

    /// Most export requests under way at once; with 1, records reach the endpoint in their order.
    #[arg(long, default_value_t = 4, value_parser = RangedU64ValueParser::<usize>::new().range(1..=64))]
    pub in_flight: usize,

    /// Longest time a record waits for its batch to fill, milliseconds.
    #[arg(long, default_value_t = 100)]
    pub flush_ms: u64,

    /// Folder of the records that the endpoint has not answered for; they survive the reader, and on a disk also a
    /// restart of the machine. Default: `spool` in the state directory.
    #[arg(long)]
    pub spool_dir: Option<PathBuf>,

    /// Most records held while the endpoint does not answer, 208 bytes each; what comes on top is lost, and counted.
    #[arg(long, default_value_t = 1_048_576, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub queue: u64,

    /// Where the reader's own events and log lines go.
    #[command(flatten)]
    pub telemetry: emitter::Options,

    /// Misbehave on purpose, so that a test can prove that it would notice.
    #[arg(long, value_enum, default_value_t = Fault::None)]
    pub fault: Fault,
}

/// PEM files for mutual TLS.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsOptions {
    /// Authority that signed the endpoint's certificate.
    #[arg(long = "tls-ca", value_name = "PEM")]
    pub ca: Option<PathBuf>,

    /// The reader's certificate.
    #[arg(long = "tls-cert", value_name = "PEM", requires = "key")]
    pub cert: Option<PathBuf>,

    /// The key of --tls-cert.
    #[arg(long = "tls-key", value_name = "PEM", requires = "cert")]
    pub key: Option<PathBuf>,
}

impl From<&TlsOptions> for Tls {
    fn from(options: &TlsOptions) -> Self {
        let TlsOptions { ca, cert, key } = options.clone();
        Self { authority: ca, certificate: cert, key }
    }
}

/// A fault to be caught by a scenario; never for production.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Fault {
    /// Behave.
    #[default]
    None,
    /// Agent and project are exchanged in every document.
    LabelSwapped,
    /// Every second record is dropped, and counted nowhere.
    RecordSwallowed,
    /// Every document is of the container that was seen first, long after that is gone.
    DeadLabel,
    /// Every stage waits for a random while, up to 20 ms, before it goes on. No record suffers.
    Delayed,
}

impl Fault {
    /// How long a stage waits before it goes on; None: it goes on at once.
    pub(crate) fn delay(self) -> Option<Duration> {
        (self == Self::Delayed).then(|| Duration::from_micros(fastrand::u64(..20_000)))
    }

    /// The word that selects it on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::LabelSwapped => "label_swapped",
            Self::RecordSwallowed => "record_swallowed",
            Self::DeadLabel => "dead_label",
            Self::Delayed => "delayed",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let error = Options::try_parse_from(["reader", "--tls-cert", "a.pem"]).unwrap_err();
        assert!(error.to_string().contains("--tls-key"), "{error}");
    }

    #[test]
    fn a_batch_that_cannot_be_sent_is_refused() {
        for batch in ["0", "2049"] {
            assert!(Options::try_parse_from(["reader", "--batch", batch]).is_err());
        }
        assert_eq!(Options::try_parse_from(["reader", "--batch", "2048"]).unwrap().batch, 2048);
    }

    #[test]
    fn every_fault_is_selected_by_its_word() {
        for fault in Fault::value_variants() {
            assert_eq!(Fault::from_str(fault.as_str(), false), Ok(*fault));
        }
    }
}
