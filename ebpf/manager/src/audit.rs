//! The ledger, hop by hop and container by container: what each stage was handed, what it handed on, and whether
//! the two agree. Reads maps, files of the reader's spool, and an export of the document store; changes nothing, and
//! needs neither the daemon nor the reader to run. [`chain`] has the equations.

pub mod chain;
mod documents;
mod kernel;
mod ring;
mod show;
mod spool;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use abi::{
    Enrolment,
    spool::counts::{OTHERS, UNKNOWN},
};
use serde::Serialize;

use crate::{Manager, error::Result};
pub use chain::{Counts, Hop, Interval};

/// How long what is on its way across a hop has to arrive before it is said to be missing.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between readings that do not close.
const AGAIN: Duration = Duration::from_millis(50);

/// What is to be audited.
#[derive(Clone, Debug)]
pub struct AuditRequest {
    /// Folder of the reader's spool.
    pub spool_dir: PathBuf,
    /// Documents of the store, as JSON, one a line; without them the last hop is not asked.
    pub documents: Option<PathBuf>,
}

/// Everything `ebpf-manager audit` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// Whether nothing is missing anywhere.
    pub closed: bool,
    /// Lines of the export that are no documents of this spool; none if the store was not asked.
    pub foreign_documents: Option<u64>,
    /// Every container, and what belongs to none.
    pub containers: Vec<Account>,
    /// All of them together.
    pub sum: Account,
}

/// One container's ledger, or that of several.
#[derive(Clone, Debug, Serialize)]
pub struct Account {
    /// Whose.
    #[serde(flatten)]
    pub owner: Owner,
    /// Whether nothing is missing at any hop.
    pub closed: bool,
    /// Counters, as of the middle reading.
    pub counts: Counts,
    /// What is missing, by hop; hops that were not asked are left out.
    pub residuals: BTreeMap<Hop, Interval>,
}

/// Whose an [`Account`] is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Owner {
    /// One container.
    Container {
        /// Inode number of its cgroup.
        cgroup_id: u64,
        /// The runtime's identifier; empty if it was retired long ago.
        container_id: String,
        /// Raw label `dev.clawker.agent`.
        agent: String,
        /// Raw label `dev.clawker.project`.
        project: String,
        /// Whether it is enrolled no more.
        retired: bool,
    },
    /// What had no identity.
    Nobody,
    /// Containers that one of the stages does not tell apart any more.
    Others,
    /// All.
    All,
}

/// Counters by cgroup id.
type Readings = BTreeMap<u64, Counts>;

/// One reading of everything.
#[derive(Default)]
struct Reading {
    counts: Readings,
    /// Containers that the kernel side tells apart.
    known: BTreeSet<u64>,
    /// Containers that the spool tells apart.
    in_spool: BTreeSet<u64>,
    foreign: Option<u64>,
}

impl Manager {
    /// Audits the ledger. What does not close is read again for twice two seconds, which is longer than anything is on
    /// its way between two stages.
    ///
    /// # Errors
    /// If nothing is loaded, or a map or a file cannot be read.
    pub fn audit(&self, request: &AuditRequest) -> Result<Audit> {
        self.pins.check()?;
        // Twice: where a container's counters moved to its file meanwhile, a first reading is of what is not there any
        // more, and a second one has them whole.
        let audit = self.audit_round(request)?;
        if audit.closed { Ok(audit) } else { self.audit_round(request) }
    }

    fn audit_round(&self, request: &AuditRequest) -> Result<Audit> {
        let began = Instant::now();
        let first = self.reading(request)?;
        let mut then = self.reading(request)?;
        loop {
            let last = self.reading(request)?;
            let audit = Audit::of([&first, &then, &last], &self.enrolments()?);
            if audit.closed || began.elapsed() >= PATIENCE {
                return Ok(audit);
            }
            then = last;
            thread::sleep(AGAIN);
        }
    }

    /// Reads every stage once. The order makes one sum of what two stages say: what the ring holds is what lies
    /// beyond the spool's last word of it, and what is folded is compared with what was told of it later.
    fn reading(&self, request: &AuditRequest) -> Result<Reading> {
        let ring = ring::Ring::open(&self.pins)?;
        let consumed = ring.consumed();
        let mut reading = Reading::default();
        let folds = self.read_kernel(&mut reading)?;
        let spool = spool::read(&request.spool_dir, ring.id, &mut reading.counts)?;
        folds.add_undocumented(&spool.folds, &mut reading.counts);
        for record in ring.records(consumed.max(ring::item_after(spool.accounted))) {
            let row = reading.counts.entry(record.flow.cgroup_id).or_default();
            row.in_ring = row.in_ring.saturating_add(record.event_count);
        }
        self.read_flows(&mut reading.counts)?;
        if let Some(path) = &request.documents {
            reading.foreign = Some(documents::read(path, &spool.nonces, &mut reading.counts)?);
        }
        reading.in_spool.extend(spool.rows);
        Ok(reading)
    }
}

impl Reading {
    /// The same counters, with all containers that are not told apart as one.
    fn grouped(&self, apart: &BTreeSet<u64>) -> Readings {
        let mut grouped = Readings::new();
        for (cgroup_id, counts) in &self.counts {
            let key = if apart.contains(cgroup_id) { *cgroup_id } else { OTHERS };
            grouped.entry(key).or_default().add(counts);
        }
        grouped
    }

    fn apart(&self) -> BTreeSet<u64> {
        let all_in_spool = !self.in_spool.contains(&OTHERS);
        let in_spool = |id: &u64| all_in_spool || self.in_spool.contains(id);
        self.known.iter().copied().filter(in_spool).chain([UNKNOWN]).collect()
    }
}

impl Audit {
    fn of(readings: [&Reading; 3], enrolments: &[Enrolment]) -> Self {
        let [.., last] = readings;
        let apart = last.apart();
        let grouped = readings.map(|reading| reading.grouped(&apart));
        let sums = grouped.each_ref().map(|rows| {
            let mut sum = Counts::default();
            rows.values().for_each(|counts| sum.add(counts));
            sum
        });
        let hops: Vec<Hop> =
            Hop::ALL.into_iter().filter(|hop| *hop != Hop::Store || last.foreign.is_some()).collect();
        let [_, then, _] = &sums;
        let mut accounts = Vec::new();
        for key in apart.iter().chain([&OTHERS]) {
            let counts = grouped.each_ref().map(|rows| rows.get(key).copied().unwrap_or_default());
            let is_container = *key != UNKNOWN && *key != OTHERS;
            if !is_container && counts == [Counts::default(); 3] {
                continue;
            }
            let residuals = hops.iter().map(|hop| {
                let unattributed = hop.sides(then).unattributed.1;
                (*hop, Interval::of_container(*hop, counts.each_ref(), unattributed))
            });
            let [_, counts, _] = counts;
            accounts.push(Account::new(owner(*key, enrolments), counts, residuals.collect()));
        }
        let residuals = hops.iter().map(|hop| (*hop, Interval::of_all(*hop, sums.each_ref())));
        let sum = Account::new(Owner::All, *then, residuals.collect());
        Self {
            closed: sum.closed && accounts.iter().all(|account| account.closed),
            foreign_documents: last.foreign,
            containers: accounts,
            sum,
        }
    }
}

impl Account {
    fn new(owner: Owner, counts: Counts, residuals: BTreeMap<Hop, Interval>) -> Self {
        Self { owner, closed: residuals.values().all(|residual| residual.is_closed()), counts, residuals }
    }
}

fn owner(cgroup_id: u64, enrolments: &[Enrolment]) -> Owner {
    match cgroup_id {
        UNKNOWN => return Owner::Nobody,
        OTHERS => return Owner::Others,
        _ => {}
    }
    let enrolment = enrolments.iter().find(|one| one.cgroup_id == cgroup_id);
    Owner::Container {
        cgroup_id,
        container_id: enrolment.map(|one| one.container_id.clone()).unwrap_or_default(),
        agent: enrolment.map(|one| one.agent.clone()).unwrap_or_default(),
        project: enrolment.map(|one| one.project.clone()).unwrap_or_default(),
        retired: enrolment.is_none_or(|one| one.retired_ns.is_some()),
    }
}
