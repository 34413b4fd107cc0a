//! Server programs that are not the harness's own: an unmodified `sshd`, or whatever an author
//! writes after `run`. Each has a folder, a cgroup and a mount namespace of its own.

use std::{
    ffi::CString,
    fs::{self, File, Permissions},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::{
        fd::BorrowedFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, PermissionsExt, chown},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    actor::{
        Action, Running,
        confine::{self, Confinement, NOBODY},
        spawn,
        stage::Part,
    },
    scenario::types::{Agent, Exec, Serve},
    world::{Cgroup, Folder, WorldError},
};

/// How long one program of `prepare` may take.
const PREPARE_LIMIT: Duration = Duration::from_secs(10);
/// How long a program may take until it listens.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at it: the kernel tells nobody that a socket listens.
const LOOK: Duration = Duration::from_millis(2);
/// Most of a log that is shown, from its end, in bytes.
const MOST_LOG: u64 = 4096;
/// Name of the log in a program's folder.
const LOG: &str = "server.log";
/// Where a program sees its folder, so that what is written in a scenario can name it.
const HOME: &str = "/srv";

/// Where a program is to be had, by its host.
pub(super) struct Place<'a> {
    /// Unique name in this process.
    pub name: &'a str,
    /// The far namespace, which the calling thread is in.
    pub netns: BorrowedFd<'a>,
    /// Where it must listen.
    pub addresses: &'a [IpAddr],
}

/// A server program. Dropping it ends it and everything that it started, and removes its files.
pub(super) struct Program {
    // The guards, in the order in which they must go.
    running: Running,
    _cgroup: Cgroup,
    _folder: Folder,
    log: Log,
}

/// What a program has said.
#[derive(Clone)]
pub(super) struct Log {
    program: String,
    file: Arc<File>,
}

impl Log {
    /// The end of it, under the program's name; `None` if it said nothing.
    pub fn text(&self) -> Option<String> {
        let len = self.file.metadata().map_or(0, |metadata| metadata.len());
        let from = len.saturating_sub(MOST_LOG);
        let mut bytes = vec![0; usize::try_from(len - from).unwrap_or_default()];
        self.file.read_exact_at(&mut bytes, from).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim();
        (!text.is_empty()).then(|| format!("{} on the far side said:\n{text}", self.program))
    }
}

impl Program {
    /// Prepares and starts `serve.run`, and waits until it listens; the thread that calls this must
    /// outlive it. `Err` holds what is wrong, for people.
    pub async fn start(place: &Place<'_>, serve: &Serve) -> Result<Self, String> {
        let text = |error: WorldError| error.to_string();
        let cgroup =
            Cgroup::create(&crate::world::cgroup_mount().map_err(text)?, place.name).map_err(text)?;
        let folder = Folder::create(place.name).map_err(text)?;
        let mut binds = vec![bind(folder.path(), Path::new(HOME))?];
        write(folder.path(), serve, &mut binds)?;
        // As harmless as an agent, but for the low ports that servers have.
        let user = Agent {
            agent: place.name.to_owned(),
            project: String::new(),
            uid: None,
            caps: vec!["net_bind_service".to_owned()],
        };
        let confinement = Confinement::new(&user, cgroup.procs(), place.netns, binds)
            .map_err(text)?
            .within(folder.path().to_owned(), PathBuf::from(HOME));
        for run in &serve.prepare {
            prepare(&confinement, run)?;
        }
        let path = folder.path().join(LOG);
        let file =
            File::create_new(&path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        let running = spawn::serve(&confinement, &serve.run, &file).map_err(|error| error.to_string())?;
        // Reading needs a descriptor of its own, and the program may have removed the name.
        let file = File::open(&path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
        let log = Log { program: serve.run.first().cloned().unwrap_or_default(), file: Arc::new(file) };
        let program = Self { running, _cgroup: cgroup, _folder: folder, log };
        program.ready(serve, place.addresses).await?;
        Ok(program)
    }

    /// What it says.
    pub fn log(&self) -> Log {
        self.log.clone()
    }

    /// Waits until the port is open at every address.
    async fn ready(&self, serve: &Serve, addresses: &[IpAddr]) -> Result<(), String> {
        let (kind, port) =
            serve.tcp.map(|port| ("tcp", port)).or(serve.udp.map(|port| ("udp", port))).unwrap_or(("tcp", 0));
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let open = listening(kind).map_err(|error| format!("cannot read who listens: {error}"))?;
            let Some(missing) = addresses.iter().find(|address| !covered(&open, **address, port)) else {
                return Ok(());
            };
            let said = || self.log.text().map(|text| format!("\n{text}")).unwrap_or_default();
            if self.running.ended() {
                return Err(format!("{} ended before it listened{}", self.log.program, said()));
            }
            if Instant::now() >= deadline {
                let socket = SocketAddr::new(*missing, port);
                return Err(format!(
                    "{} does not listen on {kind} {socket} after {READY_LIMIT:?}{}",
                    self.log.program,
                    said()
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What `path` is bound over; that must exist.
fn bind(path: &Path, target: &Path) -> Result<(CString, CString), String> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string());
    if !target.exists() {
        return Err(format!("this machine has no {} to put another in the place of", target.display()));
    }
    Ok((text(path)?, text(target)?))
}

/// Writes `serve.files`, and adds what is to be bound over what.
fn write(folder: &Path, serve: &Serve, binds: &mut Vec<(CString, CString)>) -> Result<(), String> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| format!("cannot write {path}: {error}")
    };
    for (name, content) in &serve.files {
        let target = Path::new(name);
        let path = folder.join(target.strip_prefix("/").unwrap_or(target));
        // Every folder in between is the program's too.
        let between = path.ancestors().skip(1).take_while(|ancestor| *ancestor != folder);
        for parent in between.map(Path::to_owned).collect::<Vec<PathBuf>>().into_iter().rev() {
            fs::create_dir_all(&parent).map_err(failed(&parent))?;
            give(&parent).map_err(failed(&parent))?;
        }
        fs::write(&path, content).map_err(failed(&path))?;
        give(&path).map_err(failed(&path))?;
        if target.is_absolute() {
            binds.push(bind(&path, target)?);
        }
    }
    Ok(())
}

/// Makes a file or folder the program's own, for others to read.
fn give(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o755))?;
    chown(path, Some(NOBODY), Some(NOBODY))
}

/// Runs one program of `prepare` to its end.
fn prepare(confinement: &Confinement, run: &[String]) -> Result<(), String> {
    let exec = Exec { run: run.to_vec(), timeout: Some(PREPARE_LIMIT), ..Exec::default() };
    let report = spawn::start(confinement, confine::Cgroup::Own, &Action::Exec(exec), Part::Whole)
        .and_then(|running| running.wait(PREPARE_LIMIT))
        .map_err(|error| error.to_string())?;
    if report.outcome == "ok" {
        return Ok(());
    }
    let said = format!("{}\n{}", report.stdout.trim(), report.stderr.trim());
    Err(format!("`{}`, which prepares it, ended with {}: {}", run.join(" "), report.outcome, said.trim()))
}

/// Local ends of the calling thread's namespace that take connections (`tcp`) or datagrams (`udp`).
fn listening(kind: &str) -> io::Result<Vec<SocketAddr>> {
    let mut open = Vec::new();
    for table in [kind.to_owned(), format!("{kind}6")] {
        match fs::read_to_string(format!("/proc/thread-self/net/{table}")) {
            Ok(text) => open.extend(text.lines().skip(1).filter_map(|line| local(line, kind))),
            // No IPv6 here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(open)
}

/// The local end in a line of `/proc/net/tcp` and its like: `0: 0100007F:0016 00000000:0000 0A …`,
/// if it is open for everyone.
fn local(line: &str, kind: &str) -> Option<SocketAddr> {
    /// States as the kernel numbers them: a listening TCP socket, an unconnected UDP one.
    const OPEN: [&str; 2] = ["0A", "07"];
    let mut fields = line.split_whitespace().skip(1);
    let (address, _, state) = (fields.next()?, fields.next()?, fields.next()?);
    if state != OPEN[usize::from(kind == "udp")] {
        return None;
    }
    let (address, port) = address.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of four bytes in the machine's order.
    let mut bytes = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let address = match (<[u8; 4]>::try_from(bytes.as_slice()), <[u8; 16]>::try_from(bytes.as_slice())) {
        (Ok(v4), _) => IpAddr::from(v4),
        (_, Ok(v6)) => IpAddr::from(v6),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// Whether one of the sockets `open` takes what comes for `address` and `port`. `::` takes IPv4 too.
fn covered(open: &[SocketAddr], address: IpAddr, port: u16) -> bool {
    open.iter().filter(|socket| socket.port() == port).any(|socket| {
        let any = socket.ip() == Ipv6Addr::UNSPECIFIED || socket.ip().is_unspecified() && address.is_ipv4();
        any || socket.ip().to_canonical() == address
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_a_local_end() {
        let line = |rest: &str| format!("   0: {rest} 00000000:00000000 00:00000000 00000000 0 0 12345");
        let tcp = |rest| local(&line(rest), "tcp");
        if cfg!(target_endian = "little") {
            assert_eq!(tcp("076433C6:0016 00000000:0000 0A"), "198.51.100.7:22".parse().ok());
            let v6 = "B80D0120000000000000000007000000:1F90 00000000000000000000000000000000:0000 0A";
            assert_eq!(tcp(v6), "[2001:db8::7]:8080".parse().ok());
        }
        assert!(tcp("00000000:0016 00000000:0000 0A").is_some());
        assert_eq!(tcp("076433C6:0016 086433C6:0017 01"), None, "connected");
        assert_eq!(local(&line("00000000:0016 00000000:0000 0A"), "udp"), None);
        assert!(local(&line("00000000:0035 00000000:0000 07"), "udp").is_some());
        for broken in ["", "0:", "0: x:y z 0A", "0: 076433:0016 0:0 0A"] {
            assert_eq!(local(broken, "tcp"), None, "{broken}");
        }
    }

    #[test]
    fn a_socket_covers_its_address_and_an_unspecified_one_its_family() {
        let covers =
            |open: &str, address: &str| covered(&[open.parse().unwrap()], address.parse().unwrap(), 22);
        for (open, address) in [
            ("198.51.100.7:22", "198.51.100.7"),
            ("0.0.0.0:22", "198.51.100.7"),
            ("[::]:22", "198.51.100.7"),
            ("[::]:22", "2001:db8::7"),
        ] {
            assert!(covers(open, address), "{open} {address}");
        }
        for (open, address) in [
            ("198.51.100.8:22", "198.51.100.7"),
            ("198.51.100.7:23", "198.51.100.7"),
            ("0.0.0.0:22", "2001:db8::7"),
        ] {
            assert!(!covers(open, address), "{open} {address}");
        }
    }
}
