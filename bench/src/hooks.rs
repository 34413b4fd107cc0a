//! What a hook costs: the kernel's own time for each run of a program, and the wall time that a system call takes
//! longer than where nothing is attached. Rounds are interleaved, so that whatever else the machine does falls on
//! all alike, and each figure is the median of its rounds.

use std::{os::fd::OwnedFd, thread, time::Duration};

use manager::Program;

use crate::{
    bpf::{Null, Runs, Statistics},
    caller::{Call, Caller, SERVED, UNLISTED},
    chain::Chain,
    endpoint::Endpoint,
    figure::median,
    place::Place,
    processor::Held,
    reader_process::{ReaderProcess, To},
};

/// Longer than the window of a container's budget of records, so that the next denials have records again.
const WINDOW: Duration = Duration::from_nanos(abi::BUDGET_WINDOW_NS + 10_000_000);
/// Denials that fit one window's budget.
const BURST: u32 = 100;
/// Between calls at about 500 a second.
const PACE: Duration = Duration::from_millis(2);

/// Three callers: of a container, of nobody with nothing attached, and with a program that does nothing.
pub struct Hooks {
    enrolled: Caller,
    bare: Caller,
    idle: Caller,
    null_connect: Null,
    null_send: Null,
    connect4: OwnedFd,
    sendmsg4: OwnedFd,
    _reader: ReaderProcess,
    _endpoint: Endpoint,
    // After those who use them.
    chain: Chain,
    _place: Place,
}

/// Nanoseconds of a program for each of its runs.
#[derive(Clone, Copy, Debug)]
pub struct PerRun {
    /// A program that does nothing, at `connect()`.
    pub null: f64,
    /// The same at `sendto()`.
    pub null_send: f64,
    /// `connect()` that opens a flow, of a datagram socket.
    pub opened: f64,
    /// The same, while the flow table is in the caches of another processor.
    pub opened_cold: f64,
    /// `connect()` that opens a flow, of a TCP socket.
    pub opened_tcp: f64,
    /// All programs together, for one TCP connection that is opened and reset.
    pub connection: f64,
    /// A datagram of a flow that is open.
    pub datagram: f64,
    /// Denied, with a record.
    pub denied: f64,
    /// Denied 500 times a second, with a record each, the reader asleep.
    pub denied_slowly: f64,
    /// Denied in a flood: counted with those alike.
    pub folded: f64,
}

/// Nanoseconds that a system call takes longer than where nothing is attached.
#[derive(Clone, Copy, Debug)]
pub struct PerCall {
    /// The call itself, nothing attached.
    pub bare: f64,
    /// With a program that does nothing.
    pub null: f64,
    /// With all of ours.
    pub ours: f64,
}

impl Hooks {
    /// Loads and starts everything: programs, a reader that exports, and callers.
    ///
    /// # Errors
    /// If something does not come up.
    pub fn start() -> anyhow::Result<Self> {
        let place = Place::named("hooks")?;
        let chain = Chain::load()?;
        let [(enrolled, _), (bare, _), (idle, _)] =
            [place.cgroup("enrolled")?, place.cgroup("bare")?, place.cgroup("null")?];
        chain.enrol(&enrolled, 10)?;
        let endpoint = Endpoint::start()?;
        let reader = ReaderProcess::start(&chain, &To::Endpoint(&endpoint), 1 << 20)?;
        Ok(Self {
            null_connect: Null::connect4(&idle)?,
            null_send: Null::sendmsg4(&idle)?,
            enrolled: Caller::start(&enrolled)?,
            bare: Caller::start(&bare)?,
            idle: Caller::start(&idle)?,
            connect4: chain.program("connect4")?,
            sendmsg4: chain.program("sendmsg4")?,
            _reader: reader,
            _endpoint: endpoint,
            chain,
            _place: place,
        })
    }

    /// Measures each program, `rounds` times; `flood` calls make a flood. Who calls and who sweeps share a processor.
    ///
    /// # Errors
    /// If a caller or the kernel fails.
    pub fn per_run(&mut self, rounds: u32, flood: u32) -> anyhow::Result<PerRun> {
        let _statistics = Statistics::enable()?;
        // Who sweeps the flows, too.
        let held = Held::here()?;
        let (enrolled, idle) = (self.enrolled.pid(), self.idle.pid());
        held.beside(idle)?;
        let mut values: [Vec<f64>; 10] = Default::default();
        for round in 0..=rounds {
            held.beside(enrolled)?;
            let now = [
                // After a sweep the table is in this processor's caches.
                mean(&self.connect4, &mut self.enrolled, Call::Connect, SERVED, 1000)?,
                {
                    self.chain.sweep()?;
                    mean(&self.connect4, &mut self.enrolled, Call::Tcp, SERVED, 200)?
                },
                mean(self.null_connect.program(), &mut self.idle, Call::Connect, SERVED, 2000)?,
                mean(self.null_send.program(), &mut self.idle, Call::Send, SERVED, 2000)?,
                self.connection(200)?,
                mean(&self.sendmsg4, &mut self.enrolled, Call::Send, SERVED, 1000)?,
                {
                    thread::sleep(WINDOW);
                    mean(&self.connect4, &mut self.enrolled, Call::Connect, UNLISTED, BURST)?
                },
                {
                    thread::sleep(WINDOW);
                    let before = Runs::of(&self.connect4)?;
                    self.enrolled.call(Call::Connect, UNLISTED, 100, PACE)?;
                    Runs::of(&self.connect4)?.mean_since(before).unwrap_or(f64::NAN)
                },
                mean(&self.connect4, &mut self.enrolled, Call::Connect, UNLISTED, flood)?,
                {
                    self.chain.sweep()?;
                    held.apart(enrolled)?;
                    mean(&self.connect4, &mut self.enrolled, Call::Connect, SERVED, 1000)?
                },
            ];
            self.chain.sweep()?;
            // The first round finds cold caches, and the programs' pages.
            if round > 0 {
                values.iter_mut().zip(now).for_each(|(values, now)| values.push(now));
            }
        }
        held.free(enrolled)?;
        held.free(idle)?;
        let [
            opened,
            opened_tcp,
            null,
            null_send,
            connection,
            datagram,
            denied,
            denied_slowly,
            folded,
            opened_cold,
        ] = values.map(median);
        Ok(PerRun {
            null,
            null_send,
            opened,
            opened_cold,
            opened_tcp,
            connection,
            datagram,
            denied,
            denied_slowly,
            folded,
        })
    }

    /// Nanoseconds of all programs for each of `count` connections.
    fn connection(&mut self, count: u32) -> anyhow::Result<f64> {
        let programs: Vec<OwnedFd> = Program::ALL
            .iter()
            .map(|program| self.chain.program(program.name()))
            .collect::<Result<_, _>>()?;
        let total =
            || programs.iter().map(|program| Ok(Runs::of(program)?.time_ns)).sum::<anyhow::Result<u64>>();
        let before = total()?;
        self.enrolled.call(Call::Tcp, SERVED, count, Duration::ZERO)?;
        Ok((total()? - before) as f64 / f64::from(count))
    }

    /// Measures a call where nothing is attached, with a program that does nothing, and with ours, `rounds` times.
    /// What is added is taken within each round.
    ///
    /// # Errors
    /// If a caller fails.
    pub fn per_call(&mut self, call: Call, rounds: u32, count: u32) -> anyhow::Result<PerCall> {
        let (mut bare, mut null, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=rounds {
            let each = |caller: &mut Caller| caller.call(call, SERVED, count, Duration::ZERO);
            let took = [each(&mut self.bare)?, each(&mut self.idle)?, each(&mut self.enrolled)?];
            anyhow::ensure!(took.iter().all(|took| took.failed == 0), "a call failed that must not");
            self.chain.sweep()?;
            if round > 0 {
                bare.push(took[0].each_ns);
                null.push(took[1].each_ns - took[0].each_ns);
                ours.push(took[2].each_ns - took[0].each_ns);
            }
        }
        Ok(PerCall { bare: median(bare), null: median(null), ours: median(ours) })
    }
}

/// Nanoseconds a run of `program` while `caller` makes `count` calls.
pub fn mean(
    program: &OwnedFd,
    caller: &mut Caller,
    call: Call,
    to: std::net::SocketAddrV4,
    count: u32,
) -> anyhow::Result<f64> {
    let before = Runs::of(program)?;
    caller.call(call, to, count, Duration::ZERO)?;
    Ok(Runs::of(program)?.mean_since(before).unwrap_or(f64::NAN))
}
