//! The reader that ships, in a process of its own, and what it takes of the machine.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{chain::Chain, endpoint::Endpoint};

/// Longest wait for the reader to do what it must.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The process; killed on drop.
pub struct ReaderProcess {
    child: Child,
    pages: SocketAddr,
    log: PathBuf,
}

/// Where a reader sends documents.
pub enum To<'a> {
    /// To this endpoint, over mutual TLS.
    Endpoint(&'a Endpoint),
    /// Nobody answers.
    Nobody,
}

/// Memory of a process, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Its own, and pages of its program; pages of the spool's files, which are the kernel's to write out, left out.
    pub own: u64,
    /// All that it has mapped and that is there.
    pub resident: u64,
}

impl ReaderProcess {
    /// Starts the `reader` beside this program, with default options and room for `queue` records.
    ///
    /// # Errors
    /// If it is not there or does not come up.
    pub fn start(chain: &Chain, to: &To<'_>, queue: u64) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("reader");
        let log = chain.state_dir().join("reader.log");
        let mut command = Command::new(&program);
        command.arg("--pin-dir").arg(chain.pin_dir()).arg("--state-dir").arg(chain.state_dir());
        command.args(["--listen", "127.0.0.1:0", "--node", "bench", "--queue", &queue.to_string()]);
        match to {
            To::Endpoint(endpoint) => {
                command.args(["--endpoint", &endpoint.url]).arg("--tls-ca").arg(&endpoint.tls.ca);
                command.arg("--tls-cert").arg(&endpoint.tls.cert).arg("--tls-key").arg(&endpoint.tls.key);
            }
            // The port of the discard service, on which nothing listens.
            To::Nobody => {
                command.args(["--endpoint", "http://127.0.0.1:9"]);
            }
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| {
                format!("cannot start {}; build it: cargo build --release", program.display())
            })?;
        let mut reader = Self { child, pages: SocketAddr::from(([127, 0, 0, 1], 0)), log };
        reader.pages = reader.address()?;
        Ok(reader)
    }

    /// It says in its log where its pages are.
    fn address(&self) -> anyhow::Result<SocketAddr> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for line in fs::read_to_string(&self.log)?.lines() {
                let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
                if line["event"] == "listening" {
                    return Ok(line["address"]
                        .as_str()
                        .context("no address in the reader's log")?
                        .parse()?);
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("the reader did not start: {}", fs::read_to_string(&self.log)?)
    }

    /// A value of its /metrics.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let mut stream = TcpStream::connect(self.pages).context("the reader does not answer")?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let value = page.lines().find_map(|line| {
            line.strip_prefix("clawker_reader_")?.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()
        });
        value.with_context(|| format!("the reader has no metric `{name}`"))
    }

    /// Waits until a metric is at least `least`.
    ///
    /// # Errors
    /// If that does not happen.
    pub fn reaches(&self, name: &str, least: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.metric(name)? < least {
            if Instant::now() >= deadline {
                bail!(
                    "`{name}` is {} and not {least}; the log is {}",
                    self.metric(name)?,
                    self.log.display()
                );
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Processor time of all its threads, nanoseconds.
    ///
    /// # Errors
    /// If it is gone.
    pub fn cpu_ns(&self) -> anyhow::Result<u64> {
        let mut total = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            total += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(total)
    }

    /// Its memory now.
    ///
    /// # Errors
    /// If it is gone.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        // The state directory is in memory, so the spool's pages are RssShmem.
        Ok(Memory { own: bytes("RssAnon") + bytes("RssFile"), resident: bytes("VmRSS") })
    }
}

impl Drop for ReaderProcess {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}
