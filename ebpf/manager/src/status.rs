//! What is enrolled, and how each container stands.

use std::{fs, time::Duration};

use abi::{Enrolment, Ledger, LossPoint};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

use crate::{Manager, attach::Program, error::Result};

/// One container.
#[derive(Clone, Debug, Serialize)]
pub struct ContainerStatus {
    /// Who it is.
    #[serde(flatten)]
    pub enrolment: Enrolment,
    /// Programs attached to it, and how many there should be.
    pub attached: (usize, usize),
    /// What its bypass has left.
    pub bypass_left_ms: Option<u64>,
    /// Attempts denied.
    pub denied: u64,
    /// Flows let through.
    pub opened: u64,
    /// Flows not ended.
    pub open: u64,
    /// Attempts whose record reached the ring.
    pub submitted: u64,
    /// Attempts whose record was lost in the kernel.
    pub lost: u64,
}

/// Everything `ebpf-manager status` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Where the programs are pinned.
    pub pin_dir: String,
    /// Live containers, and retired ones whose counters are kept.
    pub containers: Vec<ContainerStatus>,
    /// Attempts that had no identity.
    pub unowned: u64,
}

impl Manager {
    /// How everything stands.
    ///
    /// # Errors
    /// If nothing is loaded, or a map or state file cannot be read.
    pub fn status(&self) -> Result<Status> {
        self.pins.check()?;
        let mut containers = Vec::new();
        for enrolment in self.enrolments()? {
            let cgroup_id = enrolment.cgroup_id;
            let ledger = self.ledger(cgroup_id)?;
            let attached = fs::read_dir(self.pins.links(cgroup_id)).map_or(0, Iterator::count);
            containers.push(ContainerStatus {
                attached: (attached, Program::ALL.len()),
                bypass_left_ms: self
                    .bypass_left(cgroup_id)?
                    .map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
                denied: ledger.denied,
                opened: ledger.opened,
                open: ledger.opened.saturating_sub(ledger.closed),
                submitted: ledger.submitted,
                lost: lost(&ledger),
                enrolment,
            });
        }
        let unowned = self.ledger(0)?;
        Ok(Status {
            pin_dir: self.pins.dir().display().to_string(),
            containers,
            unowned: unowned.denied.saturating_add(unowned.opened),
        })
    }
}

/// Losses at every point of the kernel.
pub(crate) fn lost(ledger: &Ledger) -> u64 {
    LossPoint::ALL.iter().zip(ledger.losses).fold(0, |sum: u64, (_, count)| sum.saturating_add(count))
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        table.set_header([
            "agent",
            "project",
            "container",
            "cgroup",
            "programs",
            "bypass",
            "denied",
            "opened",
            "open",
            "lost",
        ]);
        for container in &self.containers {
            let enrolment = &container.enrolment;
            let programs = match enrolment.retired_ns {
                Some(_) => "retired".to_owned(),
                None => format!("{}/{}", container.attached.0, container.attached.1),
            };
            let bypass = container
                .bypass_left_ms
                .map_or_else(|| "off".to_owned(), |left| format!("{:?} left", Duration::from_millis(left)));
            table.add_row([
                // Labels are whatever someone wrote: shown escaped, never as terminal codes.
                enrolment.agent.escape_debug().to_string(),
                enrolment.project.escape_debug().to_string(),
                enrolment.container_id.escape_debug().to_string(),
                enrolment.cgroup_id.to_string(),
                programs,
                bypass,
                container.denied.to_string(),
                container.opened.to_string(),
                container.open.to_string(),
                container.lost.to_string(),
            ]);
        }
        writeln!(f, "pinned at {}", self.pin_dir)?;
        writeln!(f, "{table}")?;
        write!(f, "attempts without an identity: {}", self.unowned)
    }
}
