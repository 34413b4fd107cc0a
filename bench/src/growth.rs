//! Whether a hook costs more where there is more: containers, rules, open flows. Each arrangement is measured beside
//! the smallest one, in the same rounds, and with one that was made at the same time: maps cost more with their use.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use crate::{
    bpf::Statistics,
    caller::{Call, Caller, SERVED},
    chain::Chain,
    figure::median,
    hooks::mean,
    place::Place,
};

/// Rules of a small container.
const FEW_RULES: usize = 10;
/// Another address of those that are permitted: what is opened there is not measured.
const ELSEWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 7), 1);

/// Hook cost at one size.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// How many there are.
    pub size: usize,
    /// Nanoseconds a run of the `connect()` program that opens a flow.
    pub connect_ns: f64,
    /// The same in the smallest arrangement, measured in the same rounds.
    pub base_ns: f64,
    /// How long it took to make one of them, milliseconds; 0 where that is not asked.
    pub setup_ms: f64,
}

impl Point {
    /// Percent that it costs more than the smallest arrangement.
    pub fn growth(&self) -> f64 {
        100.0 * (self.connect_ns / self.base_ns - 1.0)
    }
}

/// A container with its own set of programs, and one caller in it.
struct Room {
    caller: Caller,
    chain: Chain,
    place: Place,
}

impl Room {
    fn new(rules: usize, name: &str) -> anyhow::Result<Self> {
        let place = Place::named(name)?;
        let chain = Chain::load()?;
        let (path, _) = place.cgroup("agent")?;
        chain.enrol(&path, rules)?;
        Ok(Self { caller: Caller::start(&path)?, chain, place })
    }

    fn measure(&mut self, count: u32) -> anyhow::Result<f64> {
        let program = self.chain.program("connect4")?;
        mean(&program, &mut self.caller, Call::Connect, SERVED, count)
    }
}

/// Measures `grown` and `base` in turn. What they open is swept only where that does not empty what was filled.
fn compare(base: &mut Room, grown: &mut Room, rounds: u32) -> anyhow::Result<(f64, f64)> {
    let _statistics = Statistics::enable()?;
    let (mut small, mut large) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (one, two) = if round.is_multiple_of(2) {
            let one = base.measure(200)?;
            (one, grown.measure(200)?)
        } else {
            let two = grown.measure(200)?;
            (base.measure(200)?, two)
        };
        if round > 0 {
            small.push(one);
            large.push(two);
        }
    }
    base.chain.sweep()?;
    grown.chain.sweep()?;
    Ok((median(small), median(large)))
}

/// Where maps lie in memory is luck, which one pair has or has not in all its rounds: of several pairs, the one whose
/// growth is the median, for each size.
///
/// # Errors
/// If one cannot be measured.
pub fn repeated(
    times: usize,
    measure: impl Fn() -> anyhow::Result<Vec<Point>>,
) -> anyhow::Result<Vec<Point>> {
    let all = (0..times).map(|_| measure()).collect::<anyhow::Result<Vec<_>>>()?;
    let sizes = all.first().map_or(0, Vec::len);
    let middle = |place: usize| {
        let mut of_size: Vec<Point> = all.iter().map(|points| points[place]).collect();
        of_size.sort_by(|one, two| one.growth().total_cmp(&two.growth()));
        of_size[times / 2]
    };
    Ok((0..sizes).map(middle).collect())
}

/// Rules of the container.
///
/// # Errors
/// If something cannot be set up.
pub fn rules(sizes: &[usize], rounds: u32) -> anyhow::Result<Vec<Point>> {
    let each = sizes.iter().map(|&size| {
        let mut base = Room::new(FEW_RULES, "base")?;
        let start = Instant::now();
        let mut grown = Room::new(size, "grown")?;
        let setup_ms = start.elapsed().as_secs_f64() * 1e3;
        let (base_ns, connect_ns) = compare(&mut base, &mut grown, rounds)?;
        Ok(Point { size, connect_ns, base_ns, setup_ms })
    });
    each.collect()
}

/// Enrolled containers.
///
/// # Errors
/// If something cannot be set up.
pub fn containers(sizes: &[usize], rounds: u32) -> anyhow::Result<Vec<Point>> {
    let mut base = Room::new(FEW_RULES, "base")?;
    let mut grown = Room::new(FEW_RULES, "grown")?;
    let mut enrolled = 1;
    let each = sizes.iter().map(|&size| {
        let (start, before) = (Instant::now(), enrolled);
        while enrolled < size {
            let (path, _) = grown.place.cgroup(&format!("other-{enrolled}"))?;
            grown.chain.enrol(&path, FEW_RULES)?;
            enrolled += 1;
        }
        let made = (enrolled - before).max(1) as f64;
        let setup_ms = if enrolled > before { start.elapsed().as_secs_f64() * 1e3 / made } else { 0.0 };
        let (base_ns, connect_ns) = compare(&mut base, &mut grown, rounds)?;
        Ok(Point { size, connect_ns, base_ns, setup_ms })
    });
    each.collect()
}

/// Open flows of the container.
///
/// # Errors
/// If something cannot be set up.
pub fn flows(sizes: &[usize], rounds: u32) -> anyhow::Result<Vec<Point>> {
    let each = sizes.iter().map(|&size| {
        let mut base = Room::new(FEW_RULES, "base")?;
        let mut grown = Room::new(FEW_RULES, "grown")?;
        let start = Instant::now();
        // One socket each time, whose flows its end leaves to the sweeper, which does not run.
        grown.caller.call(Call::Scan, ELSEWHERE, u32::try_from(size)?, Duration::ZERO)?;
        let setup_ms = start.elapsed().as_secs_f64() * 1e3 / size as f64;
        let (base_ns, connect_ns) = compare(&mut base, &mut grown, rounds)?;
        Ok(Point { size, connect_ns, base_ns, setup_ms })
    });
    each.collect()
}
