//! `ebpf-manager audit` on the real chain: exactly 0 at rest, whatever the reader went through, and not 0 at the hop
//! where something vanishes, and at no other. Needs root.

mod lab;

use std::{
    collections::BTreeMap,
    fs,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use harness::{
    actor::Action,
    lab::{Fault, Lab},
    reexec,
    scenario::{
        fields::EGRESS_STREAM,
        types::{Agent, Disturbance, Host, Outage, Process, Stopped},
    },
    world::World,
};
use indexmap::IndexMap;
use libtest_mimic::{Arguments, Failed};
use manager::{
    Audit, AuditRequest, EnrolRequest,
    audit::{Counts, Hop, Interval, Owner},
};
use rules::Rule;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Longer than any action here takes.
const LONG: Duration = Duration::from_secs(20);
/// Denied attempts of one burst: many more than get records of their own.
const BURST: u64 = 400;

fn main() -> ExitCode {
    if let Some(code) = reexec::role() {
        return code;
    }
    let trials = vec![
        lab::trial("an audit is exactly 0 at rest", |_| at_rest()),
        lab::trial("an audit finds what waits where it waits", |_| waiting()),
        lab::trial("an audit names the hop where records vanish", |_| swallowed()),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the test's own JSON")
}

/// A lab with one container, and what it is audited by.
struct Audited {
    world: World,
    cgroup_id: u64,
    request: AuditRequest,
    lab: Lab,
}

impl Audited {
    fn start(name: &str, fault: Option<Fault>) -> Result<Self, Failed> {
        let lab = Lab::start(fault)?;
        let hosts: IndexMap<String, Host> = from(json!({
            "api.test": {"addr": ["198.51.100.7"], "serve": [{"tcp": 7, "reply": "sink"}, {"udp": 7, "reply": "sink"}]}
        }));
        let agents: [Agent; 1] = [from(json!({"agent": "scout"}))];
        let world = World::new(name, &hosts, &agents)?;
        let mut request = EnrolRequest::new(&world.agent(0).cgroup, "c1");
        request.agent = "scout".to_owned();
        request.rules = from::<Vec<Rule>>(json!([
            {"dst": "198.51.100.7", "proto": "tcp", "port": 7}, {"dst": "198.51.100.7", "proto": "udp", "port": 7}
        ]));
        request.accept_unobserved = true;
        let cgroup_id = lab.manager.enrol(&request)?.cgroup_id;
        let request = AuditRequest {
            spool_dir: lab.state_dir().join(abi::spool::FOLDER),
            documents: Some(lab.state_dir().join("documents.jsonl")),
        };
        Ok(Self { world, cgroup_id, request, lab })
    }

    fn act(&self, action: Value) -> Result<(), Failed> {
        self.world.spawn_actor(0, &from::<Action>(action))?.wait(LONG)?;
        Ok(())
    }

    /// Flows of each transport, denials, and a burst that is folded.
    fn everything(&self) -> Result<(), Failed> {
        self.act(json!({"connect": {"to": "198.51.100.7:7", "send": 100}}))?;
        self.act(json!({"send": {"to": "198.51.100.7:7", "count": 3}}))?;
        self.act(json!({"connect": {"to": "198.51.100.9:9", "timeout": "500ms"}}))?;
        self.act(json!({"send": {"to": "198.51.100.9:9", "count": BURST}}))
    }

    /// Of the kernel and the spool.
    fn audit(&self) -> Result<Audit, Failed> {
        Ok(self.lab.manager.audit(&AuditRequest { documents: None, ..self.request.clone() })?)
    }

    /// An audit of everything once nothing is on its way: every flow has ended, and nothing waits for a reader or an
    /// answer. An export of the store is as old as its last answer only then.
    fn rested(&self) -> Result<Audit, Failed> {
        let deadline = Instant::now() + LONG;
        loop {
            let audit = self.audit()?;
            let Counts { open, undocumented, in_ring, pending, .. } = audit.sum.counts;
            if [open, undocumented, in_ring, pending] == [0; 4] {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("this does not come to rest:\n{audit}").into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        let documents = self.lab.endpoint.documents(EGRESS_STREAM, |_| true);
        let lines: String = documents.iter().map(|document| format!("{document}\n")).collect();
        fs::write(self.request.documents.as_ref().ok_or("it has an export")?, lines)?;
        Ok(self.lab.manager.audit(&self.request)?)
    }
}

/// The residuals that are not exactly 0.
fn left(residuals: &BTreeMap<Hop, Interval>) -> BTreeMap<Hop, Interval> {
    residuals
        .iter()
        .filter(|(_, one)| **one != Interval { low: 0, high: 0 })
        .map(|(hop, one)| (*hop, *one))
        .collect()
}

fn at_rest() -> Result<(), Failed> {
    let audited = Audited::start("audit-rest", None)?;
    for round in 1..=3 {
        audited.everything()?;
        if round == 2 {
            // While it takes what was folded, or sends it.
            audited
                .lab
                .disturb(Disturbance::Kill(from(json!("reader 5 times in 600ms"))))
                .expect("it is disturbed");
        }
        // Whoever looks changes nothing.
        audited.lab.manager.status()?;
        audited.lab.manager.dump()?;
        // While things move it may only say that they do.
        let moving = audited.audit()?;
        if !moving.closed {
            return Err(format!("nothing is lost, and the audit says:\n{moving}").into());
        }
    }
    let audit = audited.rested()?;
    let counts = audit.sum.counts;
    let residuals: Vec<_> =
        audit.containers.iter().chain([&audit.sum]).map(|one| left(&one.residuals)).collect();
    if !audit.closed || residuals.iter().any(|residuals| !residuals.is_empty()) {
        return Err(format!("{residuals:?} are left:\n{audit}").into());
    }
    let attempts = 3 * (BURST + 3);
    let told = (counts.attempts(), counts.stored, counts.lost());
    if told != (attempts, attempts, 0) || counts.folded == 0 || audit.sum.residuals.len() != Hop::ALL.len() {
        return Err(format!("{attempts} attempts were made, and {told:?} are told:\n{audit}").into());
    }

    // Its counters leave the maps, and the ledger closes as before.
    audited.lab.manager.retire(audited.cgroup_id)?;
    let deadline = Instant::now() + LONG;
    while audited.lab.manager.dump()?.0["ledger"].len() > 1 && Instant::now() < deadline {
        audited.lab.manager.clear_retired()?;
        thread::sleep(Duration::from_millis(50));
    }
    let audit = audited.rested()?;
    let is_retired = |owner: &Owner| matches!(owner, Owner::Container { retired: true, .. });
    let mine = audit.containers.iter().find(|one| is_retired(&one.owner));
    if !audit.closed
        || mine.is_none_or(|one| one.counts.attempts() != attempts || one.counts.folded_in_maps != 0)
    {
        return Err(format!("its counters are in a file, and the audit says:\n{audit}").into());
    }
    Ok(())
}

/// Nothing is missing of what nobody takes, or nobody answers for; and it is the container's own.
fn waiting() -> Result<(), Failed> {
    let audited = Audited::start("audit-waiting", None)?;
    let waits = |audit: &Audit, what: &str, counts: fn(&Counts) -> bool| {
        let exact = audit.containers.iter().all(|one| left(&one.residuals).is_empty());
        let mine = audit.containers.iter().any(|one| counts(&one.counts));
        if audit.closed && exact && mine { Ok(()) } else { Err(Failed::from(format!("{what}:\n{audit}"))) }
    };
    audited
        .lab
        .disturb(Disturbance::Stop(Outage { part: Stopped::Reader, length: LONG }))
        .expect("it is disturbed");
    audited.act(json!({"send": {"to": "198.51.100.9:9", "count": BURST}}))?;
    waits(&audited.audit()?, "the reader is not there", |counts| {
        counts.in_ring > 0 && counts.undocumented > 0 && counts.in_ring + counts.undocumented == BURST
    })?;
    audited
        .lab
        .disturb(Disturbance::Stop(Outage { part: Stopped::Endpoint, length: LONG }))
        .expect("it is disturbed");
    audited.lab.disturb(Disturbance::Restart(Process::Reader)).expect("it is disturbed");
    let deadline = Instant::now() + LONG / 2;
    loop {
        let audit = audited.audit()?;
        let told = waits(&audit, "the endpoint is not there", |counts| counts.pending == BURST);
        if told.is_ok() || Instant::now() > deadline {
            told?;
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    // Somebody keeps copies beside the segment, which no reader reads.
    let segment = audited.request.spool_dir.join("00000000000000000000.segment");
    for copy in ["copy.segment", "00000000000000999999.segment"] {
        fs::copy(&segment, segment.with_file_name(copy))?;
    }
    waits(&audited.audit()?, "there are copies of the segment", |counts| counts.pending == BURST)
}

fn swallowed() -> Result<(), Failed> {
    let audited = Audited::start("audit-swallowed", Some(Fault::RecordSwallowed))?;
    audited.everything()?;
    let audit = audited.rested()?;
    let Some(mine) = audit.containers.iter().find(|one| matches!(one.owner, Owner::Container { .. })) else {
        return Err(format!("the container is missing:\n{audit}").into());
    };
    let missing = i64::try_from(mine.counts.submitted - mine.counts.records)?;
    let expected = BTreeMap::from([(Hop::Ring, Interval { low: missing, high: missing })]);
    if audit.closed || mine.closed || missing == 0 || left(&mine.residuals) != expected {
        return Err(format!("{missing} records were swallowed, and the audit says:\n{audit}").into());
    }
    if !audit.to_string().contains(&format!("residual {missing}")) {
        return Err(format!("the text does not say so:\n{audit}").into());
    }
    Ok(())
}
