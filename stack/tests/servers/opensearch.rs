//! A store of a test's own: the real server, on loopback, gone with the guard.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use serde_json::Value;
use tempfile::TempDir;

use crate::servers::{binary, cached};

/// Longer than it takes to start on a busy machine.
const START: Duration = Duration::from_secs(180);

/// What a server is made of, in the cache.
pub struct Parts {
    server: PathBuf,
    java: PathBuf,
}

impl Parts {
    /// Those that `ci/images opensearch` fetched, or why there are none.
    pub fn plain() -> Result<Self, String> {
        let java = binary("java/bin/java", "opensearch")?;
        let image = java.ancestors().nth(3).ok_or("no folder")?;
        Ok(Self { server: image.join("server"), java: image.join("java") })
    }

    /// With the security plugin, or why there are none.
    pub fn with_security() -> Result<Self, String> {
        let java = Self::plain()?.java;
        let folder = cached("opensearch-security-").find(|folder| folder.join("server/plugins").is_dir());
        let folder = folder.ok_or("needs an OpenSearch with security: `ci/setup --images`")?;
        Ok(Self { server: folder.join("server"), java })
    }
}

/// A server that runs. It ends with this.
pub struct OpenSearch {
    folder: TempDir,
    running: Child,
    pub port: u16,
}

impl Drop for OpenSearch {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}

impl OpenSearch {
    /// Starts one whose `config` folder is as `configure` leaves it. It answers when its log has `ready`.
    pub fn start(
        parts: &Parts,
        ready: &str,
        configure: impl FnOnce(&Path) -> Result<(), Failed>,
    ) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        for name in ["server", "java", "data", "logs", "tmp"] {
            fs::create_dir(at(name))?;
        }
        copy(&parts.server.join("config"), &at("config"))?;
        configure(&at("config"))?;
        let [port, transport] = ports()?;
        let root = is_root();
        let mut command = Command::new("unshare");
        let path = folder.path().display();
        // It refuses to run as root, and as somebody else cannot see the cache below root's home: so it gets what it is
        // made of in a mount namespace of its own.
        let (server, java) = (parts.server.display(), parts.java.display());
        let begin = if root {
            format!(
                "chown -R 65534:65534 {path} && mount --bind {server} {path}/server && mount --bind {java} {path}/java && \
                 cd {path} && exec setpriv --reuid=65534 --regid=65534 --clear-groups --"
            )
        } else {
            command = Command::new("env");
            format!("rmdir {path}/server {path}/java && ln -s {server} {java} {path} && cd {path} && exec")
        };
        if root {
            command.args(["--mount", "--propagation", "private"]);
        }
        let script = format!(
            "{begin} java/bin/java -Xms384m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.io.tmpdir={path}/tmp \
             -Djna.tmpdir={path}/tmp -Djna.nosys=true -Djava.awt.headless=true -Dfile.encoding=UTF-8 \
             -Dlog4j2.disable.jmx=true -Dio.netty.noUnsafe=true --enable-native-access=ALL-UNNAMED \
             -Dopensearch.path.home={path}/server -Dopensearch.path.conf={path}/config -Dopensearch.distribution.type=tar \
             -cp 'server/lib/*' org.opensearch.bootstrap.OpenSearch -Epath.data={path}/data -Epath.logs={path}/logs \
             -Enetwork.host=127.0.0.1 -Ehttp.port={port} -Etransport.port={transport}"
        );
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
        let log = fs::File::create(at("log"))?;
        let running = command
            .args(["sh", "-c", &script])
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let mut server = Self { folder, running, port };
        server.wait_for(ready)?;
        Ok(server)
    }

    fn wait_for(&mut self, ready: &str) -> Result<(), Failed> {
        let deadline = Instant::now() + START;
        let log = self.folder.path().join("log");
        loop {
            let told = fs::read_to_string(&log).unwrap_or_default();
            if told.contains(ready) {
                return Ok(());
            }
            let ended = self.running.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let last: Vec<&str> = told.lines().rev().take(40).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                return Err(format!("the store did not start ({ended:?}):\n{}", last.join("\n")).into());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// Two that were free a moment ago.
fn ports() -> Result<[u16; 2], Failed> {
    let one = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let two = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok([one.local_addr()?.port(), two.local_addr()?.port()])
}

fn copy(from: &Path, to: &Path) -> Result<(), Failed> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// A request of a test's own, and what was answered.
pub fn ask(
    agent: &ureq::Agent,
    method: &str,
    url: &str,
    authorization: Option<&str>,
    body: &str,
) -> Result<(u16, Value), Failed> {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let mut answer = if body.is_empty() {
        agent.run(request.body(())?)?
    } else {
        agent.run(request.header("content-type", "application/json").body(body.to_owned())?)?
    };
    let text = answer.body_mut().read_to_string()?;
    Ok((answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text))))
}
