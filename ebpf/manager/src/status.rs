//! What is enrolled, and how each container stands.

use std::time::Duration;

use abi::Enrolment;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

use crate::{
    Manager,
    attach::Program,
    daemon::{Daemon, ViewState},
    error::Result,
    resolver::ResolverAddresses,
    retired::Totals,
};

/// One container.
#[derive(Clone, Debug, Serialize)]
pub struct ContainerStatus {
    /// Who it is.
    #[serde(flatten)]
    pub enrolment: Enrolment,
    /// Programs attached to it, and how many there should be; none of them once its cgroup is gone.
    pub attached: (usize, usize),
    /// How its resolver view stands.
    pub resolver: ViewState,
    /// Where its DNS goes, and where the view listens.
    pub dns: Option<ResolverAddresses>,
    /// Questions that its view answered SERVFAIL because too many were under way at once, since the daemon serves it.
    pub questions_put_off: u64,
    /// Answers that its view left addresses out of because no name leads to them, since the daemon serves it.
    pub answers_withheld: u64,
    /// What its bypass has left.
    pub bypass_left_ms: Option<u64>,
    /// Attempts denied.
    pub denied: u64,
    /// Flows let through.
    pub opened: u64,
    /// Flows not ended.
    pub open: u64,
    /// Records that reached the ring.
    pub submitted: u64,
    /// Denied attempts that were counted together instead of recorded one by one.
    pub folded: u64,
}

/// Everything `ebpf-manager status` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Where the programs are pinned.
    pub pin_dir: String,
    /// Process of `ebpf-manager run`; none while it is not running: nothing is swept, and no view answers.
    pub daemon_pid: Option<u32>,
    /// Live containers, and retired ones of which something is still under way.
    pub containers: Vec<ContainerStatus>,
    /// The sum of all others that were retired.
    pub retired: Retired,
    /// Attempts that had no identity.
    pub unowned: u64,
}

/// Containers that were retired, and of which nothing is under way.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Retired {
    /// How many.
    pub containers: u64,
    /// Their counters.
    #[serde(flatten)]
    pub totals: Totals,
}

impl Manager {
    /// How everything stands.
    ///
    /// # Errors
    /// If nothing is loaded, or a map or state file cannot be read.
    pub fn status(&self) -> Result<Status> {
        self.pins.check()?;
        let daemon = self.daemon()?;
        let mut containers = Vec::new();
        let gone = self.gone()?;
        let mut retired = Retired { containers: gone.containers, totals: gone.totals };
        for enrolment in self.enrolments()? {
            let cgroup_id = enrolment.cgroup_id;
            let ledger = self.totals(cgroup_id)?;
            if enrolment.retired_ns.is_some() && self.is_cleared(cgroup_id)? {
                retired.containers = retired.containers.saturating_add(1);
                retired.totals.add(ledger);
                continue;
            }
            let counted = |of: fn(&Daemon, u64) -> Option<u64>| {
                daemon.as_ref().and_then(|daemon| of(daemon, cgroup_id)).unwrap_or_default()
            };
            let dns = self.view(cgroup_id)?.and_then(|view| view.resolver);
            containers.push(ContainerStatus {
                attached: (self.attached(cgroup_id)?, Program::ALL.len()),
                resolver: dns.map_or(ViewState::None, |_| view_state(cgroup_id, daemon.as_ref())),
                dns,
                questions_put_off: counted(|daemon, id| daemon.put_off.get(&id).copied()),
                answers_withheld: counted(|daemon, id| daemon.withheld.get(&id).copied()),
                bypass_left_ms: self
                    .bypass_left(cgroup_id)?
                    .map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
                denied: ledger.denied,
                opened: ledger.opened,
                open: ledger.opened.saturating_sub(ledger.closed),
                submitted: ledger.submitted,
                folded: ledger.folded,
                enrolment,
            });
        }
        let unowned = self.totals(0)?;
        Ok(Status {
            pin_dir: self.pins.dir().display().to_string(),
            daemon_pid: daemon.map(|daemon| daemon.pid),
            containers,
            retired,
            unowned: unowned.denied.saturating_add(unowned.opened),
        })
    }
}

/// How the view of a container that has one stands.
fn view_state(cgroup_id: u64, daemon: Option<&Daemon>) -> ViewState {
    let Some(daemon) = daemon else { return ViewState::DaemonNotRunning };
    daemon.views.get(&cgroup_id).cloned().unwrap_or(ViewState::Starting)
}

/// A label as a terminal may have it. Labels are whatever someone wrote: escaped, never codes that move the
/// cursor or turn the writing around, and no longer than a column. `status --json` has them as they are.
pub(crate) fn shown(label: &str) -> String {
    const COLUMN: usize = 48;
    let mut escaped = label.chars().flat_map(char::escape_debug);
    let mut text: String = escaped.by_ref().take(COLUMN).collect();
    if escaped.next().is_some() {
        text.push('…');
    }
    text
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
            "resolver",
            "dns",
            "bypass",
            "denied",
            "opened",
            "open",
            "folded",
        ]);
        for container in &self.containers {
            let enrolment = &container.enrolment;
            let programs = match enrolment.retired_ns {
                Some(_) => "retired".to_owned(),
                None if container.attached.0 == 0 => "none".to_owned(),
                None => format!("{}/{}", container.attached.0, container.attached.1),
            };
            let bypass = container
                .bypass_left_ms
                .map_or_else(|| "off".to_owned(), |left| format!("{:?} left", Duration::from_millis(left)));
            table.add_row([
                shown(&enrolment.agent),
                shown(&enrolment.project),
                shown(&enrolment.container_id),
                enrolment.cgroup_id.to_string(),
                programs,
                container.resolver.to_string(),
                container.dns.as_ref().map(ToString::to_string).unwrap_or_default(),
                bypass,
                container.denied.to_string(),
                container.opened.to_string(),
                container.open.to_string(),
                container.folded.to_string(),
            ]);
        }
        writeln!(f, "pinned at {}", self.pin_dir)?;
        match self.daemon_pid {
            Some(pid) => writeln!(f, "`ebpf-manager run` is process {pid}")?,
            None => writeln!(
                f,
                "`ebpf-manager run` is not running: nothing is swept, and no resolver view answers"
            )?,
        }
        writeln!(f, "{table}")?;
        for container in &self.containers {
            let Enrolment { cgroup_id, retired_ns, .. } = container.enrolment;
            if container.attached.0 == 0 && retired_ns.is_none() {
                writeln!(
                    f,
                    "{cgroup_id} is attached to nothing: its cgroup is gone; `retire {cgroup_id}` it"
                )?;
            }
            if container.questions_put_off > 0 {
                writeln!(
                    f,
                    "resolver view of {cgroup_id}: {} questions answered SERVFAIL, for more were under way than it asks at once",
                    container.questions_put_off
                )?;
            }
            if container.answers_withheld > 0 {
                writeln!(
                    f,
                    "resolver view of {cgroup_id}: {} answers had addresses where no name leads, which were left out (docs/firewall.md)",
                    container.answers_withheld
                )?;
            }
            if let ViewState::Failed { cause } = &container.resolver {
                writeln!(f, "resolver view of {}: {cause}", container.enrolment.cgroup_id)?;
            }
        }
        let Retired { containers, totals } = self.retired;
        if containers > 0 {
            writeln!(
                f,
                "retired: {containers} containers, {} denied, {} opened, {} folded",
                totals.denied, totals.opened, totals.folded
            )?;
        }
        write!(f, "attempts without an identity: {}", self.unowned)
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn labels_are_shown_escaped_and_cut() {
        assert_eq!(shown("scout"), "scout");
        assert_eq!(shown("two\nlines \u{1b}[31m \"\0"), "two\\nlines \\u{1b}[31m \\\"\\0");
        assert_eq!(
            shown("a\u{202e}b e\u{301}"),
            "a\\u{202e}b e\\u{301}",
            "neither turned around nor combined"
        );
        assert_eq!(shown("猫 <b>${x}</b> ../"), "猫 <b>${x}</b> ../");
        let long = shown(&"x".repeat(4096));
        assert_eq!((long.chars().count(), long.ends_with('…')), (49, true));
    }
}
