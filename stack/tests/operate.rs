//! The `stack` command, on a real daemon: everything of it is gone at the end.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output, id},
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::{Value, json};
use stack::certificates::Authority;
use tempfile::TempDir;

/// Services, in the order in which they are started.
const SERVICES: [&str; 7] =
    ["opensearch", "relay", "collector", "agents-collector", "envoy", "coredns", "prometheus"];
/// Their images.
const IMAGES: [&str; 6] = ["opensearch", "agent", "collector", "envoy", "coredns", "prometheus"];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = vec![
        Trial::ignorable_test("a stack is made, used, ended, and made again", whole),
        Trial::ignorable_test("what cannot be is told, and where", refused),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Why there can be no stack here.
fn missing() -> Option<String> {
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) != 0) {
        return Some("needs root".to_owned());
    }
    if !docker(&["version"]).is_ok_and(|output| output.status.success()) {
        return Some("needs a Docker daemon: `ci/docker start`".to_owned());
    }
    if !relay().exists() {
        return Some("needs the relay's program: `cargo build -p relay`".to_owned());
    }
    let lacks = |name: &&&str| {
        let image = format!("clawker/{name}:local");
        !docker(&["image", "inspect", &image]).is_ok_and(|output| output.status.success())
    };
    IMAGES.iter().find(lacks).map(|name| format!("needs an image: `ci/images {name}`"))
}

/// A stack of the test's own. It is gone with this.
struct Stack {
    folder: TempDir,
    name: String,
    number: u32,
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.at("stack.json").exists() {
            let _ = self.run(&["down", "--remove-data"]);
        }
    }
}

impl Stack {
    fn new(letter: char) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        // Those that upstreams would be checked by; there are none.
        Authority::open(folder.path(), "upstream")?;
        Ok(Self {
            folder,
            name: format!("test{letter}{}", id()),
            number: 64 + (id() + u32::from(letter)) % 64,
        })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join("stack").join(name)
    }

    fn run(&self, arguments: &[&str]) -> Result<Output, Failed> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stack"));
        command.args(arguments).arg("--dir").arg(self.at(""));
        Ok(command.output()?)
    }

    fn up(&self, more: &[&str]) -> Result<Output, Failed> {
        let authorities = self.folder.path().join("upstream-ca.crt").display().to_string();
        let (agents, plane) =
            (format!("198.18.{}.0/25", self.number), format!("198.18.{}.128/25", self.number));
        let relay = relay().display().to_string();
        let arguments = [
            "up",
            "--name",
            &self.name,
            "--relay",
            &relay,
            "--agents",
            &agents,
            "--plane",
            &plane,
            "--authorities",
            &authorities,
        ];
        self.run(&[&arguments[..], more].concat())
    }

    /// What a command says that must end with this code.
    fn ends(&self, code: i32, arguments: &[&str]) -> Result<String, Failed> {
        ended(code, self.run(arguments)?)
    }

    /// Each container, when it was made and when it was started.
    fn containers(&self) -> Result<Vec<String>, Failed> {
        let filter = format!("label=dev.clawker.stack={}", self.name);
        let ids = ended(0, docker(&["ps", "--all", "--quiet", "--filter", &filter])?)?;
        let format = "{{.Name}} {{.Id}} {{.State.StartedAt}}";
        let mut all = Vec::new();
        for id in ids.split_whitespace() {
            all.push(ended(0, docker(&["inspect", "--format", format, id])?)?);
        }
        all.sort();
        Ok(all)
    }

    fn status(&self, code: i32) -> Result<Value, Failed> {
        Ok(serde_json::from_str(&self.ends(code, &["status", "--json"])?)?)
    }
}

/// The relay's program, of the same build.
fn relay() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_stack")).with_file_name("relay")
}

fn docker(arguments: &[&str]) -> std::io::Result<Output> {
    Command::new("docker").args(arguments).output()
}

fn ended(code: i32, output: Output) -> Result<String, Failed> {
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(code) {
        return Ok(told + &String::from_utf8_lossy(&output.stderr));
    }
    Err(format!("{}, and not {code}: {told}{}", output.status, String::from_utf8_lossy(&output.stderr))
        .into())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), Failed> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?} is not {expected:?}").into()) }
}

fn listed(folder: &Path, containers: &Value) -> Result<String, Failed> {
    let path = folder.join("containers.yaml");
    fs::write(&path, containers.to_string())?;
    Ok(path.display().to_string())
}

fn whole() -> Result<Completion, Failed> {
    if let Some(reason) = missing() {
        return Ok(Completion::Ignored { reason: Some(reason) });
    }
    let stack = Stack::new('a')?;
    let told = ended(0, stack.up(&[])?)?;
    let given = stack.at("given").canonicalize()?.display().to_string();
    for part in ["--tls-cert", &format!("{given}/egress.crt"), "as it is", "policy"] {
        same(part, told.contains(part), part != "as it is")?;
    }
    // No plugin of the store here asks Prometheus: that is told, and holds nothing up.
    let source = told
        .lines()
        .filter(|line| line.split_whitespace().take(4).eq(["data", "source", "prometheus", "absent"]));
    same("the data source", source.count(), 1)?;
    let made = stack.containers()?;
    same("containers", made.len(), SERVICES.len())?;
    let status = stack.status(0)?;
    let relayed = ["claude", "coredns", "cp", "envoy", "overseer"];
    let lanes = status["lanes"]["Ok"].as_object().ok_or("lanes")?;
    same("lanes", lanes.keys().map(String::as_str).collect::<Vec<_>>(), relayed.to_vec())?;
    same("lanes that are read", lanes.values().all(|lane| lane["records"]["given_up"] == json!(0)), true)?;
    same("the proxy's log", &status["log"]["Ok"], &json!({"entries": 0, "given_up": 0, "overflown": 0}))?;
    same("streams", status["streams"]["Ok"].as_array().map(Vec::len), Some(documents::ALL.len()))?;
    // What is right stays.
    ended(0, stack.up(&[])?)?;
    same("containers after a second up", stack.containers()?, made.clone())?;
    applied(&stack)?;
    asked_docker(&stack)?;
    same("containers after the lists", stack.containers()?, made)?;
    same("lost", stack.ends(0, &["lost"])?.contains("nothing was handed to it"), true)?;
    stack.ends(0, &["keep"])?;
    templates(&stack)?;
    settings(&stack)?;
    // What is dead is told, and made to run again.
    ended(0, docker(&["kill", &format!("{}-collector", stack.name)])?)?;
    let status = stack.status(3)?;
    same("a killed service", &status["services"][2]["state"], &json!("exited (137)"))?;
    ended(0, stack.up(&[])?)?;
    // A document outlives the stack; an operator removes it.
    let url = format!("http://198.18.{}.138:9200/clawker-cp", stack.number);
    let document = json!({"@timestamp": 1_795_946_400_000_u64});
    ureq::post(format!("{url}/_doc?refresh=true"))
        .header("content-type", "application/json")
        .send(document.to_string())?;
    ureq::post(format!("{url}/_doc?refresh=true"))
        .header("content-type", "application/json")
        .send(json!({"@timestamp": 1_795_946_300_000_u64}).to_string())?;
    let lines = "{\"@timestamp\":1795946300000}\n{\"@timestamp\":1795946400000}\n";
    same("documents of a stream", stack.ends(0, &["export", "clawker-cp"])?.as_str(), lines)?;
    same(
        "documents of the last hour",
        stack.ends(0, &["export", "clawker-cp", "--since", "1h"])?.as_str(),
        "",
    )?;
    stack.ends(0, &["down"])?;
    same("containers after down", stack.containers()?, Vec::new())?;
    ended(0, stack.up(&[])?)?;
    let found: Value =
        serde_json::from_str(&ureq::get(format!("{url}/_count")).call()?.body_mut().read_to_string()?)?;
    same("documents", &found["count"], &json!(2))?;
    // What was lost for good is told, and stays so: here a file of the relay's that cannot be read any more.
    ended(0, docker(&["kill", &format!("{}-relay", stack.name)])?)?;
    fs::write(stack.at("data/relay/cp.redb"), [0x5a; 4096])?;
    ended(0, stack.up(&[])?)?;
    let status = stack.status(3)?;
    let damaged = |lane: &str| status["lanes"]["Ok"][lane]["damaged"].clone();
    same("damaged files", [damaged("cp"), damaged("envoy")], [json!(1), json!(0)])?;
    stack.ends(0, &["down", "--remove-data"])?;
    stack.ends(0, &["down", "--remove-data"])?;
    same("data", stack.at("data").exists(), false)?;
    same("containers at the end", stack.containers()?, Vec::new())?;
    let networks =
        ended(0, docker(&["network", "ls", "--quiet", "--filter", &format!("name={}", stack.name)])?)?;
    same("networks at the end", networks.trim(), "")?;
    Ok(Completion::Completed)
}

/// What somebody changed in the store is told, and overwritten only where that is asked for.
fn templates(stack: &Stack) -> Result<(), Failed> {
    let url = format!("http://198.18.{}.138:9200/_index_template/clawker-cp", stack.number);
    let read = || -> Result<Value, Failed> {
        let answer: Value = serde_json::from_str(&ureq::get(&url).call()?.body_mut().read_to_string()?)?;
        Ok(answer["index_templates"][0]["index_template"].clone())
    };
    let ours = read()?;
    let mut theirs = ours.clone();
    theirs["priority"] = json!(501);
    ureq::put(&url).header("content-type", "application/json").send(theirs.to_string())?;
    let of_template = |told: &str| {
        let words = |line: &str| line.split_whitespace().take(3).map(str::to_owned).collect::<Vec<_>>();
        let is_it =
            |words: &Vec<String>| words.starts_with(&["template".to_owned(), "clawker-cp".to_owned()]);
        told.lines().map(words).find(is_it)
    };
    for (more, did) in [(&[][..], "differs"), (&["--overwrite-templates"], "updated")] {
        let told = ended(0, stack.up(more)?)?;
        let expected = ["template", "clawker-cp", did].map(str::to_owned).to_vec();
        same(&told, of_template(&told), Some(expected))?;
    }
    same("the template", read()?, ours)
}

/// What may be said anew, and what may not while it runs.
fn settings(stack: &Stack) -> Result<(), Failed> {
    let (before, files) = (stack.containers()?, || fs::read(stack.at("stack.json")));
    let said = files()?;
    for (option, other) in [("--plane", "198.18.255.0/24"), ("--name", "clawker-other")] {
        let refused = ended(2, stack.run(&["up", option, other])?)?;
        same(&refused, refused.contains("`stack down` removes it, and no data"), true)?;
    }
    same("settings after what was refused", files()?, said)?;
    same("containers after what was refused", stack.containers()?, before.clone())?;
    // Envoy would take no way of looking names up but the one that it began with.
    ended(0, stack.up(&["--dns", "198.51.100.53:53"])?)?;
    let after = stack.containers()?;
    let anew: Vec<&String> = before.iter().filter(|one| !after.contains(one)).collect();
    same("containers made anew", anew.len(), 1)?;
    ended(0, stack.up(&["--dns", "127.0.0.11:53"])?).map(drop)
}

/// Lists of containers, some of which cannot be.
fn applied(stack: &Stack) -> Result<(), Failed> {
    let one = |id: &str, address: u8, rules: Value| {
        let address = format!("198.18.{}.{address}", stack.number);
        json!({"container_id": id, "agent": "it's", "project": "", "addresses": [address], "rules": rules})
    };
    let ssh = |name: &str| json!({"dst": name, "proto": "ssh"});
    let both = json!([
        one("one", 70, json!([ssh("m.test"), {"dst": "api.test", "proto": "https"}])),
        one("two", 71, json!([ssh("z.test")])),
    ]);
    let told = stack.ends(0, &["apply", &listed(stack.folder.path(), &both)?])?;
    let command = "enrol CGROUP --container-id two --agent 'it'\\''s' --project ''";
    same("how to enrol", told.contains(command), true)?;
    let rules = || -> Result<Vec<String>, Failed> {
        let mut all: Vec<String> = fs::read_dir(stack.at("rules"))?
            .map(|entry| fs::read_to_string(entry?.path()))
            .collect::<Result<_, _>>()?;
        all.sort();
        Ok(all)
    };
    let first = [
        "- {\"dst\":\"m.test\",\"proto\":\"ssh\",\"listener\":16000}\n- {\"dst\":\"api.test\",\"proto\":\"https\",\"listener\":15443}\n",
        "- {\"dst\":\"z.test\",\"proto\":\"ssh\",\"listener\":16001}\n",
    ];
    same("rules", rules()?, first.map(str::to_owned).to_vec())?;
    // Nothing of what cannot be is written.
    let before = fs::read(stack.at("plan.json"))?;
    let shared = json!([one("one", 70, json!([])), one("two", 70, json!([]))]);
    let elsewhere = json!([one("one", 140, json!([]))]);
    let own = json!([one("one", 2, json!([]))]);
    for (list, told) in [
        (&shared, "is that of two containers, one and two"),
        (&elsewhere, "which is not in"),
        (&own, "which is the stack's own"),
        (&json!([one("one", 70, json!([{"dst": "a.test", "prot": "ssh"}]))]), "containers.yaml: "),
    ] {
        let said = stack.ends(2, &["apply", &listed(stack.folder.path(), list)?])?;
        same(&format!("{told} in {said}"), said.contains(told), true)?;
    }
    same("the plan", fs::read(stack.at("plan.json"))?, before)?;
    same("rules", rules()?, first.map(str::to_owned).to_vec())?;
    // A destination keeps its port, and one that is gone leaves it to nobody.
    let next = json!([one("two", 71, json!([ssh("z.test"), ssh("a.test")]))]);
    stack.ends(0, &["apply", &listed(stack.folder.path(), &next)?])?;
    let kept = "- {\"dst\":\"z.test\",\"proto\":\"ssh\",\"listener\":16001}\n- {\"dst\":\"a.test\",\"proto\":\"ssh\",\"listener\":16002}\n";
    same("rules that are left", rules()?, vec![kept.to_owned()])
}

/// What Docker says otherwise of a container is refused; of one that runs, both commands are whole.
fn asked_docker(stack: &Stack) -> Result<(), Failed> {
    let (network, address) = (format!("{}-agents", stack.name), format!("198.18.{}.72", stack.number));
    let run = ["run", "--detach", "--rm", "--network", &network, "--ip", &address];
    let run =
        [&run[..], &["--label", "dev.clawker.agent=it's", "clawker/agent:local", "sleep", "600"]].concat();
    let id = ended(0, docker(&run)?)?.trim().to_owned();
    let apply = |container_id: &str, agent: &str, address: u8| -> Result<(Option<i32>, String), Failed> {
        let address = format!("198.18.{}.{address}", stack.number);
        let list = json!([{"container_id": container_id, "agent": agent, "project": "", "addresses": [address], "rules": []}]);
        let output = stack.run(&["apply", &listed(stack.folder.path(), &list)?])?;
        let told = [&output.stdout[..], &output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&told).into_owned()))
    };
    let short = id.get(..12).unwrap_or_default();
    let told = [
        (apply(short, "it's", 72)?, 2, format!("{short} is the container {id}: list it by that")),
        (
            apply(&id, "its", 72)?,
            2,
            "has the label dev.clawker.agent=\"it's\", and is listed with \"its\"".to_owned(),
        ),
        (
            apply(&id, "it's", 73)?,
            2,
            format!("the container {id} has {address}, and is listed with the address "),
        ),
        (apply(&id, "it's", 72)?, 0, format!("/{id}.yaml --cgroup-id ")),
    ];
    ended(0, docker(&["kill", &id])?)?;
    for ((code, said), expected, words) in told {
        same(&said, (code, said.contains(&words)), (Some(expected), true))?;
    }
    Ok(())
}

fn refused() -> Result<Completion, Failed> {
    if let Some(reason) = missing() {
        return Ok(Completion::Ignored { reason: Some(reason) });
    }
    let stack = Stack::new('b')?;
    let folder = stack.at("").display().to_string();
    let said = stack.ends(2, &["status"])?;
    let expected = format!("stack: there is no stack in {folder}: `stack up --dir {folder}` makes one\n");
    same("without a stack", said, expected)?;
    let said = ended(1, stack.up(&["--tag", "nobody-has"])?)?;
    let expected = "stack: there is no image clawker/opensearch:nobody-has: `ci/images opensearch` makes it, or pull one and tag it so\n";
    same("without images", said.as_str(), expected)?;
    // A service that ends at once is named, with what it said.
    let tag = format!("ends-{}", id());
    for name in IMAGES {
        ended(0, docker(&["tag", "clawker/coredns:local", &format!("clawker/{name}:{tag}")])?)?;
    }
    let said = stack.up(&["--tag", &tag])?;
    for name in IMAGES {
        ended(0, docker(&["rmi", &format!("clawker/{name}:{tag}")])?)?;
    }
    let said = ended(1, said)?;
    for part in [format!("stack: the container {}-opensearch ", stack.name), "said last:\n".to_owned()] {
        same(&format!("{part} in {said}"), said.contains(&part), true)?;
    }
    // The networks are there by now, and others are asked for.
    let said = stack.ends(2, &["up", "--plane", "198.18.0.0/15"])?;
    same(&said, said.contains("overlap: agents must not reach the rest"), true)?;
    for (dst, what) in [
        ("127.0.0.1".to_owned(), "a loopback address"),
        ("169.254.169.254".to_owned(), "a link-local address"),
        (format!("198.18.{}.138", stack.number), "in a network of the stack itself"),
    ] {
        let container = json!({
            "container_id": "one", "agent": "scout", "project": "demo",
            "addresses": [format!("198.18.{}.70", stack.number)],
            "rules": [{"dst": dst, "proto": "tcp", "port": 9200}],
        });
        let said = stack.ends(2, &["apply", &listed(stack.folder.path(), &json!([container]))?])?;
        let expected =
            format!("a rule names {dst} port 9200, which is {what}: the proxy connects there for nobody");
        same(&said, said.contains(&expected), true)?;
    }
    Ok(Completion::Completed)
}
