//! The reader's binary: to start, signal and look at as an operator does.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{
    bpf::Pins,
    endpoint::{Answer, Endpoint},
    ports,
};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A place for a reader: pins, state directory, and a runtime for the endpoint.
pub struct World {
    pub pins: Pins,
    pub state: tempfile::TempDir,
    pub runtime: Runtime,
}

impl World {
    /// With no pins and nobody enrolled.
    pub fn new() -> Self {
        Self { pins: Pins::new(), state: tempfile::tempdir().unwrap(), runtime: Runtime::new().unwrap() }
    }

    pub fn endpoint(&self, answers: impl IntoIterator<Item = Answer>) -> Endpoint {
        self.runtime.block_on(Endpoint::start(answers))
    }

    pub fn reader(&self, url: &str, more: &[&str]) -> Reader {
        self.reader_of(self.state.path(), url, more)
    }

    /// A reader with another state directory.
    pub fn reader_of(&self, state: &Path, url: &str, more: &[&str]) -> Reader {
        let mut child = Command::new(env!("CARGO_BIN_EXE_reader"))
            .arg("--pin-dir")
            .arg(&self.pins.dir)
            .arg("--state-dir")
            .arg(state)
            .args(["--endpoint", url, "--listen", "127.0.0.1:0", "--node", "node", "--flush-ms", "10"])
            .args(more)
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines() {
                let Ok(line) = line else { return };
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Reader { child, lines, seen: Vec::new() }
    }

    pub fn accepted(&self, endpoint: &Endpoint, count: usize) -> Vec<u16> {
        ports(&self.runtime.block_on(endpoint.accepted(count)))
    }
}

pub struct Reader {
    pub child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Reader {
    /// Waits for a log line with this `event`.
    pub fn event(&mut self, event: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no event {event} in:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if value["event"] == event {
                return value;
            }
        }
    }

    pub fn address(&mut self) -> SocketAddr {
        self.event("listening")["address"].as_str().unwrap().parse().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    pub fn exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the reader does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        assert!(self.exit().success());
    }
}

pub fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: reader\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Asks until the answer is as wanted; returns it.
pub fn until(address: SocketAddr, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, body) = get(address, path);
        if wanted(status, &body) {
            return body;
        }
        assert!(Instant::now() < deadline, "{path} still says {status}: {body}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub fn metric(page: &str, name: &str) -> u64 {
    let line =
        page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in:\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
