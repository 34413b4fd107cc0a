//! Who is under test.

use super::Check;
use crate::scenario::{cell::printable, nearest};

/// Linux's capabilities, without `cap_`.
pub(crate) const CAPABILITIES: &[&str] = &[
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Networks of 4 addresses in the world's own range.
const MOST_AGENTS: usize = 64;

pub(super) fn check(check: &mut Check<'_>) {
    let scenario = check.scenario;
    match (&scenario.agent, scenario.agents.as_slice()) {
        (Some(_), [_, ..]) => {
            check.fault_of_key("agents", "`agent` and `agents` exclude each other").help =
                Some("put every agent into `agents`".to_owned());
        }
        (None, []) => {
            check.fault("name", "this scenario has no agent").help =
                Some("add `agent: {agent: scout, project: demo}`".to_owned());
        }
        _ => {}
    }
    if scenario.agents.len() > MOST_AGENTS {
        check.fault_of_key("agents", format!("a world has room for {MOST_AGENTS} agents"));
    }
    let single = scenario.agent.iter().map(|agent| ("agent".to_owned(), agent));
    let several = scenario.agents.iter().enumerate().map(|(i, agent)| (format!("agents[{i}]"), agent));
    let mut seen = Vec::new();
    for (path, agent) in single.chain(several) {
        if seen.contains(&&agent.agent) {
            check.fault(
                &format!("{path}.agent"),
                "two agents have the same label, so `by` cannot tell them apart",
            );
        }
        seen.push(&agent.agent);
        for (label, text) in [("agent", &agent.agent), ("project", &agent.project)] {
            if text.contains('\0') {
                check.fault(&format!("{path}.{label}"), "a label cannot hold a NUL: no runtime accepts it");
            }
        }
        // To setuid, it means "leave it as it is": the agent would be root.
        if agent.uid == Some(u32::MAX) {
            check.fault(&format!("{path}.uid"), "this number is no user: it is the kernel's -1");
        }
        for (i, cap) in agent.caps.iter().enumerate() {
            if !CAPABILITIES.contains(&cap.as_str()) {
                let message = format!("`{}` is not a capability", printable(cap));
                let bare = cap.to_lowercase();
                let bare = bare.strip_prefix("cap_").unwrap_or(&bare).to_owned();
                let meant = CAPABILITIES
                    .iter()
                    .copied()
                    .find(|name| *name == bare)
                    .or_else(|| nearest(&bare, CAPABILITIES.iter().copied()));
                let help = match meant {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => "write it in lower case and without `cap_`, as in `net_raw`".to_owned(),
                };
                check.fault(&format!("{path}.caps[{i}]"), message).help = Some(help);
            }
        }
    }
}
