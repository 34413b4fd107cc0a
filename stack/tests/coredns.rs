//! CoreDNS with the configuration that is made for it: whom it answers, and what it logs of that.

mod servers;

use std::{
    fs,
    io::{BufRead as _, BufReader, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use stack::{
    Container,
    coredns::{View, corefile, is_served},
};
use tempfile::TempDir;

/// Longer than any answer here takes.
const LONG: Duration = Duration::from_secs(10);
/// As long as a view asks one that does not answer, or nearly so.
const SLOW: Duration = Duration::from_secs(5);
/// What the resolver of every test answers.
const ANSWER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

fn main() -> ExitCode {
    let trials = vec![
        Trial::test("the file is as it was read last", golden),
        Trial::ignorable_test("each container has its view, and its labels in the log", answers),
        Trial::ignorable_test("a borrowed IPv6 address gets no answer, and is logged", borrowed),
        Trial::ignorable_test("no name forges a field or a line", hostile),
        Trial::ignorable_test("a file that is refused is not said to be served", refused),
        Trial::ignorable_test("a change of the file is taken up, and cuts nothing", changed),
        Trial::ignorable_test("a view is waited for as long as it asks", waited),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn container(id: &str, agent: &str, address: &str) -> Container {
    Container {
        container_id: id.to_owned(),
        agent: agent.to_owned(),
        project: String::new(),
        addresses: vec![address.parse().expect("an address")],
        rules: Vec::new(),
    }
}

fn golden() -> Result<(), Failed> {
    let one = container("one", "quoted \" } {\n", "198.18.0.2");
    let two = Container {
        addresses: vec!["198.18.0.3".parse()?, "2001:db8::3".parse()?],
        ..container("two", "", "198.18.0.3")
    };
    let resolver: SocketAddr = "198.18.0.1:5301".parse()?;
    let views = [(&one, 5301), (&two, 5302)].map(|(container, port)| View { container, port, resolver });
    let addresses = ["198.18.0.1".parse()?, "2001:db8::1".parse()?];
    insta::assert_snapshot!("corefile", corefile(&addresses, 53, &views, "127.0.0.1:9153".parse()?));
    Ok(())
}

/// The server, ended on drop.
struct Server {
    process: Child,
    log: Receiver<String>,
    /// Where it serves nobody, and each container in turn.
    ports: [u16; 3],
    metrics: SocketAddr,
    folder: TempDir,
}

/// Where it serves.
const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The file that has `resolver` answer these containers.
fn file(ports: [u16; 3], metrics: SocketAddr, containers: &[&Container], resolver: SocketAddr) -> String {
    let views: Vec<View<'_>> = containers
        .iter()
        .zip(&ports[1..])
        .map(|(container, port)| View { container, port: *port, resolver })
        .collect();
    corefile(&ADDRESSES, ports[0], &views, metrics)
}

impl Server {
    /// What containers ask it is answered by `resolver`.
    fn start(binary: &Path, containers: &[&Container], resolver: SocketAddr) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("Corefile");
        // Free a moment ago.
        let free = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0"));
        let mut ports = [0; 4];
        for (port, socket) in ports.iter_mut().zip(free) {
            *port = socket?.local_addr()?.port();
        }
        let [metrics, ports @ ..] = ports;
        let metrics = ([127, 0, 0, 1], metrics).into();
        let text = file(ports, metrics, containers, resolver);
        fs::write(&path, &text)?;
        let mut process = Command::new(binary)
            .arg("-conf")
            .arg(&path)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let lines = BufReader::new(process.stdout.take().ok_or("no standard output")?).lines();
        let (send, log) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        let server = Self { process, log, ports, metrics, folder };
        server.line("CoreDNS-")?;
        server.serves(&text)?;
        Ok(server)
    }

    /// Waits until it says so of itself.
    fn serves(&self, text: &str) -> Result<(), Failed> {
        let deadline = Instant::now() + LONG;
        while !self.serves_now(text).is_ok_and(|serves| serves) {
            if Instant::now() > deadline {
                return Err("it does not say that it serves its file".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Whether it says so.
    fn serves_now(&self, text: &str) -> Result<bool, Failed> {
        let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
        let page =
            agent.get(format!("http://{}/metrics", self.metrics)).call()?.body_mut().read_to_string()?;
        Ok(is_served(text, &page))
    }

    /// The next line with this word in it.
    fn line(&self, word: &str) -> Result<String, Failed> {
        loop {
            let line = self.log.recv_timeout(LONG).map_err(|_| format!("no line with {word}"))?;
            if line.contains(word) {
                return Ok(line);
            }
        }
    }

    /// Has others served from now on, sooner or later.
    fn change(&self, containers: &[&Container], resolver: SocketAddr) -> Result<String, Failed> {
        let text = file(self.ports, self.metrics, containers, resolver);
        fs::write(self.folder.path().join("Corefile"), &text)?;
        Ok(text)
    }

    /// Whoever has this address, connected to the port of nobody, or of a container.
    fn client(&self, from: &str, port: usize) -> Result<UdpSocket, Failed> {
        let from: IpAddr = from.parse()?;
        let socket = UdpSocket::bind((from, 0))?;
        socket.set_read_timeout(Some(LONG))?;
        socket.connect((ADDRESSES[usize::from(from.is_ipv6())], self.ports[port]))?;
        Ok(socket)
    }

    /// What it answers there to whoever has this address.
    fn ask(&self, from: &str, port: usize, name: Name) -> Result<Message, Failed> {
        answered(&self.client(from, port)?, name)
    }
}

fn answered(client: &UdpSocket, name: Name) -> Result<Message, Failed> {
    client.send(&question(name).to_vec()?)?;
    let mut answer = [0; 4096];
    let length = client.recv(&mut answer)?;
    Ok(Message::from_vec(&answer[..length])?)
}

fn question(name: Name) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, RecordType::A));
    message
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Stands for the stamping resolver: what is below `ruled.test` exists, and the rest is refused by its own authority.
fn resolver() -> Result<SocketAddr, Failed> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    thread::spawn(move || {
        let mut question = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let Ok(asked) = Message::from_vec(&question[..length]) else { continue };
            let mut answer = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
            let Some(query) = asked.queries.first() else { continue };
            if query.name().to_ascii().starts_with("slow.") {
                thread::sleep(SLOW);
            }
            answer.add_query(query.clone());
            answer.metadata.recursion_available = true;
            if query.name().to_lowercase().to_ascii().ends_with("ruled.test.") {
                answer.add_answer(Record::from_rdata(query.name().clone(), 60, RData::A(A(ANSWER))));
            } else {
                answer.metadata.response_code = ResponseCode::NXDomain;
                answer.metadata.authoritative = true;
            }
            let _ = answer.to_vec().map(|answer| socket.send_to(&answer, from));
        }
    });
    Ok(address)
}

/// A container that may look up what is below `ruled.test`, and whom its view asks.
fn ruled() -> Result<(Container, SocketAddr), Failed> {
    Ok((container("one", "a \"b\" } {", "127.0.0.2"), resolver()?))
}

fn answers() -> Result<Completion, Failed> {
    let binary = match servers::binary("coredns", "coredns") {
        Ok(binary) => binary,
        Err(reason) => return Ok(Completion::Ignored { reason: Some(reason) }),
    };
    let (one, resolver) = ruled()?;
    let two = container("two", "scout", "127.0.0.3");
    let server = Server::start(&binary, &[&one, &two], resolver)?;
    // "a "b" } {" and "scout", as base64.
    let (first, second) = ("=YSAiYiIgfSB7 = =b25l 127.0.0.2", "=c2NvdXQ= = =dHdv 127.0.0.3");
    for (from, port, name, code, logged) in [
        ("127.0.0.2", 1, "api.ruled.test.", ResponseCode::NoError, format!("clawker container {first}")),
        ("127.0.0.2", 1, "API.Ruled.test.", ResponseCode::NoError, format!("clawker container {first}")),
        ("127.0.0.2", 1, "other.test.", ResponseCode::NXDomain, format!("clawker container {first}")),
        ("127.0.0.3", 2, "api.ruled.test.", ResponseCode::NoError, format!("clawker container {second}")),
        ("127.0.0.3", 2, "x.test.", ResponseCode::NXDomain, format!("clawker container {second}")),
        (
            "127.0.0.4",
            0,
            "api.ruled.test.",
            ResponseCode::Refused,
            "clawker nobody = = = 127.0.0.4".to_owned(),
        ),
        (
            "127.0.0.4",
            1,
            "api.ruled.test.",
            ResponseCode::Refused,
            "clawker nobody = = = 127.0.0.4".to_owned(),
        ),
        // Another's port is nobody's for it.
        (
            "127.0.0.3",
            1,
            "api.ruled.test.",
            ResponseCode::Refused,
            "clawker nobody = = = 127.0.0.3".to_owned(),
        ),
        (
            "127.0.0.2",
            0,
            "api.ruled.test.",
            ResponseCode::Refused,
            "clawker nobody = = = 127.0.0.2".to_owned(),
        ),
    ] {
        let answer = server.ask(from, port, Name::from_ascii(name)?)?;
        let line = server.line("clawker ")?;
        let is_own = code != ResponseCode::NoError;
        let as_asked = line.contains(&logged) && line.ends_with(&format!(" {}", name.to_ascii_lowercase()));
        let flags_say = line.split(' ').any(|field| field.split(',').any(|flag| flag == "aa")) == is_own;
        if answer.metadata.response_code != code || !as_asked || !flags_say {
            return Err(format!("{from} {name}: {:?}, {line}", answer.metadata.response_code).into());
        }
    }
    Ok(Completion::Completed)
}

fn borrowed() -> Result<Completion, Failed> {
    let binary = match servers::binary("coredns", "coredns") {
        Ok(binary) => binary,
        Err(reason) => return Ok(Completion::Ignored { reason: Some(reason) }),
    };
    let (one, resolver) = ruled()?;
    let server = Server::start(&binary, &[&one], resolver)?;
    for port in [0, 1] {
        let client = server.client("::1", port)?;
        client.send(&question(Name::from_ascii("a.ruled.test.")?).to_vec()?)?;
        let line = server.line("clawker ")?;
        if !line.contains("clawker nobody = = = [::1]") || !line.ends_with(" a.ruled.test.") {
            return Err(line.into());
        }
        // It is logged once it is done with.
        client.set_nonblocking(true)?;
        match client.recv(&mut [0; 512]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => return Err(format!("it was answered: {other:?}").into()),
        }
    }
    Ok(Completion::Completed)
}

/// Whatever a name's bytes are: one line, whose fields are CoreDNS's, and the name at its end.
fn hostile() -> Result<Completion, Failed> {
    let binary = match servers::binary("coredns", "coredns") {
        Ok(binary) => binary,
        Err(reason) => return Ok(Completion::Ignored { reason: Some(reason) }),
    };
    let (one, resolver) = ruled()?;
    let server = Server::start(&binary, &[&one], resolver)?;
    let long: &[u8] = &[0xff; 63];
    let labels: [&[&[u8]]; 6] = [
        &[b"a b", b"ruled", b"test"],
        &[b"x\n[INFO] clawker container =YQ== = =b25l", b"ruled", b"test"],
        &[b"quoted \"\\\t\0", b"other", b"test"],
        &["\u{202e}".as_bytes(), b"x.y", b"test"],
        &[long, long, long, &[b' '; 61]],
        &[b"${name} {remote} \r", b"other", b"test"],
    ];
    for labels in labels {
        let name = Name::from_labels(labels.iter().copied())?;
        server.ask("127.0.0.2", 1, name)?;
        let line = server.line("127.0.0.2 ")?;
        // The name has spaces of its own, so it is what follows the other fields.
        let fields: Vec<&str> = line.splitn(18, ' ').collect();
        let (head, asked) = (&fields[..fields.len() - 1], fields[fields.len() - 1]);
        let expected = presentation(labels);
        if fields.len() != 18 || head[1] != "clawker" || head[4..6] != ["=", "=b25l"] || asked != expected {
            return Err(format!("{expected}: {line}").into());
        }
    }
    Ok(Completion::Completed)
}

/// A name in presentation form as CoreDNS writes it, on its own terms: RFC 1035, 5.1.
fn presentation(labels: &[&[u8]]) -> String {
    let mut text = String::new();
    for label in labels {
        for byte in *label {
            match byte {
                b'.' | b' ' | b'\'' | b'@' | b';' | b'(' | b')' | b'"' | b'\\' => {
                    text.extend(['\\', char::from(*byte)]);
                }
                b'!'..=b'~' => text.push(char::from(byte.to_ascii_lowercase())),
                _ => text.push_str(&format!("\\{byte:03}")),
            }
        }
        text.push('.');
    }
    text
}

fn changed() -> Result<Completion, Failed> {
    let binary = match servers::binary("coredns", "coredns") {
        Ok(binary) => binary,
        Err(reason) => return Ok(Completion::Ignored { reason: Some(reason) }),
    };
    let (before, resolver) = ruled()?;
    let after = container("two", "scout", "127.0.0.2");
    let server = Server::start(&binary, &[&before], resolver)?;
    let client = server.client("127.0.0.2", 1)?;
    let text = server.change(&[&after], resolver)?;
    let (deadline, mut asked) = (Instant::now() + LONG, 0);
    loop {
        // Each is answered, before, while and after.
        answered(&client, Name::from_ascii("new.test.")?)?;
        let line = server.line("clawker ")?;
        asked += 1;
        if line.contains(" =c2NvdXQ= = =dHdv ") {
            break;
        }
        if Instant::now() > deadline {
            return Err(format!("the change was not taken up within {asked} questions: {line}").into());
        }
    }
    if asked < 2 {
        return Err("it was there before it was taken up".into());
    }
    server.serves(&text).map(|()| Completion::Completed)
}

/// What becomes of a question is the view's to say: CoreDNS's own answer would say of one that went out that it did not.
fn waited() -> Result<Completion, Failed> {
    let binary = match servers::binary("coredns", "coredns") {
        Ok(binary) => binary,
        Err(reason) => return Ok(Completion::Ignored { reason: Some(reason) }),
    };
    let (one, resolver) = ruled()?;
    let server = Server::start(&binary, &[&one], resolver)?;
    let answer = server.ask("127.0.0.2", 1, Name::from_ascii("slow.ruled.test.")?)?;
    let line = server.line("clawker ")?;
    if answer.metadata.response_code != ResponseCode::NoError || !line.contains(",ra ") {
        return Err(format!("{:?}: {line}", answer.metadata.response_code).into());
    }
    Ok(Completion::Completed)
}

/// What it cannot take it does not say that it serves.
fn refused() -> Result<Completion, Failed> {
    let binary = match servers::binary("coredns", "coredns") {
        Ok(binary) => binary,
        Err(reason) => return Ok(Completion::Ignored { reason: Some(reason) }),
    };
    let (one, resolver) = ruled()?;
    let server = Server::start(&binary, &[&one], resolver)?;
    let text = file(server.ports, server.metrics, &[], resolver).replace("reload", "no-such-plugin");
    fs::write(server.folder.path().join("Corefile"), &text)?;
    server.line("reload failed")?;
    if server.serves_now(&text)? {
        return Err("it says that it serves what it refused".into());
    }
    Ok(Completion::Completed)
}
