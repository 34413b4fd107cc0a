//! The report for CI systems: JUnit XML, one suite a topic.

use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use serde_json::json;

use super::{
    Consumer, file,
    visible::{line, visible},
};
use crate::event::{CellReport, Class, Event, Failure, Outcome};

/// Writes JUnit XML when the run ends. A failure's type is its class; a failure of the environment
/// or of the case file is an `error`, every other one a `failure`. Properties of a test case: `file`,
/// `line`, `tier`, `class`, `stage`, `pcap`, `tag` (each), `variable.NAME`, and how many documents there
/// were. The standard output of a failed one holds its documents, wire and model as JSON.
pub struct Junit {
    path: PathBuf,
    suites: BTreeMap<String, (TestSuite, Duration)>,
    duration: Duration,
}

impl Junit {
    /// A report that is written to `path` when the run ends.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), suites: BTreeMap::new(), duration: Duration::ZERO }
    }

    fn add(&mut self, cell: &CellReport) {
        let (suite, time) = self
            .suites
            .entry(cell.topic.clone())
            .or_insert_with(|| (TestSuite::new(line(&cell.topic)), Duration::ZERO));
        *time = time.saturating_add(cell.duration);
        let mut case = TestCase::new(line(&cell.name), status(cell));
        case.set_classname(line(&cell.topic)).set_time(cell.duration);
        case.add_property(Property::new("file", line(&cell.file.to_string_lossy())));
        case.add_property(Property::new("line", cell.position.0.to_string()));
        case.add_property(Property::new("tier", cell.tier.to_string()));
        if let Some(class) = cell.class {
            case.add_property(Property::new("class", class.to_string()));
        }
        if let Some(stage) = cell.stage {
            case.add_property(Property::new("stage", stage.hop()));
        }
        if let Some(pcap) = &cell.pcap {
            case.add_property(Property::new("pcap", line(&pcap.to_string_lossy())));
        }
        for tag in &cell.tags {
            case.add_property(Property::new("tag", line(tag)));
        }
        for (name, value) in &cell.variables {
            case.add_property(Property::new(format!("variable.{}", line(name)), line(value)));
        }
        case.add_property(Property::new("documents", cell.documents.len().to_string()));
        if cell.result == Outcome::Fail {
            let seen = json!({"documents": cell.documents, "wire": cell.wire, "model": cell.model});
            case.set_system_out(visible(&format!("{seen:#}")).into_owned());
        }
        suite.add_test_case(case);
    }
}

fn status(cell: &CellReport) -> TestCaseStatus {
    match cell.result {
        Outcome::Pass => TestCaseStatus::success(),
        Outcome::Skip => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(line(&cell.reason));
            status
        }
        Outcome::Fail => {
            let kind = match cell.class {
                Some(Class::BadCase | Class::Environment) => NonSuccessKind::Error,
                _ => NonSuccessKind::Failure,
            };
            let mut status = TestCaseStatus::non_success(kind);
            let class = cell.class.map_or_else(|| "fail".to_owned(), |class| class.to_string());
            status.set_type(class).set_message(line(&cell.reason)).set_description(describe(&cell.failures));
            status
        }
    }
}

fn describe(failures: &[Failure]) -> String {
    let parts: Vec<_> = failures
        .iter()
        .map(|failure| format!("{}: {}\n{}", failure.class, line(&failure.message), visible(&failure.detail)))
        .collect();
    parts.join("\n\n")
}

impl Consumer for Junit {
    fn event(&mut self, event: &Event) {
        match event {
            Event::CellFinished(cell) => self.add(cell),
            Event::RunFinished { duration } => self.duration = *duration,
            Event::RunStarted { .. } | Event::CellStarted { .. } => {}
        }
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        let mut report = Report::new("clawker-egress");
        report.set_time(self.duration);
        report.add_test_suites(self.suites.into_values().map(|(mut suite, time)| {
            suite.set_time(time);
            suite
        }));
        let text = report.to_string().map_err(io::Error::other)?;
        file::write(&self.path, "JUnit", text.as_bytes())
    }
}
