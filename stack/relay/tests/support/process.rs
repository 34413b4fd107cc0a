//! The relay's process.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus},
};

use libtest_mimic::Failed;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{Certificates, until};

/// A running relay; it is killed on drop.
pub struct Relay {
    child: Child,
    pub receive: SocketAddr,
    pub listen: SocketAddr,
    log: std::path::PathBuf,
}

/// What its metrics say of a lane, by name.
pub type Numbers = BTreeMap<String, u64>;

impl Relay {
    /// Starts it with its files in `folder`, and waits until it listens.
    pub fn start(
        folder: &Path,
        certificates: &Certificates,
        lanes: &[(&str, SocketAddr)],
    ) -> Result<Self, Failed> {
        let log = folder.join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
        command.current_dir(certificates.path()).arg("--state-dir").arg(folder.join("state"));
        command.args([
            "--receive",
            "127.0.0.1:0",
            "--listen",
            "127.0.0.1:0",
            "--node",
            "n1",
            "--room-mib",
            "32",
        ]);
        command.args(["--tls-ca", "right-ca.crt", "--tls-cert", "right.crt", "--tls-key", "right.key"]);
        command.args([
            "--forward-ca",
            "right-ca.crt",
            "--forward-cert",
            "right.crt",
            "--forward-key",
            "right.key",
        ]);
        for (lane, address) in lanes {
            command.arg("--lane").arg(format!("{lane}=https://{address}"));
        }
        let mut child = command.stderr(File::create(&log)?).spawn()?;
        let mut started = None;
        let is = until("a relay that listens", || {
            started = events(&log).into_iter().find(|event| event["event"] == "relay_started");
            started.is_some() || child.try_wait().is_ok_and(|ended| ended.is_some())
        });
        let address = |key: &str| started.as_ref().and_then(|event| event[key].as_str()?.parse().ok());
        let (Ok(()), Some(receive), Some(listen)) = (is, address("receive"), address("listen")) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(fs::read_to_string(&log)?.into());
        };
        Ok(Self { child, receive, listen, log })
    }

    /// What it said, as events.
    pub fn events(&self) -> Vec<Value> {
        events(&self.log)
    }

    /// Ends it at once.
    pub fn kill(mut self) -> Result<(), Failed> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it in order.
    pub fn terminate(mut self) -> Result<ExitStatus, Failed> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        Ok(self.child.wait()?)
    }

    pub fn page(&self, path: &str) -> Result<(u16, String), Failed> {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
        let mut answer = agent.get(format!("http://{}{path}", self.listen)).call()?;
        Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
    }

    pub fn numbers(&self, lane: &str) -> Result<Numbers, Failed> {
        let (_, text) = self.page("/metrics")?;
        let of_lane = format!("{{lane=\"{lane}\"}} ");
        let rows = text.lines().filter_map(|line| line.strip_prefix("clawker_relay_")?.split_once(&of_lane));
        rows.map(|(name, value)| Ok((name.to_owned(), value.parse()?))).collect()
    }

    /// The equation that holds whatever happens.
    pub fn balanced(&self, lane: &str) -> Result<Numbers, Failed> {
        let numbers = self.numbers(lane)?;
        let [accepted, delivered, rejected, pending] = [
            "records_accepted_total",
            "records_delivered_total",
            "records_rejected_total",
            "records_pending",
        ]
        .map(|name| numbers.get(name).copied().unwrap_or(u64::MAX / 8));
        if accepted != delivered + rejected + pending {
            return Err(format!("the ledger is open: {numbers:?}").into());
        }
        Ok(numbers)
    }

    /// Waits until nothing is kept.
    pub fn emptied(&self, lane: &str) -> Result<Numbers, Failed> {
        until("empty", || {
            self.numbers(lane).is_ok_and(|numbers| numbers.get("records_pending") == Some(&0))
        })?;
        self.balanced(lane)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn events(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
