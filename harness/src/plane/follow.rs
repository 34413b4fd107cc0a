//! Follows what arrives in the store, as a person who searches again and again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::search::Search;
use crate::endpoint::Sink;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(100);
/// How long a number may be missing between others before it is taken to be nobody's: what was refused has one too.
const GAP: Duration = Duration::from_secs(3);
/// Key of a document, beside its attributes, that names the index it was found in.
pub const INDEX: &str = "_index";
/// The stream whose documents name their node.
const OF_NODES: &str = "clawker-egress";

/// A thread that looks.
pub struct Follower {
    shared: Arc<Mutex<Shared>>,
    stop: Option<Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// By the node whose records they take.
    sinks: Vec<(String, Sink)>,
    /// Why the last look saw nothing.
    problem: Option<String>,
}

/// How far an index was read.
#[derive(Default)]
struct Read {
    /// Everything below was.
    next: u64,
    /// What was read beyond, and since when there is a gap.
    beyond: BTreeMap<u64, ()>,
    gap: Option<Instant>,
}

impl Follower {
    /// Begins.
    pub fn start(search: Search) -> anyhow::Result<Self> {
        let shared = Arc::<Mutex<Shared>>::default();
        let (stop, stopped) = channel::<()>();
        let of_thread = Arc::clone(&shared);
        let body = move || {
            let mut read = HashMap::new();
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                let problem = look(&search, &mut read, &of_thread).err().map(|error| format!("{error:#}"));
                lock(&of_thread).problem = problem;
            }
        };
        let thread = thread::Builder::new().name("follower".to_owned()).spawn(body)?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Adds what arrives from now on to `sink`.
    pub fn add(&self, node: &str, sink: Sink) {
        lock(&self.shared).sinks.push((node.to_owned(), sink));
    }

    /// Why the last look saw nothing.
    pub fn explain(&self) -> String {
        lock(&self.shared).problem.as_ref().map_or_else(
            || "the store answers searches".to_owned(),
            |problem| format!("the last search failed: {problem}"),
        )
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panics only where a bug does, and has then said so.
            let _ = thread.join();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Replaced whole: valid even if a holder panicked.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads what is new in every index, and hands it on.
fn look(search: &Search, read: &mut HashMap<String, Read>, shared: &Mutex<Shared>) -> anyhow::Result<()> {
    // Each change of a mapping, and each rollover, leaves an index more: only those that have something new are searched.
    let last = search.last()?;
    search.refresh()?;
    for (stream, indices) in search.indices()? {
        for index in indices {
            let read = read.entry(index.clone()).or_default();
            if last.get(&index).is_some_and(|last| !read.is_behind(*last)) {
                continue;
            }
            let mut new: Vec<Value> = Vec::new();
            for mut found in search.documents(&index, read.next)? {
                if read.is_new(found.number) {
                    found.document[INDEX] = Value::from(index.as_str());
                    new.push(found.document);
                }
            }
            read.close(Instant::now());
            if new.is_empty() {
                continue;
            }
            // Before the next index, which may not be searched yet.
            let shared = lock(shared);
            for (node, sink) in &shared.sinks {
                let of_sink = new.iter().filter(|document| stream != OF_NODES || is_of(document, node));
                sink.add(&stream, of_sink.cloned().collect());
            }
        }
    }
    Ok(())
}

/// Whether a document of the reader's stream is of this node, whose name its identity begins with.
fn is_of(document: &Value, node: &str) -> bool {
    let id = document["attributes"]["event_id"].as_str();
    id.and_then(|id| id.strip_prefix(node)).is_some_and(|rest| rest.starts_with('-'))
}

impl Read {
    /// Whether it was not read before.
    fn is_new(&mut self, number: u64) -> bool {
        number >= self.next && self.beyond.insert(number, ()).is_none()
    }

    /// Whether something up to `last` was not read, as far as it may still come.
    fn is_behind(&self, last: i64) -> bool {
        u64::try_from(last).is_ok_and(|last| last >= self.next)
    }

    /// Moves on over what was read. Numbers are given before they can be found, so one that is missing may still come.
    fn close(&mut self, now: Instant) {
        loop {
            while self.beyond.remove(&self.next).is_some() {
                self.next += 1;
                self.gap = None;
            }
            let Some(first) = self.beyond.keys().next().copied() else {
                self.gap = None;
                return;
            };
            if now.duration_since(*self.gap.get_or_insert(now)) < GAP {
                return;
            }
            self.next = first;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_number_is_read_once_and_a_late_one_still_is() {
        let (mut read, now) = (Read::default(), Instant::now());
        assert!([0, 1, 3].into_iter().all(|number| read.is_new(number)));
        read.close(now);
        assert_eq!(read.next, 2);
        assert!(!read.is_new(3) && read.is_new(2));
        read.close(now);
        assert_eq!((read.next, read.beyond.len()), (4, 0));
    }

    #[test]
    fn a_gap_that_stays_is_passed() {
        let (mut read, now) = (Read::default(), Instant::now());
        assert!(read.is_new(7));
        read.close(now);
        assert_eq!(read.next, 0);
        assert!(read.is_behind(7));
        read.close(now + GAP);
        assert!(!read.is_behind(7) && !read.is_behind(-1) && read.is_behind(8));
        assert_eq!((read.next, read.beyond.len()), (8, 0));
    }

    #[test]
    fn a_document_is_of_the_node_that_it_names() {
        let of = |id: &str| is_of(&json!({"attributes": {"event_id": id}}), "lab1");
        assert!(of("lab1-aa-7"));
        assert!(!of("lab12-aa-7") && !of("lab-1") && !of(""));
    }
}
