//! Enters a world that a run left up, as one of its agents or on its far side.

use std::{
    ffi::OsString,
    io::{self, Read as _},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, bail};
use nix::{
    sched::{CloneFlags, setns},
    unistd,
};

use crate::{
    actor::{ConfineError, confine::Cgroup, spawn::agents_environment, stage::Part},
    report::visible,
    scenario::nearest,
    world::{Entrance, KeptAgent, KeptWorld},
};

/// What names the far side.
const FAR: &str = "far";

/// Becomes `command` in the world, or an interactive shell if that is empty; returns only if that failed.
/// `world` is a world's name, or as much of it as tells it apart; `who` is an agent's label or number, or `far`;
/// nobody is the first agent.
///
/// # Errors
/// If there is no such world or agent, or the kernel refuses.
pub fn enter(world: &str, who: Option<&str>, command: &[OsString]) -> anyhow::Error {
    match become_one(world, who, command) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn become_one(
    world: &str,
    who: Option<&str>,
    command: &[OsString],
) -> anyhow::Result<std::convert::Infallible> {
    let worlds = KeptWorld::all();
    let world = find(&worlds, world)?;
    let shell = [std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())];
    let (program, arguments) = command.split_first().unwrap_or((&shell[0], &[]));
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/");
    let error = if who == Some(FAR) {
        far_side(&mut command, &world.far)?
    } else {
        let agent = agent(world, who)?;
        agents_environment(&mut command, Path::new("/nonexistent"));
        // What an interactive shell needs to know of the terminal, and where it is.
        command.envs(std::env::var_os("TERM").map(|term| ("TERM", term)));
        command.env("PS1", format!("{}@{}$ ", visible(&agent.agent.agent), world.name));
        as_agent(&mut command, agent)?
    };
    Err(error).with_context(|| format!("cannot run {} there", program.to_string_lossy()))
}

/// Returns only if it failed.
fn as_agent(command: &mut Command, agent: &KeptAgent) -> anyhow::Result<io::Error> {
    let confinement = agent.confinement()?;
    let (mut failures, failed_step) = io::pipe()?;
    // SAFETY: the closure makes system calls only, see `Confinement::steps`.
    unsafe { command.pre_exec(confinement.steps(Cgroup::Own, Part::Whole, failed_step.as_raw_fd(), None)) };
    let error = command.exec();
    drop(failed_step);
    let mut step = [0];
    let step = failures.read(&mut step).is_ok_and(|len| len == 1).then(|| ConfineError::from_repr(step[0]));
    match step.flatten() {
        Some(step) => bail!("the agent's place cannot be taken: could not {step}: {error}"),
        None => Ok(error),
    }
}

/// Returns only if it failed. The harness's own user and capabilities stay.
fn far_side(command: &mut Command, far: &Entrance) -> anyhow::Result<io::Error> {
    let (procs, netns) = far.open().context("cannot enter the far side")?;
    unistd::write(&procs, b"0").context("cannot join the far side's cgroup")?;
    setns(&netns, CloneFlags::CLONE_NEWNET).context("cannot enter the far side's namespace")?;
    Ok(command.exec())
}

fn find<'a>(worlds: &'a [KeptWorld], name: &str) -> anyhow::Result<&'a KeptWorld> {
    let ends = |world: &&KeptWorld| world.name == name || world.name.rsplit('/').next() == Some(name);
    let found: Vec<&KeptWorld> = worlds.iter().filter(ends).collect();
    let names = |worlds: &mut dyn Iterator<Item = &KeptWorld>| -> String {
        worlds.map(|world| format!("\n  {}  {}", world.name, visible(&world.cell))).collect()
    };
    match found.as_slice() {
        [world] => Ok(world),
        [] if worlds.is_empty() => bail!("no world is up; `harness run FILE --keep` leaves its worlds up"),
        [] => bail!("no world is called `{}`; up are:{}", visible(name), names(&mut worlds.iter())),
        several => {
            bail!("`{name}` is a world of several runs; say which:{}", names(&mut several.iter().copied()))
        }
    }
}

fn agent<'a>(world: &'a KeptWorld, who: Option<&str>) -> anyhow::Result<&'a KeptAgent> {
    let Some(who) = who else { return world.agents.first().context("the world has no agent") };
    let labels = || world.agents.iter().map(|agent| agent.agent.agent.as_str());
    let position = labels().position(|label| label == who).or_else(|| who.parse().ok());
    position.and_then(|position| world.agents.get(position)).with_context(|| {
        let meant =
            nearest(who, labels()).map_or(String::new(), |l| format!("; did you mean `{}`?", visible(l)));
        let known: Vec<String> = labels().map(|label| visible(label).into_owned()).collect();
        format!(
            "no agent `{}` is in {}, but `{}` and `far`{meant}",
            visible(who),
            world.name,
            known.join("`, `")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::types::Agent;

    fn world(name: &str, labels: &[&str]) -> KeptWorld {
        let far = serde_json::json!({"cgroup": "/c", "netns": "/n"});
        let agents: Vec<_> = labels
            .iter()
            .map(|label| {
                let agent =
                    Agent { agent: (*label).to_owned(), project: String::new(), uid: None, caps: Vec::new() };
                serde_json::json!({"agent": agent, "entrance": far, "files": "/f"})
            })
            .collect();
        serde_json::from_value(
            serde_json::json!({"name": name, "cell": "a cell", "agents": agents, "far": far}),
        )
        .unwrap()
    }

    #[test]
    fn a_world_goes_by_as_much_of_its_name_as_tells_it_apart() {
        let worlds = [world("1_1/w0", &[]), world("1_1/w1", &[]), world("2_2/w0", &[])];
        assert_eq!(find(&worlds, "w1").unwrap().name, "1_1/w1");
        assert_eq!(find(&worlds, "2_2/w0").unwrap().name, "2_2/w0");
        assert!(find(&worlds, "w0").unwrap_err().to_string().contains("\n  2_2/w0  a cell"));
        assert!(find(&worlds, "w9").unwrap_err().to_string().contains("up are:"));
        assert!(find(&[], "w0").unwrap_err().to_string().contains("--keep"));
    }

    #[test]
    fn an_agent_goes_by_its_label_or_its_number() {
        let world = world("1_1/w0", &["scout", "0", "\u{202e}"]);
        let label = |who| agent(&world, who).map(|agent| agent.agent.agent.clone());
        assert_eq!(label(None).unwrap(), "scout");
        assert_eq!(label(Some("scout")).unwrap(), "scout");
        assert_eq!(label(Some("0")).unwrap(), "0", "a label goes before a number");
        assert_eq!(label(Some("2")).unwrap(), "\u{202e}");
        let error = label(Some("scuot")).unwrap_err().to_string();
        assert!(error.contains("did you mean `scout`?") && !error.contains('\u{202e}'), "{error}");
        assert!(label(Some("3")).is_err());
    }
}
