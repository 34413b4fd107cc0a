//! The parts of a run, in order, and the bar of each figure. Bars are those of docs/benchmarks.md.

use std::fs;

use clap::ValueEnum;
use serde::Serialize;

use crate::{
    caller::Call,
    figure::{Bar, Figures, median, number},
    flood,
    growth::{self, Point},
    hooks::Hooks,
    pipeline,
};

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Cost of hooks, for each run and each system call.
    Hooks,
    /// The ring's ceiling, and drain to spool.
    Ring,
    /// Ring to acknowledged document.
    Export,
    /// Flood beside a quiet container.
    Flood,
    /// More containers, rules, flows.
    Growth,
}

/// How a value grows.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// What is plotted; names its file.
    pub name: &'static str,
    /// What the horizontal axis counts.
    pub of: &'static str,
    /// What the vertical axis measures.
    pub unit: &'static str,
    /// Size and value.
    pub points: Vec<(f64, f64)>,
}

/// The machine, as far as figures depend on it.
pub fn machine() -> serde_json::Value {
    let first = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or(line, |(_, value)| value).trim().to_owned()
    };
    serde_json::json!({
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "processor": first("/proc/cpuinfo", "model name"),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": first("/proc/meminfo", "MemTotal"),
    })
}

/// Measures what was asked for, all of it if nothing was.
pub fn all(figures: &mut Figures, only: &[Part], quick: bool) -> anyhow::Result<Vec<Curve>> {
    let wanted = |part| only.is_empty() || only.contains(&part);
    let mut curves = Vec::new();
    if wanted(Part::Hooks) {
        hooks(figures, quick)?;
    }
    if wanted(Part::Ring) {
        ring(figures, quick)?;
    }
    if wanted(Part::Export) {
        curves.push(export(figures, quick)?);
    }
    if wanted(Part::Flood) {
        flooded(figures, quick)?;
    }
    if wanted(Part::Growth) {
        curves.extend(grown(figures, quick)?);
    }
    Ok(curves)
}

fn hooks(figures: &mut Figures, quick: bool) -> anyhow::Result<()> {
    const PART: &str = "hook, ns a run";
    let mut hooks = Hooks::start()?;
    let run = hooks.per_run(if quick { 5 } else { 40 }, 100_000)?;
    figures.add(PART, "connect, a program that does nothing", run.null, "ns", Bar::Reference);
    figures.add(PART, "sendto, a program that does nothing", run.null_send, "ns", Bar::Reference);
    figures.add(PART, "connect, allowed, flow recorded, UDP", run.opened, "ns", Bar::AtMost(465.0));
    figures.add(PART, "connect, allowed, flow recorded, TCP", run.opened_tcp, "ns", Bar::AtMost(465.0));
    figures.add(PART, "the UDP one over the null program", run.opened - run.null, "ns", Bar::AtMost(350.0));
    let what = "the UDP one, the table in another processor's caches";
    figures.add(PART, what, run.opened_cold, "ns", Bar::Reference);
    let what = "all programs, one TCP connection opened and reset";
    figures.add(PART, what, run.connection, "ns", Bar::Reference);
    figures.add(PART, "sendto, a datagram of an open flow", run.datagram, "ns", Bar::Reference);
    figures.add(PART, "connect, denied, in the ring", run.denied, "ns", Bar::AtMost(730.0));
    figures.add(PART, "the same at 500/s, reader asleep", run.denied_slowly, "ns", Bar::AtMost(7_000.0));
    figures.add(PART, "connect, denied, folded in a flood", run.folded, "ns", Bar::AtMost(437.0));
    const CALL: &str = "system call, ns added";
    let (rounds, count) = if quick { (10, 2000) } else { (60, 2000) };
    let connect = hooks.per_call(Call::Connect, rounds, count)?;
    figures.add(CALL, "connect, nothing attached, in all", connect.bare, "ns", Bar::Reference);
    figures.add(CALL, "connect, a program that does nothing", connect.null, "ns", Bar::Reference);
    figures.add(CALL, "connect, allowed, flow recorded, UDP", connect.ours, "ns", Bar::AtMost(832.0));
    let tcp = hooks.per_call(Call::Tcp, rounds, count / 10)?;
    figures.add(CALL, "connect, nothing attached, TCP handshake, in all", tcp.bare, "ns", Bar::Reference);
    let note = "with every packet of the handshake through the gate";
    figures.note(
        CALL,
        "connect, allowed, flow recorded, TCP",
        tcp.ours,
        "ns",
        Bar::Reference,
        note.to_owned(),
    );
    let send = hooks.per_call(Call::Send, rounds, count)?;
    figures.add(CALL, "sendto, nothing attached, in all", send.bare, "ns", Bar::Reference);
    figures.add(CALL, "sendto, a datagram of an open flow", send.ours, "ns", Bar::Reference);
    Ok(())
}

fn ring(figures: &mut Figures, quick: bool) -> anyhow::Result<()> {
    const PART: &str = "ring to spool";
    let (rounds, count) = if quick { (1, 1_000_000) } else { (5, 3_000_000) };
    let (mut ceiling, mut rates, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        ceiling.push(pipeline::ceiling(count)?);
        let drained = pipeline::drain(count)?;
        rates.push(drained.per_second);
        cpu.push(drained.cpu_per_million);
    }
    figures.add(PART, "ring alone, consumer that discards", median(ceiling), "records/s", Bar::Reference);
    figures.add(PART, "drain to spool, export stopped", median(rates), "records/s", Bar::AtLeast(1e6));
    figures.add(PART, "its CPU seconds a million", median(cpu), "s", Bar::AtMost(1.0));
    let waits = pipeline::latency(if quick { 20 } else { 200 })?;
    let worst = waits.iter().copied().fold(0.0, f64::max);
    let note = format!("median {}", number(median(waits)));
    figures.note(PART, "a lone record is in the spool within", worst, "ms", Bar::AtMost(200.0), note);
    Ok(())
}

fn export(figures: &mut Figures, quick: bool) -> anyhow::Result<Curve> {
    const PART: &str = "ring to OTLP over mTLS";
    let attributed = pipeline::attribute(if quick { 300_000 } else { 2_000_000 }, 1)?;
    figures.add(PART, "attributed and encoded, one thread", attributed, "documents/CPU s", Bar::Reference);
    let (rounds, count) = if quick { (1, 500_000) } else { (3, 2_000_000) };
    let sizes: &[u64] = if quick { &[1, 100] } else { &[1, 100, 1000] };
    let mut points = Vec::new();
    for &containers in sizes {
        let mut runs = Vec::new();
        for _ in 0..rounds {
            runs.push(pipeline::export(count, containers)?);
        }
        let rate = median(runs.iter().map(|run| run.per_second));
        let cpu = median(runs.iter().map(|run| run.cpu_per_million));
        points.push((containers as f64, cpu));
        if containers > 1 {
            let growth = 100.0 * (cpu / points[0].1 - 1.0);
            let what = format!("CPU a document with {containers} containers, over 1");
            figures.add(PART, what, growth, "%", Bar::AtMost(15.0));
            continue;
        }
        let note = format!("{} bytes a document", number(runs[0].document_bytes));
        figures.note(PART, "acknowledged, none lost", rate, "documents/s", Bar::AtLeast(150_000.0), note);
        figures.add(PART, "the same, stretch", rate, "documents/s", Bar::AtLeast(300_000.0));
        figures.add(PART, "its CPU seconds a million", cpu, "s", Bar::AtMost(6.0));
        figures.add(PART, "the same, stretch", cpu, "s", Bar::AtMost(2.5));
        let mib = |bytes: fn(&pipeline::Throughput) -> u64| {
            runs.iter().map(|run| bytes(run) as f64 / f64::from(1 << 20)).fold(0.0, f64::max)
        };
        let note = format!(
            "resident with the spool's pages: {} MiB",
            number(mib(|run| run.memory.resident).round())
        );
        figures.note(
            PART,
            "memory, spool aside, highest",
            mib(|run| run.memory.own),
            "MiB",
            Bar::AtMost(48.0),
            note,
        );
    }
    Ok(Curve { name: "export-containers", of: "containers", unit: "CPU s a million documents", points })
}

fn flooded(figures: &mut Figures, quick: bool) -> anyhow::Result<()> {
    const PART: &str = "flood";
    let flood = flood::run(if quick { 300_000 } else { 2_000_000 })?;
    let note = format!("{} denied attempts, {} documents", number(flood.attempts as f64), flood.documents);
    figures.note(PART, "attempts that nothing tells of", flood.residual.abs(), "", Bar::AtMost(0.0), note);
    let quiet = flood.quiet as f64;
    figures.add(PART, "flows of the quiet container", quiet, "of 1,000", Bar::AtLeast(flood::QUIET.into()));
    Ok(())
}

fn grown(figures: &mut Figures, quick: bool) -> anyhow::Result<Vec<Curve>> {
    let (pairs, rounds) = if quick { (1, 10) } else { (5, 15) };
    let sizes: &[usize] = if quick { &[1, 100] } else { &[1, 100, 1000] };
    let containers = growth::repeated(pairs, || growth::containers(sizes, rounds))?;
    let sizes: &[usize] = if quick { &[10, 1000] } else { &[10, 100, 1000, 10_000] };
    let rules = growth::repeated(pairs, || growth::rules(sizes, rounds))?;
    // The table has room for 65,536.
    let sizes: &[usize] = if quick { &[1000, 10_000] } else { &[1000, 10_000, 45_000] };
    let flows = growth::repeated(pairs, || growth::flows(sizes, rounds))?;
    let mut curves = Vec::new();
    for (name, of, points, bar) in [
        ("connect-containers", "containers", containers, Bar::AtMost(15.0)),
        ("connect-rules", "rules", rules, Bar::AtMost(15.0)),
        // A table that is larger than the caches costs their misses.
        ("connect-flows", "open flows", flows, Bar::Reference),
    ] {
        for point in &points {
            tell(figures, of, point, bar);
        }
        let points = points.iter().map(|point| (point.size as f64, point.connect_ns)).collect();
        curves.push(Curve { name, of, unit: "ns a run of connect", points });
    }
    Ok(curves)
}

fn tell(figures: &mut Figures, of: &str, point: &Point, bar: Bar) {
    let note = format!(
        "{} ns beside {} ns; set up in {} ms each",
        number(point.connect_ns.round()),
        number(point.base_ns.round()),
        number(point.setup_ms)
    );
    let what = format!("connect with {} {of}", number(point.size as f64));
    figures.note("growth of a hook's cost", what, point.growth(), "%", bar, note);
}
