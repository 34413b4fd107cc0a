//! The real binary between senders and an endpoint: what it acknowledged arrives, whatever happens to it.

mod support;

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Failed, Trial};
use support::{Certificates, Endpoint, Manner, Relay, Sender, numbered, request, until};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::oneshot};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

fn main() -> ExitCode {
    let trials = vec![
        Trial::test("what was acknowledged arrives, however often it is killed", killed),
        Trial::test("a record that the store cannot take holds up none", poison),
        Trial::test("a store that rejects some of a request is believed", partial),
        Trial::test("a lane without room refuses, and no other lane does", full),
        Trial::test(
            "more of a lane at once than there is memory for is put off, and no other lane is",
            at_once,
        ),
        Trial::test("only who has a certificate of the authority is heard, and who names a lane", strangers),
        Trial::test("it ends in order, and goes on where it was", ended),
        Trial::test("a damaged file is set aside, and nothing else is lost", damaged),
        Trial::test("a file that was removed names no event again", removed),
        // A figure, and no more than that.
        Trial::test("how much it takes in", measured).with_ignored_flag(true),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Everything around a relay.
struct Place {
    runtime: Runtime,
    certificates: Certificates,
    endpoint: Endpoint,
    folder: TempDir,
}

impl Place {
    fn new(manner: Manner) -> Result<Self, Failed> {
        let runtime = Runtime::new()?;
        let certificates = Certificates::make()?;
        let endpoint = Endpoint::start(&runtime, &certificates, manner)?;
        Ok(Self { runtime, certificates, endpoint, folder: tempfile::tempdir()? })
    }

    fn relay(&self) -> Result<Relay, Failed> {
        let at = self.endpoint.address;
        Relay::start(self.folder.path(), &self.certificates, &[("envoy", at), ("claude", at)])
    }

    fn sender(&self, relay: &Relay, lane: &'static str) -> Result<Sender, Failed> {
        let _entered = self.runtime.enter();
        Sender::new(relay, &self.certificates, lane, Some("right"))
    }

    /// Sends records of these numbers in one request.
    fn send(&self, sender: &mut Sender, numbers: impl IntoIterator<Item = i64>) -> Result<(), Status> {
        let records = numbers.into_iter().map(|number| numbered(number, 100)).collect();
        self.runtime.block_on(sender.send(request(records))).map(drop)
    }

    fn numbers(&self) -> BTreeSet<i64> {
        self.endpoint.taken().into_iter().map(|(number, _)| number).collect()
    }
}

fn killed() -> Result<(), Failed> {
    let place = Place::new(Manner::Take)?;
    let (next, acknowledged) = (Arc::new(AtomicI64::new(0)), Arc::new(Mutex::new(BTreeSet::new())));
    for round in 0..8_u64 {
        // An outage in every other round, so that there is something to be kept.
        place.endpoint.set(if round % 2 == 0 { Manner::Take } else { Manner::Down });
        let relay = place.relay()?;
        relay.balanced("envoy")?;
        let ends = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let mut sender = place.sender(&relay, "envoy")?;
                let (next, acknowledged, ends) =
                    (Arc::clone(&next), Arc::clone(&acknowledged), Arc::clone(&ends));
                Ok(place.runtime.spawn(async move {
                    while !ends.load(Ordering::SeqCst) {
                        let first = next.fetch_add(10, Ordering::SeqCst);
                        let numbers = first..first + 10;
                        let records = numbers.clone().map(|number| numbered(number, 100)).collect();
                        if sender.send(request(records)).await.is_ok() {
                            acknowledged.lock().expect("no test panics with it").extend(numbers);
                        }
                    }
                }))
            })
            .collect::<Result<_, Failed>>()?;
        let before = acknowledged.lock().expect("no test panics with it").len();
        until("some records taken", || {
            acknowledged.lock().expect("no test panics with it").len() > before + 100
        })?;
        thread::sleep(Duration::from_millis(fastrand::u64(..300)));
        relay.kill()?;
        ends.store(true, Ordering::SeqCst);
        for sender in senders {
            place.runtime.block_on(sender)?;
        }
    }
    place.endpoint.set(Manner::Take);
    let relay = place.relay()?;
    let numbers = relay.emptied("envoy")?;
    let events = place.endpoint.events()?;
    let acknowledged = acknowledged.lock().expect("no test panics with it").clone();
    let taken = place.numbers();
    assert_eq!(
        acknowledged.difference(&taken).collect::<Vec<_>>(),
        Vec::<&i64>::new(),
        "acknowledged, and lost"
    );
    assert_eq!(numbers["records_accepted_total"], events.len() as u64, "each event once");
    assert_eq!(numbers["records_delivered_total"], events.len() as u64);
    // What a sender got no answer for may be there, but no more than once: none of these was sent again.
    assert_eq!(events.values().collect::<BTreeSet<_>>().len(), events.len());
    Ok(())
}

fn poison() -> Result<(), Failed> {
    let place = Place::new(Manner::Down)?;
    let relay = place.relay()?;
    let mut sender = place.sender(&relay, "envoy")?;
    for first in (0..500).step_by(50) {
        place.send(&mut sender, first..first + 50)?;
    }
    // While everything is refused nothing is given up.
    until("an outage that is seen", || relay.numbers("envoy").is_ok_and(|n| n["forward_errors_total"] > 8))?;
    assert_eq!(relay.balanced("envoy")?["records_pending"], 500);
    let (status, page) = relay.page("/healthz")?;
    assert_eq!(status, 503, "{page}");
    assert!(page.contains("envoy") && page.contains("Internal"), "{page}");
    place.endpoint.set(Manner::Poison(77));
    let numbers = relay.emptied("envoy")?;
    assert_eq!((numbers["records_rejected_total"], numbers["records_delivered_total"]), (1, 499));
    assert_eq!(place.numbers(), (0..500).filter(|number| *number != 77).collect());
    let letters = fs::read_to_string(place.folder.path().join("state/envoy.dead-letters.jsonl"))?;
    let letter: serde_json::Value = serde_json::from_str(&letters)?;
    assert_eq!(letter["documents"][0]["attributes"]["number"], 77);
    assert!(letter["why"].as_str().is_some_and(|why| why.contains("mapper_parsing_exception")), "{letter}");
    place.send(&mut sender, [1000])?;
    relay.emptied("envoy")?;
    until("well again", || relay.page("/healthz").is_ok_and(|(status, _)| status == 200))?;
    // What the store says may have what is in a record, and is in no log.
    assert!(!relay.events().iter().any(|event| event.to_string().contains("mapper_parsing")));
    Ok(())
}

fn partial() -> Result<(), Failed> {
    let place = Place::new(Manner::Partial(3))?;
    let relay = place.relay()?;
    let mut sender = place.sender(&relay, "envoy")?;
    place.send(&mut sender, 0..10)?;
    let numbers = relay.emptied("envoy")?;
    assert_eq!((numbers["records_rejected_total"], numbers["records_delivered_total"]), (1, 9));
    Ok(())
}

fn full() -> Result<(), Failed> {
    let place = Place::new(Manner::Down)?;
    let relay = place.relay()?;
    let (mut envoy, mut claude) = (place.sender(&relay, "envoy")?, place.sender(&relay, "claude")?);
    let mut sent = 0;
    let status = loop {
        let records = (sent..sent + 100).map(|number| numbered(number, 10_000)).collect();
        match place.runtime.block_on(envoy.send(request(records))) {
            Ok(_) => sent += 100,
            Err(status) => break status,
        }
        assert!(sent < 10_000, "more than its room is taken");
    };
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    // Without this OTLP senders give up.
    assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()), "{status:?}");
    let numbers = relay.balanced("envoy")?;
    assert_eq!((numbers["records_refused_total"], numbers["records_pending"]), (100, u64::try_from(sent)?));
    assert!(numbers["bytes_pending"] <= numbers["bytes_bound"]);
    place.send(&mut claude, 10_000..10_010)?;
    assert_eq!(relay.balanced("claude")?["records_accepted_total"], 10);
    place.endpoint.set(Manner::Take);
    relay.emptied("envoy")?;
    relay.emptied("claude")?;
    place.send(&mut envoy, sent..sent + 10)?;
    relay.emptied("envoy")?;
    assert_eq!(place.numbers(), (0..sent + 10).chain(10_000..10_010).collect());
    Ok(())
}

fn at_once() -> Result<(), Failed> {
    let place = Place::new(Manner::Take)?;
    let relay = place.relay()?;
    let large = request((0..14).map(|number| numbered(number, 1_000_000)).collect());
    let (mut first, mut second) = (place.sender(&relay, "claude")?, place.sender(&relay, "claude")?);
    let (rest, is_told) = oneshot::channel();
    let (of_first, in_full) = (large.clone(), large.clone());
    let slow = place.runtime.spawn(async move {
        first.send_slowly(&of_first, is_told).await.map_err(|failed| format!("{failed:?}"))
    });
    until("under way", || {
        relay.numbers("claude").is_ok_and(|numbers| numbers["bytes_under_way"] > 14_000_000)
    })?;
    let status = place.runtime.block_on(second.send(in_full.clone())).expect_err("there is no place");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()), "{status:?}");
    assert_eq!(relay.numbers("claude")?["requests_put_off_total"], 1);
    place.send(&mut place.sender(&relay, "envoy")?, 100..110)?;
    assert_eq!(relay.numbers("envoy")?["requests_put_off_total"], 0);
    // What is over leaves its place.
    rest.send(()).map_err(|()| "the first request is gone")?;
    let status = place.runtime.block_on(slow)??;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    relay.emptied("claude")?;
    place.runtime.block_on(second.send(in_full))?;
    assert_eq!(relay.numbers("claude")?["requests_put_off_total"], 1);
    Ok(())
}

fn strangers() -> Result<(), Failed> {
    let place = Place::new(Manner::Take)?;
    let relay = place.relay()?;
    for authority in [None, Some("wrong")] {
        let _entered = place.runtime.enter();
        let mut stranger = Sender::new(&relay, &place.certificates, "envoy", authority)?;
        let refused = place.runtime.block_on(stranger.send(request(vec![numbered(1, 1)])));
        assert!(refused.is_err(), "{authority:?}: {refused:?}");
    }
    let mut elsewhere = place.sender(&relay, "egress")?;
    let refused = place.send(&mut elsewhere, [1]).expect_err("no such lane");
    assert_eq!(refused.code(), Code::InvalidArgument);
    for lane in ["envoy", "claude"] {
        assert_eq!(relay.balanced(lane)?["records_accepted_total"], 0);
    }
    // The relay's own certificate is held to the authority too, by senders and by the endpoint.
    drop(relay);
    for extension in ["crt", "key"] {
        let (wrong, right) = (format!("wrong.{extension}"), format!("right.{extension}"));
        fs::copy(place.certificates.file(&wrong), place.certificates.file(&right))?;
    }
    let relay = place.relay()?;
    let mut sender = place.sender(&relay, "envoy")?;
    assert!(place.send(&mut sender, [2]).is_err());
    assert!(place.numbers().is_empty());
    Ok(())
}

fn ended() -> Result<(), Failed> {
    let place = Place::new(Manner::Down)?;
    let relay = place.relay()?;
    let mut sender = place.sender(&relay, "envoy")?;
    place.send(&mut sender, 0..20)?;
    drop(sender);
    // Nobody takes it: it waits for the next start.
    assert!(relay.terminate()?.success());
    let relay = place.relay()?;
    assert_eq!(relay.balanced("envoy")?["records_pending"], 20);
    place.endpoint.set(Manner::Take);
    let mut sender = place.sender(&relay, "envoy")?;
    place.send(&mut sender, 20..40)?;
    drop(sender);
    // What it has it forwards before it ends.
    assert!(relay.terminate()?.success());
    assert_eq!(place.numbers(), (0..40).collect());
    let relay = place.relay()?;
    assert_eq!(relay.emptied("envoy")?["records_delivered_total"], 40);
    let second = place.relay();
    assert!(second.is_err_and(|why| format!("{why:?}").contains("another process uses it")));
    Ok(())
}

fn damaged() -> Result<(), Failed> {
    let place = Place::new(Manner::Down)?;
    let file = place.folder.path().join("state/envoy.redb");
    for (round, harm) in [overwritten as fn(&mut [u8]) -> usize, cut, flipped].into_iter().enumerate() {
        let relay = place.relay()?;
        let (mut envoy, mut claude) = (place.sender(&relay, "envoy")?, place.sender(&relay, "claude")?);
        let first = i64::try_from(round)? * 100;
        place.send(&mut envoy, first..first + 50)?;
        place.send(&mut claude, first + 50..first + 100)?;
        relay.kill()?;
        let mut bytes = fs::read(&file)?;
        let length = harm(&mut bytes);
        bytes.truncate(length);
        fs::write(&file, bytes)?;
        let relay = place.relay()?;
        let numbers = relay.balanced("envoy")?;
        assert_eq!(numbers["files_set_aside"], round as u64 + 1, "round {round}: {numbers:?}");
        assert_eq!(numbers["records_accepted_total"], 0);
        assert_eq!(relay.balanced("claude")?["records_pending"], (round as u64 + 1) * 50);
        let told: Vec<_> =
            relay.events().into_iter().filter(|event| event["event"] == "store_set_aside").collect();
        assert_eq!(told.len(), 1, "{told:?}");
        // It goes on.
        let mut envoy = place.sender(&relay, "envoy")?;
        place.send(&mut envoy, [first + 1000])?;
        assert_eq!(relay.balanced("envoy")?["records_accepted_total"], 1);
    }
    Ok(())
}

// Each damages a file, and says how much of it is left.

fn overwritten(bytes: &mut [u8]) -> usize {
    bytes.fill(0x5a);
    bytes.len()
}

fn cut(bytes: &mut [u8]) -> usize {
    bytes.len() / 3
}

/// Every byte of the pages after the first.
fn flipped(bytes: &mut [u8]) -> usize {
    bytes.iter_mut().skip(4096).for_each(|byte| *byte ^= 0xff);
    bytes.len()
}

fn removed() -> Result<(), Failed> {
    let place = Place::new(Manner::Take)?;
    let mut ids = HashMap::new();
    for round in 0..3 {
        let relay = place.relay()?;
        let mut sender = place.sender(&relay, "envoy")?;
        place.send(&mut sender, [round])?;
        relay.emptied("envoy")?;
        relay.kill()?;
        ids.extend(place.endpoint.events()?);
        assert_eq!(ids.len(), usize::try_from(round)? + 1);
        fs::remove_file(place.folder.path().join("state/envoy.redb"))?;
    }
    assert!(ids.keys().all(|id| id.starts_with("n1-") && id.ends_with("-0")), "{ids:?}");
    Ok(())
}

/// Requests of one record, as Envoy sends them now and then, and of a hundred, as under load.
fn measured() -> Result<(), Failed> {
    for (records, senders) in [(1, 1), (1, 16), (100, 4)] {
        let place = Place::new(Manner::Take)?;
        let relay = place.relay()?;
        let begin = Instant::now();
        let length = Duration::from_secs(5);
        let tasks: Vec<_> = (0..senders)
            .map(|_| {
                let mut sender = place.sender(&relay, "envoy")?;
                Ok(place.runtime.spawn(async move {
                    let mut taken = 0_u64;
                    while begin.elapsed() < length {
                        let records = (0..records).map(|number| numbered(number, 300)).collect();
                        taken += u64::from(sender.send(request(records)).await.is_ok());
                    }
                    taken
                }))
            })
            .collect::<Result<_, Failed>>()?;
        let mut requests = 0;
        for task in tasks {
            requests += place.runtime.block_on(task)?;
        }
        let taken = begin.elapsed().as_secs_f64();
        relay.emptied("envoy")?;
        let delivered = begin.elapsed().as_secs_f64();
        let total = requests as f64 * records as f64;
        println!(
            "{senders} senders, requests of {records}: {:.0} requests/s, {:.0} records/s kept, {:.0} records/s delivered",
            requests as f64 / taken,
            total / taken,
            total / delivered
        );
    }
    Ok(())
}
