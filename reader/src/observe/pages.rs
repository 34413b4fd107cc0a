//! /metrics, /healthz and /containers as text.

use std::{fmt::Write as _, sync::Arc};

use super::{Component, Counters, Health, Report};
use crate::{attribute::Containers, clock::boot_ns, spool::Spool};

/// What the pages are made of.
#[derive(Clone, Debug)]
pub struct Pages {
    /// The counters.
    pub counters: Arc<Counters>,
    /// The state of every part.
    pub health: Arc<Health>,
    /// For its depth.
    pub spool: Arc<Spool>,
    /// What the container runtime runs, where it is asked.
    pub containers: Option<Arc<Containers>>,
}

impl Pages {
    /// Whether everything works, and the answer's JSON text.
    pub fn health(&self) -> (bool, String) {
        let report = self.report();
        let text =
            serde_json::to_string(&report).unwrap_or_else(|error| format!("{{\"status\":\"{error}\"}}"));
        (report.causes.is_empty(), text)
    }

    /// The containers that run, a JSON list of [`Listed`](crate::attribute::Listed); `None`: no runtime is asked.
    pub fn containers(&self) -> Option<String> {
        let list = self.containers.as_ref()?.list();
        Some(serde_json::to_string(&list).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}")))
    }

    /// Everything, in Prometheus' text format. Label values are words of closed sets only.
    pub fn metrics(&self) -> String {
        let reading = self.counters.read();
        let report = self.report();
        let up = |component: &Component| u64::from(!report.causes.contains_key(component.as_str()));
        let mut page = Page::default();
        page.one(
            "records_drained_total",
            "counter",
            "Items taken from the ring, records or not.",
            reading.drained,
        );
        page.one(
            "attempts_folded_total",
            "counter",
            "Denied attempts that the kernel counted instead of recorded, and that are in a record now.",
            reading.folded,
        );
        page.one(
            "records_exported_total",
            "counter",
            "Attempts in records that the endpoint accepted.",
            reading.exported,
        );
        page.each(
            "losses_total",
            "counter",
            "Attempts lost, by loss point.",
            "point",
            reading.losses.iter().map(|(point, count)| (point.as_str(), *count)),
        );
        page.one("queue_depth", "gauge", "Entries stored and not acknowledged.", self.spool.depth());
        page.one("queue_bound", "gauge", "Most records that are stored.", self.spool.bound());
        page.one(
            "export_errors_total",
            "counter",
            "Export requests that failed; their records are kept and sent again.",
            reading.export_errors,
        );
        page.each(
            "attributions_total",
            "counter",
            "Documents, by how their container was found.",
            "attribution",
            reading.attributions.iter().map(|(how, count)| (*how, *count)),
        );
        page.each(
            "contradictions_total",
            "counter",
            "Documents about which enrolment and container runtime did not agree, by what about.",
            "by",
            reading.contradictions.iter().map(|(what, count)| (*what, *count)),
        );
        page.one(
            "containers_unreadable_total",
            "counter",
            "Containers whose cgroup or labels could not be had from the runtime.",
            reading.unreadable_containers,
        );
        page.one(
            "enrolments_unreadable_total",
            "counter",
            "Enrolment files that could not be read.",
            reading.unreadable_enrolments,
        );
        page.one(
            "names_missing_total",
            "counter",
            "Records whose domain identity has no name.",
            reading.missing_names,
        );
        page.each(
            "up",
            "gauge",
            "1 where the part works.",
            "component",
            Component::ALL
                .iter()
                .filter(|component| **component != Component::Docker || self.containers.is_some())
                .map(|component| (component.as_str(), up(component))),
        );
        page.0
    }

    fn report(&self) -> Report {
        // Without a clock a stall cannot be told; what the parts said about themselves still can.
        self.health.report(boot_ns().unwrap_or_default())
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP clawker_reader_{name} {help}"));
        self.line(format_args!("# TYPE clawker_reader_{name} {kind}"));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        self.line(format_args!("clawker_reader_{name} {value}"));
    }

    fn each<'a>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'a str, u64)>,
    ) {
        self.head(name, kind, help);
        for (member, value) in values {
            self.line(format_args!("clawker_reader_{name}{{{label}=\"{member}\"}} {value}"));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use abi::LossPoint;

    use super::*;
    use crate::document::{Attribution, sample};

    #[test]
    fn the_metrics_page() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(folder.path(), 8).unwrap();
        let pages = Pages {
            counters: Arc::default(),
            health: Arc::default(),
            spool: Arc::new(spool),
            containers: None,
        };
        for _ in 0..7 {
            pages.counters.drained();
        }
        pages.counters.exported(3);
        pages.counters.lost(LossPoint::Decode, 1);
        pages.counters.lost(LossPoint::BackendRejected, 2);
        pages.counters.export_error();
        pages.counters.attributed(Attribution::Late);
        pages.health.up(Component::Drain);
        pages.health.drain_alive(u64::MAX);
        pages.spool.producer().push(&sample::record(), 0, 0);
        insta::assert_snapshot!(pages.metrics());
    }
}
