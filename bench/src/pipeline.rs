//! What comes out of the ring: the ring's own ceiling, drain to spool, and ring to acknowledged document.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use abi::{CloseReason, Direction, Enrolment, Flow, Hook, Reason, Record, Verdict, v4_mapped};
use anyhow::Context as _;
use nix::time::{ClockId, clock_gettime};
use reader::{
    Fault,
    attribute::{Attributor, Enrolments, NoNames, Owners},
    clock::{Offset, boot_ns},
    drain::{PinnedRing, Source as _},
    spool::{Content, Entry},
};

use crate::{
    bpf::Producer,
    chain::Chain,
    endpoint::Endpoint,
    reader_process::{Memory, PATIENCE, ReaderProcess, To},
};

/// Test runs in one system call.
const BURST: u32 = 64;
/// How long a producer leaves a full ring alone.
const FULL: Duration = Duration::from_micros(500);
/// Records between ring and endpoint at once, where the endpoint is to keep up.
const AHEAD: u64 = 200_000;
/// Cgroup ids of containers that have no cgroup, only an enrolment.
const FIRST_ID: u64 = 1 << 40;

/// What a load of records came to.
#[derive(Clone, Copy, Debug)]
pub struct Throughput {
    /// Records a second.
    pub per_second: f64,
    /// CPU seconds of the consumer for a million records.
    pub cpu_per_million: f64,
    /// The consumer's memory at its highest.
    pub memory: Memory,
    /// Bytes of a document.
    pub document_bytes: f64,
}

/// A denied attempt of one of `containers` containers.
fn record(container: u64) -> Record {
    let now = boot_ns().unwrap_or_default();
    Record {
        end_ns: now,
        event_count: 1,
        flow: Flow {
            start_ns: now,
            last_ns: now,
            cgroup_id: FIRST_ID + container,
            cookie: 77,
            bytes_in: 1001,
            bytes_out: 1002,
            packets_in: 11,
            packets_out: 12,
            bypass_epoch: 0,
            dst: v4_mapped([198, 51, 100, 7]),
            actual_dst: v4_mapped([192, 0, 2, 1]),
            src: v4_mapped([203, 0, 113, 9]),
            comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
            pid: 31337,
            uid: 1000,
            domain: 0,
            generation: 1,
            dst_port: 443,
            actual_dst_port: 10000,
            src_port: 40001,
            socket_family: 2,
            l4_proto: abi::TCP,
            verdict: Verdict::Allowed as u8,
            reason: Reason::AddressRule as u8,
            hook: Hook::Connect as u8,
            close_reason: CloseReason::Closed as u8,
            direction: Direction::Outbound as u8,
            flags: 0,
            socket_type: 1,
        },
    }
}

/// Puts `count` records of `containers` containers, in turn, into the ring, never `ahead` more than `done` says.
fn produce(
    producer: &Producer,
    count: u64,
    containers: u64,
    mut done: impl FnMut() -> anyhow::Result<u64>,
    ahead: u64,
) -> anyhow::Result<()> {
    let (start, mut turn) = (producer.taken(), 0);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let taken = producer.taken() - start;
        if taken >= count {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "only {taken} of {count} records found room in the ring");
        if ahead < u64::MAX && taken.saturating_sub(done()?) >= ahead {
            thread::sleep(FULL);
            continue;
        }
        let burst = BURST.min(u32::try_from(count - taken).unwrap_or(BURST));
        if producer.run(&record(turn % containers), burst)? - start < taken + u64::from(burst) {
            thread::sleep(FULL);
        }
        turn += 1;
    }
}

/// Enrols containers for attribution alone.
fn enrolments(chain: &Chain, containers: u64) -> anyhow::Result<()> {
    for container in 0..containers {
        let cgroup_id = FIRST_ID + container;
        let enrolment = Enrolment {
            cgroup_id,
            container_id: format!("{container:064x}"),
            agent: format!("scout-{container}"),
            project: "demo".to_owned(),
            enrolled_ns: 1,
            retired_ns: None,
            earlier: Vec::new(),
        };
        let path = chain.state_dir().join(Enrolment::FOLDER).join(format!("{cgroup_id}.json"));
        std::fs::write(path, serde_json::to_vec(&enrolment)?)?;
    }
    Ok(())
}

/// Records a second from producer to a consumer that looks at nothing.
pub fn ceiling(count: u64) -> anyhow::Result<f64> {
    let chain = Chain::load()?;
    let producer = chain.producer()?;
    let mut ring = PinnedRing::open(chain.pin_dir())?;
    let failed = AtomicBool::new(false);
    let start = Instant::now();
    let taken = thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            let mut taken = 0_u64;
            while taken < count && !failed.load(Relaxed) {
                let _ = ring.wait(Duration::from_millis(50));
                while ring.next(&mut |_, _| taken += 1) {}
            }
            taken
        });
        let result = produce(&producer, count, 1, || Ok(0), u64::MAX);
        failed.store(result.is_err(), Relaxed);
        let taken = consumer.join().unwrap_or(0);
        result.map(|()| taken)
    })?;
    Ok(taken as f64 / start.elapsed().as_secs_f64())
}

/// Documents a CPU second that one thread makes of records of `containers` containers: attributed and encoded.
pub fn attribute(count: u64, containers: u64) -> anyhow::Result<f64> {
    let chain = Chain::load()?;
    enrolments(&chain, containers)?;
    let enrolments = Enrolments::new(chain.state_dir(), Arc::default());
    let owners = Owners::new(enrolments, None, Arc::default());
    let mut attributor = Attributor::new(owners, Box::new(NoNames), "bench".to_owned(), Fault::None);
    let clock = Offset::measure()?;
    let mut encoded = Vec::new();
    let mut bytes = 0;
    attributor.refresh(clock).map_err(anyhow::Error::msg)?;
    let start = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    for sequence in 0..count {
        let content = Content::Record(record(sequence / u64::from(BURST) % containers));
        let document = attributor.attribute(&Entry { sequence, nonce: 7, content, earlier: None }, clock)?;
        encoded.clear();
        document.encode(clock.now_unix_ns(), clock.now_unix_ns(), &mut encoded);
        bytes += encoded.len();
    }
    let took = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)? - start);
    anyhow::ensure!(bytes > 0, "no document has a byte");
    Ok(count as f64 / took.as_secs_f64())
}

/// Drain to spool, while nobody answers.
pub fn drain(count: u64) -> anyhow::Result<Throughput> {
    let chain = Chain::load()?;
    enrolments(&chain, 1)?;
    let producer = chain.producer()?;
    let reader = ReaderProcess::start(&chain, &To::Nobody, 2 * count)?;
    let (cpu, start) = (reader.cpu_ns()?, Instant::now());
    produce(&producer, count, 1, || Ok(0), u64::MAX)?;
    reader.reaches("records_drained_total", count)?;
    let per_second = count as f64 / start.elapsed().as_secs_f64();
    let cpu_per_million = (reader.cpu_ns()? - cpu) as f64 / 1e3 / count as f64;
    let depth = reader.metric("queue_depth")?;
    anyhow::ensure!(depth == count, "{depth} of {count} records are in the spool");
    Ok(Throughput { per_second, cpu_per_million, memory: reader.memory()?, document_bytes: 0.0 })
}

/// Ring to acknowledged document over mutual TLS, of `containers` containers, with default options. No loss is
/// permitted.
pub fn export(count: u64, containers: u64) -> anyhow::Result<Throughput> {
    let chain = Chain::load()?;
    enrolments(&chain, containers)?;
    let endpoint = Endpoint::start()?;
    let producer = chain.producer()?;
    let reader = ReaderProcess::start(&chain, &To::Endpoint(&endpoint), 1 << 20)?;
    let mut memory = Memory::default();
    // The connection comes about, and files are read, before time is taken.
    let warm = 10_000;
    produce(&producer, warm, containers, || Ok(endpoint.documents()), AHEAD)?;
    reader.reaches("records_exported_total", warm)?;
    let (cpu, start, bytes) = (reader.cpu_ns()?, Instant::now(), endpoint.bytes());
    let mut looked = start;
    let mut done = || -> anyhow::Result<u64> {
        if looked.elapsed() >= Duration::from_millis(50) {
            let now = reader.memory()?;
            memory = Memory { own: memory.own.max(now.own), resident: memory.resident.max(now.resident) };
            looked = Instant::now();
        }
        Ok(endpoint.documents().saturating_sub(warm))
    };
    produce(&producer, count, containers, &mut done, AHEAD)?;
    while done()? < count {
        anyhow::ensure!(start.elapsed() < PATIENCE, "the endpoint has {} of {count} documents", done()?);
        thread::sleep(Duration::from_millis(2));
    }
    let per_second = count as f64 / start.elapsed().as_secs_f64();
    let cpu_per_million = (reader.cpu_ns()? - cpu) as f64 / 1e3 / count as f64;
    let total = warm + count;
    reader.reaches("records_exported_total", total).context("not every record was acknowledged")?;
    anyhow::ensure!(endpoint.documents() == total, "{} documents of {total} records", endpoint.documents());
    let known = reader.metric("attributions_total{attribution=\"known\"}")?;
    anyhow::ensure!(known == total, "{known} of {total} documents name their container");
    let document_bytes = (endpoint.bytes() - bytes) as f64 / count as f64;
    Ok(Throughput { per_second, cpu_per_million, memory, document_bytes })
}

/// How long a lone record takes into the spool, milliseconds, for each of `count` records: nothing wakes the reader.
pub fn latency(count: u64) -> anyhow::Result<Vec<f64>> {
    let chain = Chain::load()?;
    let producer = chain.producer()?;
    let reader = ReaderProcess::start(&chain, &To::Nobody, 1 << 20)?;
    // Once so that the first segment is there.
    producer.run(&record(0), 1)?;
    reader.reaches("records_drained_total", 1)?;
    let segment = std::fs::read_dir(chain.state_dir().join("spool"))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "segment"))
        .context("the spool has no segment")?;
    let file = std::fs::File::open(segment)?;
    let slot = |place: u64| -> anyhow::Result<bool> {
        let mut crc = [0; 4];
        let at = reader::spool::format::HEADER as u64 + place * reader::spool::format::SLOT as u64;
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut crc, at)?;
        Ok(crc != [0; 4])
    };
    let mut waits = Vec::new();
    for place in 1..=count {
        // At no particular moment of the reader's own rhythm.
        thread::sleep(Duration::from_micros(7_919 * place % 50_000));
        let start = Instant::now();
        producer.run(&record(0), 1)?;
        while !slot(place)? {
            anyhow::ensure!(start.elapsed() < PATIENCE, "a record did not reach the spool");
            thread::sleep(Duration::from_micros(200));
        }
        waits.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(waits)
}
