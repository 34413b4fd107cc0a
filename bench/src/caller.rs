//! A process in a cgroup and in a network of its own that makes the same system call again and again.
//!
//! It is this program, started again. Its network is its loopback, on which all of 198.51.100.0/24 is, so that a
//! destination is decided like any other and nothing leaves the machine. Orders come as lines, answers likewise.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, connect, listen, setsockopt, socket, sockopt,
    },
    unistd::Pid,
};

/// First argument that makes a process such a caller.
pub const ROLE: &str = "__caller";
/// Where it serves TCP.
pub const SERVED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 7), 7);
/// An address that no rule names.
pub const UNLISTED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 66), 9);

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `connect()` of one datagram socket, again and again.
    Connect,
    /// `connect()` of a new TCP socket each time, which is then reset; only the `connect()` is timed.
    Tcp,
    /// `sendto()` of one byte on one socket.
    Send,
    /// `sendto()` of one byte, each to the next port.
    Scan,
}

impl Call {
    const ALL: [(Self, &str); 4] =
        [(Self::Connect, "connect"), (Self::Tcp, "tcp"), (Self::Send, "send"), (Self::Scan, "scan")];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(call, _)| *call == self).map_or("", |(_, word)| word)
    }
}

impl FromStr for Call {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> anyhow::Result<Self> {
        let known = Self::ALL.iter().find(|(_, known)| *known == word);
        known.map(|(call, _)| *call).with_context(|| format!("`{word}` is no call"))
    }
}

/// What a number of calls took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Nanoseconds a call.
    pub each_ns: f64,
    /// Calls that failed.
    pub failed: u64,
}

/// Such a process. It ends when this is dropped.
pub struct Caller {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Caller {
    /// Starts one in `cgroup`.
    ///
    /// # Errors
    /// If it cannot be started or cannot make its network.
    pub fn start(cgroup: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg(ROLE)
            .arg(cgroup)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a caller")?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take());
        let mut caller =
            Self { child, orders, answers: BufReader::new(answers.context("no standard output")?) };
        if caller.answer()?.trim() != "ready" {
            bail!("a caller could not make its network or enter {}", cgroup.display());
        }
        Ok(caller)
    }

    /// Makes `count` calls, with `pause` after each.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn call(
        &mut self,
        call: Call,
        to: SocketAddrV4,
        count: u32,
        pause: Duration,
    ) -> anyhow::Result<Took> {
        let order = format!("{} {to} {count} {}\n", call.word(), pause.as_nanos());
        self.orders.as_mut().context("a caller has ended")?.write_all(order.as_bytes())?;
        let answer = self.answer()?;
        let (time, failed) = answer.trim().split_once(' ').context("a caller ended early")?;
        Ok(Took { each_ns: time.parse::<f64>()? / f64::from(count), failed: failed.parse()? })
    }

    /// The process, whose main thread makes the calls.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

/// The process: called first in `main` if [`ROLE`] is the first argument.
///
/// # Errors
/// If it cannot make its network or a call cannot be set up.
pub fn main(cgroup: &str) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    ip(&["link", "set", "lo", "up"])?;
    ip(&["address", "add", "198.51.100.7/24", "dev", "lo"])?;
    // A socket is of the cgroup that it was made in: what listens is not measured.
    let listener = TcpListener::bind(SERVED)?;
    // Else a burst that outruns whoever accepts is asked to try again a second later.
    listen(&listener, Backlog::new(4096)?)?;
    thread::spawn(move || listener.incoming().for_each(drop));
    std::fs::write(Path::new(cgroup).join("cgroup.procs"), "0")?;
    println!("ready");
    for line in io::stdin().lines() {
        let line = line?;
        let mut words = line.split(' ');
        let mut word = || words.next().context("an order has four words");
        let (call, to): (Call, SocketAddrV4) = (word()?.parse()?, word()?.parse()?);
        let (count, pause) = (word()?.parse()?, Duration::from_nanos(word()?.parse()?));
        let (time, failed) = repeat(call, to, count, pause)?;
        println!("{} {failed}", time.as_nanos());
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("ip").args(arguments).status().context("cannot run ip; install iproute2")?;
    if status.success() { Ok(()) } else { bail!("ip {} failed", arguments.join(" ")) }
}

/// Time spent in the calls, and how many failed.
fn repeat(call: Call, to: SocketAddrV4, count: u32, pause: Duration) -> anyhow::Result<(Duration, u64)> {
    let (mut time, mut failed) = (Duration::ZERO, 0);
    let datagrams = open(SockType::Datagram)?;
    let address = SockaddrIn::from(to);
    let start = Instant::now();
    for place in 0..count {
        let done = match call {
            Call::Connect => connect(datagrams.as_raw_fd(), &address),
            Call::Send => send(&datagrams, &address),
            Call::Scan => {
                let port = u16::try_from(place % 65_000).unwrap_or(0) + 1;
                send(&datagrams, &SockaddrIn::from(SocketAddrV4::new(*to.ip(), port)))
            }
            Call::Tcp => {
                let stream = open(SockType::Stream)?;
                let start = Instant::now();
                let done = connect(stream.as_raw_fd(), &address);
                time += start.elapsed();
                setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
                done
            }
        };
        failed += u64::from(done.is_err());
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    Ok((if call == Call::Tcp { time } else { start.elapsed() }, failed))
}

fn open(kind: SockType) -> nix::Result<OwnedFd> {
    socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None)
}

fn send(from: &OwnedFd, to: &SockaddrIn) -> nix::Result<()> {
    match nix::sys::socket::sendto(from.as_raw_fd(), b"?", to, nix::sys::socket::MsgFlags::empty()) {
        // Nobody listens there, which an earlier datagram was told.
        Ok(_) | Err(Errno::ECONNREFUSED) => Ok(()),
        Err(error) => Err(error),
    }
}
