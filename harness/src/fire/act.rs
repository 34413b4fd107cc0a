//! One action of an agent, from its process's start to its report.

use std::{
    iter,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, SystemTime},
};

use super::FireError;
use crate::{
    actor::{Action, Report, Running, confine::Cgroup, stage::Part},
    far::Call,
    interrupt,
    judge::{Fired, Output},
    scenario::types::{Connect, Exec, Flood, Origin, Place, Step},
    world::{Nested, World},
};

/// How long an agent's process may take beyond what its step asks for.
const GRACE: Duration = Duration::from_secs(10);

/// An action whose process has started. One that holds is at that point.
pub(super) struct Begun {
    running: Running,
    /// The process that makes the socket, where another uses it.
    maker: Option<Running>,
    /// Whether the process holds, and did not end before.
    held: bool,
    // Removed after the processes in it.
    _nested: Option<Nested>,
}

/// Runs one action as an agent. Its process is waited for in this thread: it dies with it.
pub(super) fn act(
    world: &World,
    agent: usize,
    path: &str,
    step: &Step,
    action: &Action,
) -> Result<Fired, FireError> {
    let started = SystemTime::now();
    begin(world, agent, path, step, action)?.finish(world, agent, path, step, action, started)
}

/// Starts the processes of an action, and waits until it holds, if it does.
pub(super) fn begin(
    world: &World,
    agent: usize,
    path: &str,
    step: &Step,
    action: &Action,
) -> Result<Begun, FireError> {
    let failed = |problem: String| FireError::Actor { path: path.to_owned(), problem };
    let nested = (step.cgroup == Place::Nested).then(|| world.nest(agent)).transpose()?;
    let inside = nested.as_ref().map_or(Cgroup::Own, |nested| Cgroup::Within(nested.procs()));
    let spawn = |cgroup, part| {
        world.spawn_part(agent, cgroup, action, part).map_err(|error| failed(error.to_string()))
    };
    let (mut running, maker) = match action.origin() {
        origin if origin.is_passed() => {
            let (maker, user) = UnixStream::pair().map_err(|error| failed(error.to_string()))?;
            let (maker, user) = (OwnedFd::from(maker), OwnedFd::from(user));
            let (making, using) =
                if origin == Origin::Outside { (Cgroup::Outside, inside) } else { (inside, Cgroup::Outside) };
            // In this order, so that the user finds the end of file if the maker had nothing to pass.
            let making = spawn(making, Part::Make(maker.as_raw_fd()))?;
            drop(maker);
            (spawn(using, Part::Use(user.as_raw_fd()))?, Some(making))
        }
        Origin::MovedIn | Origin::ConnectedOutside => (spawn(Cgroup::Outside, Part::Whole)?, None),
        _ => (spawn(inside, Part::Whole)?, None),
    };
    let held = action.holds() && running.held(GRACE);
    Ok(Begun { running, maker, held, _nested: nested })
}

impl Begun {
    /// Does the harness's part, tells the process to go on, and waits for its report.
    pub(super) fn finish(
        mut self,
        world: &World,
        agent: usize,
        path: &str,
        step: &Step,
        action: &Action,
        started: SystemTime,
    ) -> Result<Fired, FireError> {
        let failed = |problem: String| FireError::Actor { path: path.to_owned(), problem };
        let pids =
            [Some(&self.running), self.maker.as_ref()].into_iter().flatten().map(Running::id).collect();
        let mut call = None;
        if self.held {
            match action.origin() {
                Origin::MovedIn | Origin::ConnectedOutside => world.move_in(agent, self.running.id())?,
                Origin::MovedOut => world.move_out(self.running.id())?,
                _ => {}
            }
            if let Action::Accept(accept) = action {
                call = world.call(agent, accept);
            }
            self.running.go();
        }
        let limit = limit(step);
        let mut report: Report = self.running.wait(limit).map_err(|error| failed(error.to_string()))?;
        uninterrupted()?;
        if let Some(maker) = self.maker {
            let made: Report = maker.wait(limit).map_err(|error| failed(error.to_string()))?;
            if made.outcome != "ok" {
                report = made;
            }
        }
        // What became of the far side's call explains an outcome, and is none.
        let failed = report.outcome != "ok";
        if let Some(problem) = call.and_then(|call: Call| call.problem(failed)) {
            report.detail = format!("{}; the far side: {problem}", report.detail);
        }
        let expected = step.outcome.clone().unwrap_or_else(|| default_outcome(step).to_owned());
        let exec = step.exec.clone().unwrap_or_default();
        if step.exec.is_some() {
            // The other end often knows better why a program failed.
            let detail = std::mem::take(&mut report.detail);
            report.detail = iter::once(detail).chain(world.far().said()).collect::<Vec<_>>().join("\n");
        }
        let output = Output { stdout: exec.stdout, stderr: exec.stderr };
        let ended = SystemTime::now();
        Ok(Fired { path: path.to_owned(), agent, pids, report, expected, output, started, ended })
    }
}

/// An error once the run is to end: what was cut short shows nothing.
pub(super) fn uninterrupted() -> Result<(), FireError> {
    interrupt::requested().map_or(Ok(()), |signal| Err(FireError::Interrupted(signal)))
}

/// What a step must end with where the case says nothing.
const fn default_outcome(step: &Step) -> &'static str {
    if step.exec.is_some() { "exit 0" } else { "ok" }
}

/// How long a step may take.
fn limit(step: &Step) -> Duration {
    let connect = step.connect.as_ref().map(|connect| {
        // Connecting, both exchanges and the end each have their own.
        connect.timeout.unwrap_or(Connect::TIMEOUT).saturating_mul(4) + connect.pause.unwrap_or_default()
    });
    let send = step.send.as_ref().map(|send| send.pause.unwrap_or_default().saturating_mul(send.count));
    let exec = step.exec.as_ref().map(|exec| exec.timeout.unwrap_or(Exec::TIMEOUT));
    let flood = step.flood.as_ref().map(Flood::lasts);
    GRACE + connect.or(send).or(exec).or(flood).unwrap_or_default()
}
