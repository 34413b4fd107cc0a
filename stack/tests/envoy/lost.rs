//! A real Envoy before a real relay that takes nothing of what it sends, and then before nobody: what it says that it lost.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Completion, Failed};
use nix::{
    sched::{CloneFlags, setns},
    sys::{
        signal::{Signal, kill},
        socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket},
    },
    unistd::Pid,
};
use stack::{
    Container, Envoy, LOG_LOST, Listeners, LogLost, Plan,
    certificates::{Authority, Role},
};

use crate::{YEAR, servers, upstream, write};

/// Longer than anything here takes; to send again as often as may be takes a minute.
const LONG: Duration = Duration::from_secs(150);
/// Where the relay listens.
const RELAY: u16 = 4320;
/// Containers: each has a logger of its own, which waits for nobody else's.
const CONTAINERS: u8 = 10;

/// All have a network and a /tmp of their own, for Envoy's ports and the socket of its administration are what they are. A relay
/// takes no request that names no lane, as Envoy's do not: the collector names it.
const RUN: &str = "set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/folder /mnt/envoy /mnt/relay
mount --bind \"$1\" /mnt/folder
mount --bind \"$2\" /mnt/envoy
mount --bind \"$3\" /mnt/relay
mount -t tmpfs tmpfs /tmp
ip link set lo up
cd /mnt/folder
/mnt/relay/relay --state-dir state --lane envoy=https://127.0.0.1:1 --receive 127.0.0.1:4320 --listen 127.0.0.1:9465 \\
    --tls-ca authority-ca.crt --tls-cert relay.crt --tls-key relay.key \\
    --forward-ca authority-ca.crt --forward-cert relay.crt --forward-key relay.key 2>relay.log &
echo $! >relay.pid
exec /mnt/envoy/envoy -c bootstrap.json --disable-hot-restart --log-level warning --component-log-level misc:error";

/// Both, which are killed on drop.
struct Running {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.end_relay();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(envoy: &Path, relay: &Path) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        let container = |number: u8| Container {
            container_id: format!("c{number}"),
            agent: "scout".to_owned(),
            project: "demo".to_owned(),
            addresses: vec![[127, 0, 1, number].into()],
            rules: Vec::new(),
        };
        let containers: Vec<_> = (0..CONTAINERS).map(container).collect();
        let plan = Plan::new(&containers, Listeners::default(), None)?;
        let mut upstream = upstream("/mnt/folder");
        upstream.collector = ("127.0.0.1".to_owned(), RELAY);
        write(&Envoy::new(&plan, &upstream), folder.path())?;
        let authority = Authority::open(folder.path(), "authority")?;
        authority.issue(&["127.0.0.1"], Role::Server, YEAR)?.write(folder.path(), "relay")?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "sh", "-c", RUN, "sh"]).arg(folder.path()).arg(envoy).arg(relay);
        let child = command.stderr(File::create(folder.path().join("log"))?).spawn()?;
        let running = Self { child, folder };
        running.until("Envoy answers", |_| true)?;
        running.until_connected(SocketAddr::from(([127, 0, 0, 1], RELAY)))?;
        Ok(running)
    }

    /// Waits until what Envoy lost is so.
    fn until(&self, what: &str, is: impl Fn(&LogLost) -> bool) -> Result<LogLost, Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let begun = Instant::now();
        loop {
            let answer = runtime.block_on(stack::ask(self.child.id(), LOG_LOST));
            let lost = answer.as_ref().ok().and_then(|answer| LogLost::read(answer));
            if let Some(lost) = lost.filter(&is) {
                return Ok(lost);
            }
            if begun.elapsed() > LONG {
                let said = fs::read_to_string(self.folder.path().join("log"))?;
                return Err(format!("not within {LONG:?}: {what}, but {lost:?}: {answer:?}\n{said}").into());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Does something in their network.
    fn inside<T: Send>(&self, act: impl FnOnce() -> Result<T, String> + Send) -> Result<T, Failed> {
        let network = File::open(format!("/proc/{}/ns/net", self.child.id()))?;
        let act = || {
            setns(network, CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string())?;
            act()
        };
        let done = thread::scope(|scope| scope.spawn(act).join()).map_err(|_| "it panicked")?;
        Ok(done?)
    }

    fn until_connected(&self, address: SocketAddr) -> Result<(), Failed> {
        self.inside(|| {
            let begun = Instant::now();
            while TcpStream::connect(address).is_err() {
                if begun.elapsed() > LONG {
                    return Err(format!("nobody listens on {address}"));
                }
                thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        })
    }

    /// Each container connects to where nobody is let through, and has a line of the log.
    fn refused(&self) -> Result<(), Failed> {
        self.inside(|| {
            for number in 0..CONTAINERS {
                let mut stream = from([127, 0, 1, number], Listeners::default().catch_all)
                    .map_err(|error| error.to_string())?;
                let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
                // Envoy has logged it when it ends it.
                let _ = stream.read(&mut [0; 16]);
            }
            Ok(())
        })
    }

    fn end_relay(&self) -> Result<(), Failed> {
        let pid = fs::read_to_string(self.folder.path().join("relay.pid"))?;
        kill(Pid::from_raw(pid.trim().parse()?), Signal::SIGKILL)?;
        fs::remove_file(self.folder.path().join("relay.pid"))?;
        Ok(())
    }
}

/// A connection from that address.
fn from([a, b, c, d]: [u8; 4], port: u16) -> io::Result<TcpStream> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0))?;
    connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port))?;
    Ok(TcpStream::from(socket))
}

pub fn lost() -> Result<Completion, Failed> {
    let ignored = |reason: &str| Ok(Completion::Ignored { reason: Some(reason.to_owned()) });
    let envoy = match servers::binary("envoy", "envoy") {
        Ok(envoy) => envoy,
        Err(reason) => return ignored(&reason),
    };
    if !nix::unistd::geteuid().is_root() {
        return ignored("needs root");
    }
    let relay = Path::new(env!("CARGO_BIN_EXE_stack")).with_file_name("relay");
    if !relay.exists() {
        return ignored("needs the relay's program: `cargo build -p relay`");
    }
    let [envoy, relay] = [&envoy, &relay].map(|path| path.parent().unwrap_or(path).to_owned());
    let running = Running::start(&envoy, &relay)?;
    assert!(!running.until("it has told", |_| true)?.is_any());
    let each = u64::from(CONTAINERS);
    // An answer that is final.
    running.refused()?;
    let lost = running.until("all are refused", |lost| lost.entries >= each)?;
    assert_eq!(lost, LogLost { entries: each, given_up: 0, overflown: 0 });
    // Nobody is there: all are sent again, whoever else's are, and given up in the end.
    running.end_relay()?;
    running.refused()?;
    let begun = Instant::now();
    let lost = running.until("all are given up", |lost| lost.entries > each)?;
    let patience = begun.elapsed();
    assert_eq!(lost.overflown, 0, "after {patience:?}: {lost:?}");
    assert!(patience > Duration::from_secs(40), "given up after {patience:?}: {lost:?}");
    let lost = running.until("all are given up", |lost| lost.entries >= 2 * each)?;
    assert_eq!(lost, LogLost { entries: 2 * each, given_up: each, overflown: 0 });
    Ok(Completion::Completed)
}
