//! What an interrupted run leaves: nothing, if it is asked to end; nothing after the next start, if it is
//! killed. And what living runs own stays theirs. Needs root.

mod lab;
#[path = "killed/remains.rs"]
mod remains;

use std::{
    collections::HashSet,
    env, fs,
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use harness::{lab::Lab, owner::Owner, reexec};
use libtest_mimic::{Arguments, Failed};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use remains::{children, remains};

const HARNESS: &str = env!("CARGO_BIN_EXE_harness");
const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios");
/// How often a run is killed.
const KILLS: usize = 20;
/// How long an orderly end may take: the reader's own limit, and more.
const END: Duration = Duration::from_secs(30);

/// A case whose cells are all under way until they are interrupted, so that no other takes their place.
const ENDLESS: &str = r#"name: waits
agent: {agent: scout, project: demo}
rules: [{dst: api.test, proto: https}]
hosts: {api.test: {addr: [198.51.100.7], serve: [{tcp: 443, reply: hold}]}}
matrix: {cell: [1, 2, 3, 4, 5]}
steps:
  - connect: {to: "api.test:443", send: ${cell}, pause: 9m, timeout: 9m}
  - exec: {run: [sleep, "600"], timeout: 9m}
  - wait: 9m
expect: {}
"#;
/// How many of its cells a run is told to have under way at once: the others are not begun.
const JOBS: usize = 3;

fn main() -> ExitCode {
    if let Some(code) = reexec::role() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // A lab's reader dies with the thread that started it, and the kills want the machine's time as it is.
    arguments.test_threads = Some(1);
    type Check = fn() -> Result<(), Failed>;
    let trials: [(&str, Check); 4] = [
        ("killed at 20 random points, it leaves nothing after the next start", killed),
        ("a process id that is used again owns nothing", used_again),
        ("interrupted, it leaves nothing and writes its reports", interrupted),
        ("a second signal ends it at once", twice),
    ];
    let trials = trials.map(|(name, trial)| lab::trial(name, move |_| trial()));
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// A run of its own, killed when dropped.
struct Run {
    child: Child,
    owner: Owner,
}

impl Run {
    fn start(command: &mut Command) -> Result<Self, Failed> {
        let child = command.stdin(Stdio::null()).spawn()?;
        let owner = Owner::of(child.id()).ok_or("it ended at once")?;
        Ok(Self { child, owner })
    }

    fn signal(&self, signal: Signal) -> Result<(), Failed> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    fn end(&mut self) -> Result<ExitStatus, Failed> {
        let deadline = Instant::now() + END;
        wait_for(deadline, "the run to end", || Ok(self.child.try_wait()?))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended, as most do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `look` finds at last.
fn wait_for<T>(
    deadline: Instant,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>, Failed>,
) -> Result<T, Failed> {
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("waited in vain for {what}").into());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn require(condition: bool, what: impl FnOnce() -> String) -> Result<(), Failed> {
    if condition { Ok(()) } else { Err(what().into()) }
}

fn run(paths: &[&Path]) -> Command {
    let mut command = Command::new(HARNESS);
    command.arg("run").args(paths).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The next start of the harness, and its end.
fn next_start() -> Result<(), Failed> {
    drop(Lab::start(None).map_err(|error| format!("the next start failed: {error:#}"))?);
    Ok(())
}

fn killed() -> Result<(), Failed> {
    let seed = env::var("KILL_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let seed = seed.unwrap_or_else(now);
    eprintln!("seed {seed}; KILL_SEED={seed} kills at the same points");
    let mut random = fastrand::Rng::with_seed(seed);

    let mut bystander = Bystander::start()?;
    let scenarios = Path::new(SCENARIOS);
    let files = ["sendmsg/denied.yaml", "lifecycle/killed.yaml", "tools/nc.yaml"];
    let files = files.map(|file| scenarios.join(file));
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let began = Instant::now();
    let mut whole = Run::start(&mut run(&paths))?;
    require(whole.end()?.success(), || "the run does not pass even if it is left alone".to_owned())?;
    let length = began.elapsed();
    require(remains(whole.owner)?.is_empty(), || format!("left by itself: {:?}", remains(whole.owner)))?;

    let (mut found, mut points) = (0, Vec::new());
    for _ in 0..KILLS {
        let point = length.mul_f64(random.f64());
        let mut run = Run::start(&mut run(&paths))?;
        thread::sleep(point);
        let descendants = children(run.owner.pid)?;
        run.signal(Signal::SIGKILL)?;
        let status = run.end()?;
        points.push(point.as_millis());
        require(status.success() || status.signal() == Some(9), || format!("it ended with {status}"))?;
        let left = remains(run.owner)?;
        found += usize::from(!left.is_empty());
        next_start()?;
        let left = remains(run.owner)?;
        require(left.is_empty(), || format!("killed after {point:?}, left after the next start: {left:#?}"))?;
        for process in descendants {
            require(process.is_dead(), || {
                format!("process {process} outlived the run killed after {point:?}")
            })?;
        }
        bystander.check()?;
    }
    eprintln!(
        "a run takes {length:?}; {found} of {KILLS} kills left something to sweep; killed after {points:?} ms"
    );
    require(found > KILLS / 4, || format!("only {found} kills hit anything; the kills prove too little"))?;
    bystander.end()
}

/// A run of somebody else, whose world is up all the while.
struct Bystander {
    run: Run,
    owns: Vec<String>,
}

impl Bystander {
    fn start() -> Result<Self, Failed> {
        let file = Path::new(SCENARIOS).join("sendmsg/allowed.yaml");
        let mut command = run(&[&file]);
        let mut run = Run::start(command.arg("--keep").stderr(Stdio::piped()))?;
        let mut lines = BufReader::new(run.child.stderr.take().ok_or("no standard error")?).lines();
        require(lines.any(|line| line.is_ok_and(|line| line.contains("harness shell"))), || {
            "no world was kept".to_owned()
        })?;
        // Whoever has nothing to read from it would end it.
        thread::spawn(move || lines.for_each(drop));
        let owns = remains(run.owner)?;
        require(owns.len() > 5, || format!("a kept world is more than {owns:?}"))?;
        Ok(Self { run, owns })
    }

    fn check(&mut self) -> Result<(), Failed> {
        require(self.run.child.try_wait()?.is_none(), || "the living run was ended".to_owned())?;
        let owns = remains(self.run.owner)?;
        require(owns == self.owns, || format!("a living run had {:#?} and now has {owns:#?}", self.owns))
    }

    /// The usual end of a run that keeps its worlds: it passes.
    fn end(mut self) -> Result<(), Failed> {
        self.run.signal(Signal::SIGINT)?;
        let status = self.run.end()?;
        require(status.success(), || format!("the living run ended with {status}"))?;
        let left = remains(self.run.owner)?;
        require(left.is_empty(), || format!("the living run left {left:#?}"))
    }
}

fn used_again() -> Result<(), Failed> {
    let me = Owner::current();
    let before = Owner { start: me.start - 1, ..me };
    let cgroups = fs::read_to_string("/proc/self/mounts")?
        .lines()
        .find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let point = fields.next()?;
            (fields.next()? == "cgroup2").then(|| PathBuf::from(point))
        })
        .ok_or("no cgroup2")?;
    let places = |owner: Owner| {
        [
            cgroups.join(format!("clawker-lab/{owner}/w0-0/below")),
            PathBuf::from(format!("/sys/fs/bpf/clawker-lab-{owner}/links")),
            env::temp_dir().join(format!("clawker-lab-{owner}-abc/spool")),
            PathBuf::from(format!("/run/clawker-lab/{owner}/w0-0")),
        ]
    };
    for place in places(before).iter().chain(&places(me)) {
        fs::create_dir_all(place)?;
    }
    fs::create_dir_all("/run/netns")?;
    fs::write(format!("/run/netns/clw-{before}-w0-0"), "")?;
    fs::write(format!("/run/netns/clw-{me}-w0-0"), "")?;
    let mut member = Command::new("sleep").arg("600").spawn()?;
    fs::write(places(before)[0].join("cgroup.procs"), member.id().to_string())?;
    // Our own pins are in the way of a lab of our own.
    fs::remove_dir(&places(me)[1])?;
    fs::remove_dir(places(me)[1].parent().ok_or("a root")?)?;

    next_start()?;
    let ended = member.wait()?;
    let (swept, ours) = (remains(before)?, remains(me)?);
    fs::remove_file(format!("/run/netns/clw-{me}-w0-0"))?;
    fs::remove_dir_all(env::temp_dir().join(format!("clawker-lab-{me}-abc")))?;
    fs::remove_dir_all(format!("/run/clawker-lab/{me}"))?;
    for place in places(me)[0].ancestors().take(3) {
        fs::remove_dir(place)?;
    }
    require(ended.signal() == Some(9), || format!("the process of a dead run ended with {ended}"))?;
    require(swept.is_empty(), || format!("left of a dead run: {swept:#?}"))?;
    require(ours.len() == 4, || format!("of what this very process owns, only {ours:#?} is left"))
}

/// How many cells have a process in their own cgroup, and so are under way: a child that is about to become
/// one is not, nor is one that looks something up for the run.
fn under_way(processes: &[Owner]) -> usize {
    let cgroup = |process: &Owner| fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).ok();
    let worlds: HashSet<String> =
        processes.iter().filter_map(cgroup).filter(|line| line.contains("/w")).collect();
    worlds.len()
}

fn interrupted() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let endless = folder.path().join("endless.yaml");
    fs::write(&endless, ENDLESS)?;
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let report = folder.path().join(format!("{code}.json"));
        let mut command = run(&[&endless]);
        let mut run = Run::start(command.arg("--jobs").arg(JOBS.to_string()).arg("--json").arg(&report))?;
        let deadline = Instant::now() + END;
        wait_for(deadline, "the endless cells to begin", || {
            Ok((under_way(&children(run.owner.pid)?) == JOBS).then_some(()))
        })?;
        let descendants = children(run.owner.pid)?;
        let began = Instant::now();
        run.signal(signal)?;
        let status = run.end()?;
        require(status.code() == Some(code), || format!("{signal}: it ended with {status}, not {code}"))?;
        eprintln!("{signal}: ended after {:?}", began.elapsed());
        let left = remains(run.owner)?;
        require(left.is_empty(), || format!("{signal}: left behind: {left:#?}"))?;
        for process in descendants {
            require(process.is_dead(), || format!("{signal}: process {process} is left"))?;
        }
        let report: serde_json::Value = serde_json::from_slice(&fs::read(&report)?)?;
        let cells = report["cells"].as_array().ok_or("no cells in the report")?;
        let of = |reason: &str| cells.iter().filter(|cell| cell["reason"] == reason).count();
        let interrupted = of(&format!("interrupted by {signal}"));
        let not_begun = of("not begun when the run was interrupted");
        require((interrupted, not_begun, cells.len()) == (JOBS, 5 - JOBS, 5), || {
            let told: Vec<_> = cells.iter().map(|cell| (&cell["name"], &cell["reason"])).collect();
            format!("{signal}: {told:#?}")
        })?;
        let failed = cells.iter().filter(|cell| cell["result"] == "fail").count();
        require(failed == 0, || format!("{signal}: {failed} cells fail because they were interrupted"))?;
    }
    Ok(())
}

fn twice() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let endless = folder.path().join("endless.yaml");
    fs::write(&endless, ENDLESS)?;
    let mut command = run(&[&endless]);
    let mut run = Run::start(command.arg("--jobs").arg(JOBS.to_string()))?;
    let deadline = Instant::now() + END;
    let reader = wait_for(deadline, "the reader and the cells", || {
        let descendants = children(run.owner.pid)?;
        let is_reader = |process: &&Owner| {
            fs::read(format!("/proc/{}/cmdline", process.pid))
                .is_ok_and(|line| line.windows(8).any(|word| word == b"__reader"))
        };
        Ok(descendants.iter().find(is_reader).copied().filter(|_| under_way(&descendants) >= JOBS))
    })?;
    // It would hold the orderly end up for as long as a stuck reader may.
    kill(Pid::from_raw(i32::try_from(reader.pid)?), Signal::SIGSTOP)?;
    let began = Instant::now();
    run.signal(Signal::SIGTERM)?;
    // The cells' processes are gone: the first signal has been heeded.
    wait_for(deadline, "the cells to end", || Ok((children(run.owner.pid)?.len() <= 1).then_some(())))?;
    let ended = run.child.try_wait()?;
    require(ended.is_none(), || {
        format!("it did not wait for its reader: {ended:?} after {:?}", began.elapsed())
    })?;
    run.signal(Signal::SIGINT)?;
    let status = run.end()?;
    require(status.code() == Some(130), || format!("it ended with {status}"))?;
    require(began.elapsed() < Duration::from_secs(8), || format!("it took {:?}", began.elapsed()))?;
    next_start()?;
    let left = remains(run.owner)?;
    require(left.is_empty() && reader.is_dead(), || format!("left after the next start: {left:#?}"))
}
