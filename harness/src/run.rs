//! Runs cells, several at a time, and tells what happens as [`Event`]s.

use std::{
    cmp::Reverse,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use crate::{
    event::{CellReport, Class, Event, Failure, Outcome, Tier},
    fire::{FireError, fire, prepared},
    interrupt,
    judge::{asserted, declared, judge, model_steps, told_steps},
    lab::{Availability, Lab, OwnLab, Place, missing},
    plane::Plane,
    scenario::Cell,
    wire::{Captures, Frames},
};

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The tier, and why it is not a higher one.
    pub tier: Tier,
    /// The reason, for the first line of output.
    pub tier_reason: String,
    /// Cells at a time.
    pub jobs: usize,
    /// Leave every world up.
    pub keep: bool,
    /// Where captures are kept; `None`: nowhere.
    pub captures: Option<Captures>,
}

impl RunOptions {
    /// In this tier, one cell at a time, and nothing is kept.
    #[must_use]
    pub fn new(availability: Availability) -> Self {
        let Availability { tier, reason } = availability;
        Self { tier, tier_reason: reason, jobs: 1, keep: false, captures: None }
    }
}

/// Runs every cell. `lab` must be there in the `lab` tier.
pub fn run(
    cells: &[Cell],
    lab: Option<&Lab>,
    options: &RunOptions,
    mut tell: impl FnMut(Event),
) -> Vec<CellReport> {
    let began = Instant::now();
    tell(Event::RunStarted {
        cells: cells.len(),
        tier: options.tier,
        tier_reason: options.tier_reason.clone(),
    });
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut reports = Vec::with_capacity(cells.len());
    thread::scope(|scope| {
        for _ in 0..options.jobs.clamp(1, cells.len().max(1)) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // The receiver outlives the scope.
                    let _ = sender.send(Event::CellStarted { name: cell.name.clone() });
                    let report = run_cell(cell, lab, options);
                    let _ = sender.send(Event::CellFinished(Box::new(report)));
                }
            });
        }
        drop(sender);
        for event in receiver {
            if let Event::CellFinished(report) = &event {
                reports.push((**report).clone());
            }
            tell(event);
        }
    });
    tell(Event::RunFinished { duration: began.elapsed() });
    reports
}

/// Runs one cell to its report, whatever happens on the way.
pub fn run_cell(cell: &Cell, lab: Option<&Lab>, options: &RunOptions) -> CellReport {
    // Waiting for it is not the cell's time.
    let place = (options.tier > Tier::Model && cell.scenario.disturbs()).then(Place::take);
    let began = Instant::now();
    let mut report = CellReport {
        position: cell.locate("name").unwrap_or((1, 1)),
        variables: cell.variables.clone(),
        tags: cell.scenario.tags.clone(),
        source: cell.source.clone(),
        steps: told_steps(cell, &[], &[]),
        declared: declared(&cell.scenario).into_iter().collect(),
        ..CellReport::new(&cell.name, &cell.file, &cell.topic, options.tier)
    };
    // The model opens no socket, so it needs nothing of the machine.
    if options.tier > Tier::Model
        && let Some(why) = missing(&cell.scenario, options.tier)
    {
        report.result = Outcome::Skip;
        report.reason = why;
        report.duration = began.elapsed();
        return report;
    }
    let mut frames = Frames::default();
    match (options.tier, lab) {
        _ if interrupt::requested().is_some() => {
            report.result = Outcome::Skip;
            report.reason = "not begun when the run was interrupted".to_owned();
        }
        (Tier::Model, _) => {
            (report.failures, report.model) = model_steps(cell);
            if report.model.is_empty() && report.failures.is_empty() {
                report.result = Outcome::Skip;
                report.reason = "names no destination that the model could judge without a kernel".to_owned();
            }
        }
        (Tier::Lab | Tier::Stack, Some(lab)) => {
            // One cell's bug must not end the others.
            let result = catch_unwind(AssertUnwindSafe(|| {
                in_lab(cell, lab, place, options.keep, &mut report, &mut frames)
            }));
            let failure = match result {
                Ok(Ok(())) => None,
                Ok(Err(error @ FireError::Interrupted(_))) => {
                    report.result = Outcome::Skip;
                    report.reason = error.to_string();
                    None
                }
                Ok(Err(error)) => Some(unfired(cell, &error)),
                Err(_) => Some(environment("the harness itself panicked; the message is above")),
            };
            report.failures.extend(failure);
        }
        (Tier::Lab | Tier::Stack, None) => report.failures.push(environment("there is no lab")),
    }
    if let Some(captures) = options.captures.as_ref().filter(|_| options.tier > Tier::Model) {
        match captures.store(&cell.name, !report.failures.is_empty(), &frames) {
            Ok(pcap) => (report.pcap, report.pcap_cut) = (pcap, frames.cut()),
            Err(error) => report.failures.push(environment(&error.to_string())),
        }
    }
    // The first of the gravest.
    if let Some(gravest) = report.failures.iter().min_by_key(|failure| Reverse(failure.class)) {
        report.result = Outcome::Fail;
        report.class = Some(gravest.class);
        report.reason = gravest.message.clone();
    }
    report.duration = began.elapsed();
    report
}

fn in_lab(
    cell: &Cell,
    lab: &Lab,
    place: Option<Place>,
    keep: bool,
    report: &mut CellReport,
    frames: &mut Frames,
) -> Result<(), FireError> {
    static WORLDS: AtomicUsize = AtomicUsize::new(0);
    let id = format!("w{}", WORLDS.fetch_add(1, Ordering::Relaxed));
    // Who stops a part of what cells share has it alone.
    let plane = lab.plane();
    let _alone = plane.filter(|_| cell.scenario.stops_plane()).map(Plane::alone);
    let _calm = plane.filter(|_| !cell.scenario.stops_plane()).map(Plane::calm);
    let own = place.map(|place| OwnLab::beside(lab, cell.scenario.ring, place));
    let own = own.transpose().map_err(FireError::Lab)?;
    // A world cannot outlive its lab.
    let keep = keep && own.is_none();
    let prepared = prepared(cell)?;
    let evidence = fire(own.as_deref().unwrap_or(lab), &prepared, &id, keep, frames)?;
    let judged = judge(&evidence);
    (report.failures, report.model, report.stage) = (judged.failures, judged.model, judged.stage);
    let agents: Vec<&str> = evidence.agents.iter().map(|agent| agent.agent.as_str()).collect();
    report.steps = told_steps(cell, &evidence.fired, &agents);
    report.asserted = asserted(&evidence);
    report.documents = evidence.documents;
    report.wire = evidence.wire.counts;
    Ok(())
}

/// What a cell failed by before there was anything to judge. The first line says it; what follows, such as the end of a
/// server's log, is detail.
fn unfired(cell: &Cell, error: &FireError) -> Failure {
    let text = error.to_string();
    let (message, more) = text.split_once('\n').unwrap_or((&text, ""));
    let place = error.place().map_or_else(String::new, |path| excerpt(cell, path));
    let parts = [place.as_str(), more].into_iter().filter(|part| !part.is_empty());
    Failure { class: class(error), message: message.to_owned(), detail: parts.collect::<Vec<_>>().join("\n") }
}

/// Where that is in the case's file.
fn excerpt(cell: &Cell, path: &str) -> String {
    cell.locate(path).map_or_else(String::new, |(line, column)| cell.excerpt(line, column))
}

fn environment(message: &str) -> Failure {
    Failure { class: Class::Environment, message: message.to_owned(), detail: String::new() }
}

fn class(error: &FireError) -> Class {
    match error {
        FireError::Sentinel { .. } | FireError::Stream { .. } | FireError::Awaited { .. } => Class::Lost,
        FireError::Unmet { .. } => Class::Trigger,
        _ => Class::Environment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::{Consumer as _, Json, Junit},
        scenario,
    };

    const NEEDY: &str = "name: claim\nneeds: [kernel<2.6]\nagent: {agent: scout}\n\
        steps: [{connect: {to: \"198.51.100.7:443\"}, outcome: EPERM}]\n\
        expect: {documents: [{where: {dst_port: 443}, exactly: 1}]}\n";

    fn options(tier: Tier) -> RunOptions {
        RunOptions::new(Availability { tier, reason: String::new() })
    }

    #[test]
    fn a_need_that_is_not_met_skips_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, NEEDY).unwrap();
        let cells = scenario::load(&file).unwrap();
        let options = options(Tier::Lab);
        let (json, junit) = (folder.path().join("r.json"), folder.path().join("r.xml"));
        let mut reports = (Box::new(Json::new(&json)), Box::new(Junit::new(&junit)));
        let cells = run(&cells, None, &options, |event| {
            reports.0.event(&event);
            reports.1.event(&event);
        });
        reports.0.finish().unwrap();
        reports.1.finish().unwrap();
        assert_eq!(cells[0].result, Outcome::Skip);
        assert!(cells[0].reason.starts_with("needs kernel<2.6: this is Linux "), "{}", cells[0].reason);
        let json = std::fs::read_to_string(json).unwrap();
        assert!(json.contains("\"skipped\":1") && json.contains(&cells[0].reason), "{json}");
        let junit = std::fs::read_to_string(junit).unwrap();
        assert!(junit.contains("<skipped message=\"needs kernel&lt;2.6: this is Linux "), "{junit}");
    }

    #[test]
    fn the_model_needs_nothing_of_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, NEEDY).unwrap();
        let cells = scenario::load(&file).unwrap();
        assert_eq!(run_cell(&cells[0], None, &options(Tier::Model)).result, Outcome::Pass);
    }
}
