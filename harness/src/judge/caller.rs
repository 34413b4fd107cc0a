//! The process that a document names made the call: known where the harness itself started all that did.

use std::{fs, os::unix::fs::MetadataExt as _};

use abi::Reason;

use super::evidence::{Evidence, describe, number, text};
use crate::event::{Class, Failure};

/// Inode of the first process namespace (`PROC_PID_INIT_INO`). The kernel tells processes by their numbers in it.
const FIRST_NAMESPACE: u64 = 0xefff_fffc;

/// Judges agents whose every step is a process of the harness's; a program may have had others do its calls.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    if !fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == FIRST_NAMESPACE) {
        return Vec::new();
    }
    let mut failures = Vec::new();
    for (agent, own) in evidence.agents.iter().enumerate() {
        let fired = || evidence.fired.iter().filter(|fired| fired.agent == agent);
        let program = |path: &str| evidence.cell.step(path).is_none_or(|step| step.exec.is_some());
        if fired().any(|fired| program(&fired.path)) {
            continue;
        }
        let pids: Vec<u32> = fired().flat_map(|fired| fired.pids.iter().copied()).collect();
        let stranger = evidence.documents.iter().find(|document| {
            // Who will accept a connection is not known when it begins, nor who made what is older than the hooks.
            let pid = number(document, "pid");
            number(document, "cgroup_id") == own.cgroup_id
                // What is counted by hook alone is of many.
                && text(document, "reason") != Reason::Various.as_str()
                && (pid != 0 || matches!(text(document, "hook"), "connect" | "sendmsg" | "sock_create"))
                && !pids.iter().any(|known| u64::from(*known) == pid)
        });
        if let Some(document) = stranger {
            let message =
                format!("no process of agent {:?} has the document's pid: {}", own.agent, describe(document));
            let detail = format!("pid {}; its processes: {pids:?}", number(document, "pid"));
            failures.push(evidence.failure(Class::MisRecord, "steps", message, detail));
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    #[test]
    fn a_pid_is_one_of_the_agents_processes() {
        let cell = sample::cell();
        let mut evidence = sample::evidence(&cell);
        evidence.documents = vec![sample::document()];
        evidence.fired[0].pids = vec![41, 42];
        for (pid, failures) in [(42, 0), (43, 1), (0, 1)] {
            evidence.documents[0]["attributes"]["pid"] = pid.into();
            assert_eq!(judge(&evidence).len(), failures, "{pid}");
        }
        evidence.documents[0]["attributes"]["hook"] = "egress".into();
        assert!(judge(&evidence).is_empty(), "nobody is known to have made it");
    }
}
