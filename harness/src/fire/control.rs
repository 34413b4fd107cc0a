//! The control of every denial: the same trigger in a world that is not enforced.

use super::{
    FireError,
    cell::agents,
    steps::act,
};
use crate::{
    actor::Action,
    judge::{Control, Fired},
    scenario::{
        Cell,
        types::{End, Exec, Step},
    },
    world::World,
};

/// Runs the denied steps again, not enforced. `None` if none was denied.
pub(super) fn control(cell: &Cell, id: &str, fired: &[Fired]) -> Result<Option<Control>, FireError> {
    let denied: Vec<&Fired> = fired.iter().filter(|fired| is_denial(&fired.expected)).collect();
    if denied.is_empty() {
        return Ok(None);
    }
    let world = World::new(&format!("{id}-control"), &cell.scenario.hosts, &agents(cell))?;
    let mut again = Vec::new();
    for fired in denied {
        let Some(step) = step(&cell.scenario.steps, &fired.path) else { continue };
        let mut step = step.clone();
        // What is proven is that the trigger arrives, not how it goes on.
        if let Some(connect) = &mut step.connect {
            connect.pause = None;
            connect.receive = 0;
            connect.end = End::Reset;
        }
        if let Some(send) = &mut step.send {
            send.receive = 0;
            send.pause = None;
        }
        if let Some(Exec { stdout, .. }) = &mut step.exec {
            *stdout = None;
        }
        if let Some(action) = Action::of(&step) {
            again.push(act(&world, fired.agent, &fired.path, &step, &action)?);
        }
    }
    Ok(Some(Control { fired: again, wire: world.wire() }))
}

/// An outcome by which enforcement shows itself.
fn is_denial(outcome: &str) -> bool {
    matches!(outcome, "EPERM" | "NXDOMAIN")
}

/// The step at a path such as `steps[2].together[0]`.
fn step<'a>(steps: &'a [Step], path: &str) -> Option<&'a Step> {
    let mut numbers = path.split(['[', ']']).filter_map(|part| part.parse::<usize>().ok());
    let step = steps.get(numbers.next()?)?;
    match numbers.next() {
        Some(index) => step.together.as_ref()?.get(index),
        None => Some(step),
    }
}
