//! A Docker daemon of our own: in namespaces of its own, with nobody else's containers.

use std::{
    collections::BTreeSet,
    fs::File,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

/// Longest wait for it to start or end.
const PATIENCE: Duration = Duration::from_secs(60);
/// It wants cgroup v2 alone where it looks for cgroups, and its networks are in a namespace of its own.
const START: &str = "umount -R /sys/fs/cgroup; mount -t sysfs sysfs /sys && mount -t cgroup2 cgroup2 /sys/fs/cgroup \
    && exec dockerd \"$@\"";
/// The image of every container.
pub const IMAGE: &str = "programs";

/// The daemon; ended with all its containers on drop.
pub struct Daemon {
    folder: tempfile::TempDir,
    process: Child,
}

impl Daemon {
    /// One that answers, and has an image with these programs of this machine. Or why none can be started here.
    pub fn start(programs: &[&str]) -> Result<Self, String> {
        if !geteuid().is_root() {
            return Err("needs root: it starts a Docker daemon".to_owned());
        }
        let has = |program: &&str| Command::new(program).arg("--version").output().is_ok();
        if let Some(lacks) = ["dockerd", "docker", "unshare", "setpriv"].iter().find(|program| !has(program))
        {
            return Err(format!("needs {lacks}; ci/setup has it installed"));
        }
        let folder = tempfile::tempdir().unwrap();
        let process = spawn(folder.path());
        let mut daemon = Self { folder, process };
        if let Err(log) = daemon.answers() {
            return Err(format!(
                "no Docker daemon can be started here: {}",
                log.lines().last().unwrap_or_default()
            ));
        }
        daemon.import(programs);
        Ok(daemon)
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// Ends it at once. Its containers go on.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it where it was killed.
    pub fn start_again(&mut self) {
        self.process = spawn(self.folder.path());
        self.answers().unwrap();
    }

    /// What `docker` prints for these arguments, which it has to succeed with.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The identifier of a container that sleeps, started with these options.
    pub fn sleeper(&self, options: &[&str]) -> String {
        let program = [IMAGE, "/bin/sleep", "600"];
        self.docker(&[&["run", "--detach", "--stop-timeout", "0"], options, &program].concat())
    }

    /// First process of a running container.
    pub fn pid(&self, container: &str) -> i32 {
        self.docker(&["inspect", "--format", "{{.State.Pid}}", container]).parse().unwrap()
    }

    /// Inode number of a running container's cgroup, by a way of our own: where its process is.
    pub fn cgroup_id(&self, container: &str) -> u64 {
        let pid = self.pid(container).to_string();
        // The daemon's own mount is the whole hierarchy.
        let root = format!("/proc/{}/root/sys/fs/cgroup", self.process.id());
        let id = self.docker(&["inspect", "--format", "{{.Id}}", container]);
        let path = Path::new(&root).join("docker").join(id);
        let processes = std::fs::read_to_string(path.join("cgroup.procs")).unwrap();
        assert!(processes.lines().any(|line| line == pid), "{path:?} holds {processes:?}, not {pid}");
        path.metadata().unwrap().ino()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let host = format!("unix://{}", self.socket().display());
        Command::new("docker").args(["--host", &host]).args(arguments).output().unwrap()
    }

    /// Waits until it does; what it logged where it does not.
    fn answers(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !self.run(&["version"]).status.success() {
            if Instant::now() > deadline || self.process.try_wait().unwrap().is_some() {
                return Err(std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// An image of programs and the libraries that they need.
    fn import(&self, programs: &[&str]) {
        let libraries = Command::new("ldd").args(programs).output().unwrap();
        let libraries = String::from_utf8(libraries.stdout).unwrap();
        let libraries =
            libraries.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
        let paths: BTreeSet<&str> = programs.iter().copied().chain(libraries).collect();
        let archive = self.folder.path().join("image.tar");
        let mut tar = Command::new("tar");
        tar.args(["-C", "/", "--dereference", "-cf"]).arg(&archive);
        assert!(tar.args(paths.iter().map(|path| path.trim_start_matches('/'))).status().unwrap().success());
        self.docker(&["import", archive.to_str().unwrap(), IMAGE]);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let containers = self.run(&["ps", "--all", "--quiet"]).stdout;
        let containers = String::from_utf8_lossy(&containers).into_owned();
        let containers: Vec<&str> = containers.split_whitespace().collect();
        if !containers.is_empty() {
            self.run(&[&["rm", "--force"], containers.as_slice()].concat());
        }
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        // It may be dead already.
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

fn spawn(folder: &Path) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    // A daemon that was killed leaves the numbers of its processes, which it would believe.
    for left in ["pid", "exec/containerd/containerd.pid"] {
        let _ = std::fs::remove_file(at(left));
    }
    Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "unshare", "--mount", "--net", "--propagation", "private"])
        .args(["sh", "-c", START, "dockerd"])
        .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
        .args(["--host", &format!("unix://{}", at("docker.sock"))])
        .args(["--storage-driver", "vfs", "--bridge", "none", "--iptables=false", "--ip-forward=false"])
        .args(["--ip-masq=false", "--live-restore"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
