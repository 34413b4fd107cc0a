//! CoreDNS with the configuration that is made for it: whom it answers, and what it logs of that.

mod servers;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use stack::{
    Container,
    coredns::{View, corefile},
};

/// Longer than any answer here takes.
const LONG: Duration = Duration::from_secs(10);
/// What the resolver of every test answers.
const ANSWER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

fn main() -> ExitCode {
    let trials = vec![
        Trial::test("the file is as it was read last", golden),
        Trial::ignorable_test("each container has its view, and its labels in the log", answers),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn container(id: &str, agent: &str, address: &str, rules: &str) -> Container {
    Container {
        container_id: id.to_owned(),
        agent: agent.to_owned(),
        project: String::new(),
        addresses: vec![address.parse().expect("an address")],
        rules: rules::parse(rules).expect("rules"),
    }
}

fn golden() -> Result<(), Failed> {
    let one = container(
        "one",
        "quoted \" } {\n",
        "198.18.0.2",
        "[{dst: api.test, proto: https}, {dst: '*.cdn.test', proto: http}, {dst: 198.51.100.7, proto: icmp}]",
    );
    let two = Container {
        addresses: vec!["198.18.0.3".parse()?, "2001:db8::3".parse()?],
        ..container("two", "", "198.18.0.3", "[]")
    };
    let resolver: SocketAddr = "198.18.0.1:5301".parse()?;
    let views = [&one, &two].map(|container| View { container, resolver });
    insta::assert_snapshot!("corefile", corefile(&views));
    Ok(())
}

/// The server, ended on drop.
struct Server {
    process: Child,
    log: Receiver<String>,
    port: u16,
}

impl Server {
    fn start(binary: &std::path::Path, corefile: &str) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("Corefile");
        fs::write(&path, corefile)?;
        // Free a moment ago.
        let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut process = Command::new(binary)
            .arg("-conf")
            .arg(&path)
            .arg(format!("-dns.port={port}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let lines = BufReader::new(process.stdout.take().ok_or("no standard output")?).lines();
        let (send, log) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        let server = Self { process, log, port };
        server.line("CoreDNS-")?;
        Ok(server)
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

    /// What it answers to whoever has this address.
    fn ask(&self, from: &str, name: &str) -> Result<Message, Failed> {
        let socket = UdpSocket::bind((from.parse::<IpAddr>()?, 0))?;
        socket.set_read_timeout(Some(LONG))?;
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name)?, RecordType::A));
        socket.send_to(&message.to_vec()?, ("127.0.0.1", self.port))?;
        let mut answer = [0; 4096];
        let length = socket.recv(&mut answer)?;
        Ok(Message::from_vec(&answer[..length])?)
    }
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
            answer.add_query(query.clone());
            if query.name().to_ascii().ends_with("ruled.test.") {
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

fn answers() -> Result<Completion, Failed> {
    let binary = match servers::binary("coredns", "coredns") {
        Ok(binary) => binary,
        Err(reason) => return Ok(Completion::Ignored { reason: Some(reason) }),
    };
    let one = container("one", "a \"b\" } {", "127.0.0.2", "[{dst: '*.ruled.test', proto: https}]");
    let two = container("two", "scout", "127.0.0.3", "[]");
    let resolver = resolver()?;
    let views = [&one, &two].map(|container| View { container, resolver });
    let server = Server::start(&binary, &corefile(&views))?;
    // "a "b" } {" and "scout", as base64.
    for (from, name, code, logged) in [
        (
            "127.0.0.2",
            "api.ruled.test.",
            ResponseCode::NoError,
            "clawker ruled =YSAiYiIgfSB7 = =b25l 127.0.0.2",
        ),
        (
            "127.0.0.2",
            "other.test.",
            ResponseCode::NXDomain,
            "clawker unruled =YSAiYiIgfSB7 = =b25l 127.0.0.2",
        ),
        (
            "127.0.0.3",
            "api.ruled.test.",
            ResponseCode::NoError,
            "clawker unruled =c2NvdXQ= = =dHdv 127.0.0.3",
        ),
        ("127.0.0.4", "api.ruled.test.", ResponseCode::Refused, "clawker nobody = = = 127.0.0.4"),
    ] {
        let answer = server.ask(from, name)?;
        let line = server.line("clawker ")?;
        let is_own = code != ResponseCode::NoError;
        let as_asked = line.contains(logged) && line.ends_with(&format!(" {name}"));
        let flags_say = line.split(' ').any(|field| field.split(',').any(|flag| flag == "aa")) == is_own;
        if answer.metadata.response_code != code || !as_asked || !flags_say {
            return Err(format!("{from} {name}: {:?}, {line}", answer.metadata.response_code).into());
        }
    }
    Ok(Completion::Completed)
}
