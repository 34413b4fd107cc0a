//! Log lines on their way: in memory, so many, and never waited for.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;
use tracing::{
    Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use crate::now_unix_ns;

/// Target of lines that hold somebody else's words: an endpoint's answer or a name may quote what an agent did. Of these
/// no text leaves the machine but which event it is, and of which component.
pub const OTHERS_WORDS: &str = "others_words";

/// Whose lines leave the machine. Libraries log what they handle; and what this crate logs of its own transport would
/// make more of itself.
const OURS: [&str; 4] = ["manager", "ebpf_manager", "reader", OTHERS_WORDS];

/// Lines that may wait.
const ROOM: usize = 2048;
/// Characters of a line.
const LONGEST: usize = 4096;

/// A line that was logged.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub time: u64,
    pub level: Level,
    pub text: String,
    pub id: String,
    pub agent: Option<String>,
    pub project: Option<String>,
    pub container_id: Option<String>,
}

/// A layer that takes the process's log lines.
#[derive(Clone, Debug)]
pub struct Logs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// What every line's identity begins with.
    name: String,
    lines: Mutex<VecDeque<Line>>,
    dropped: AtomicU64,
    number: AtomicU64,
    news: Notify,
}

impl Logs {
    /// Lines of `component` on `node`.
    pub(crate) fn new(component: &str, node: &str) -> Self {
        let name = format!("{node}/{component}/{}-{}", now_unix_ns(), std::process::id());
        let shared = Shared {
            name,
            lines: Mutex::default(),
            dropped: AtomicU64::default(),
            number: AtomicU64::default(),
            news: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The oldest lines, at most so many; before them how many were dropped, if any were.
    pub(crate) fn take(&self, count: usize) -> Vec<Line> {
        let mut taken = Vec::new();
        let dropped = self.shared.dropped.swap(0, Relaxed);
        if dropped > 0 {
            let text = format!("log_lines_dropped count={dropped}");
            taken.push(self.line(Level::WARN, text));
        }
        let mut lines = self.lines();
        let most = lines.len().min(count.saturating_sub(taken.len()));
        taken.extend(lines.drain(..most));
        taken
    }

    /// Waits until there are lines.
    pub(crate) async fn news(&self) {
        self.shared.news.notified().await;
    }

    /// Has lines that were taken sent once more, after those that came meanwhile: one that is refused does not hold up the
    /// others.
    pub(crate) fn again(&self, again: Vec<Line>) {
        let mut lines = self.lines();
        let room = ROOM.saturating_sub(lines.len());
        let over = again.len().saturating_sub(room);
        lines.extend(again.into_iter().take(room));
        drop(lines);
        self.dropped(u64::try_from(over).unwrap_or(u64::MAX));
    }

    /// Counts lines that were taken and did not arrive.
    pub(crate) fn dropped(&self, count: u64) {
        self.shared.dropped.fetch_add(count, Relaxed);
    }

    fn line(&self, level: Level, text: String) -> Line {
        let number = self.shared.number.fetch_add(1, Relaxed);
        let id = format!("{}-{number}", self.shared.name);
        Line { time: now_unix_ns(), level, text, id, agent: None, project: None, container_id: None }
    }

    /// A panic elsewhere leaves the lines whole.
    fn lines(&self) -> MutexGuard<'_, VecDeque<Line>> {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Logs {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let of = metadata.target().split("::").next().unwrap_or_default();
        if *metadata.level() > Level::INFO || !OURS.contains(&of) {
            return;
        }
        let mut words = Words { are_others: of == OTHERS_WORDS, ..Words::default() };
        event.record(&mut words);
        let mut line = self.line(*metadata.level(), words.text());
        (line.agent, line.project) = (words.agent, words.project);
        line.container_id = words.container_id;
        let mut lines = self.lines();
        if lines.len() >= ROOM {
            drop(lines);
            return self.dropped(1);
        }
        lines.push_back(line);
        drop(lines);
        self.shared.news.notify_one();
    }
}

/// What a line says, gathered from its fields.
#[derive(Default)]
struct Words {
    are_others: bool,
    event: String,
    message: String,
    more: String,
    agent: Option<String>,
    project: Option<String>,
    container_id: Option<String>,
}

impl Words {
    fn text(&self) -> String {
        let parts = [&self.event, &self.message, &self.more];
        let parts: Vec<&str> =
            parts.into_iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
        parts.join(" ").chars().take(LONGEST).collect()
    }

    fn add(&mut self, name: &str, value: &dyn fmt::Display) {
        // Writing to a string does not fail.
        let _ = write!(self.more, " {name}={value}");
    }

    fn word(&mut self, name: &str, value: String) {
        match name {
            "event" => self.event = value,
            "component" => self.add(name, &value),
            _ if self.are_others => {}
            "message" => self.message = value,
            "agent" => self.agent = Some(value),
            "project" => self.project = Some(value),
            "container_id" => self.container_id = Some(value),
            _ => self.add(name, &value),
        }
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.word(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.word(field.name(), format!("{value:?}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), &value);
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn logged(log: impl FnOnce()) -> (Logs, Vec<String>) {
        let logs = Logs::new("reader", "node");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(logs.clone()), log);
        let lines = logs.take(usize::MAX).into_iter().map(|line| line.text).collect();
        (logs, lines)
    }

    #[test]
    fn a_line_is_its_event_its_words_and_its_fields() {
        let (_, lines) = logged(|| {
            tracing::warn!(target: "reader::run", event = "records_left", left = 3, "the next reader sends them");
        });
        assert_eq!(lines, ["records_left the next reader sends them left=3"]);
    }

    #[test]
    fn libraries_the_transport_and_details_stay_here() {
        let (_, lines) = logged(|| {
            tracing::error!(target: "h2::client", "a frame");
            tracing::error!(target: "emitter::ship", "not shipped");
            tracing::error!(target: "readers", "another's");
            tracing::debug!(target: "reader::drain", "a detail");
        });
        assert_eq!(lines, Vec::<String>::new());
    }

    #[test]
    fn of_others_words_only_the_event_and_numbers_leave() {
        let (_, lines) = logged(|| {
            let cause = "preview: 'secret'";
            tracing::error!(target: OTHERS_WORDS, event = "backend_rejected", component = "export", cause, rejected = 2, "{cause}");
        });
        assert_eq!(lines, ["backend_rejected component=export rejected=2"]);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told_first() {
        let (logs, lines) = logged(|| {
            for _ in 0..ROOM + 7 {
                tracing::info!(target: "reader", "x");
            }
        });
        assert_eq!((lines.len(), lines[0].as_str()), (ROOM + 1, "log_lines_dropped count=7"));
        assert!(logs.take(1).is_empty(), "told once");
    }

    #[test]
    fn labels_are_byte_for_byte_and_a_line_is_cut() {
        let logs = Logs::new("reader", "node");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(logs.clone()), || {
            let agent = "a\u{7}\"\n";
            tracing::info!(target: "reader", agent, long = "é".repeat(9999));
        });
        let lines = logs.take(9);
        assert_eq!(lines[0].agent.as_deref(), Some("a\u{7}\"\n"));
        assert_eq!(lines[0].text.chars().count(), LONGEST);
    }
}
