//! Tells of what was lost and contradicted, as events: of many at once one, so that a flood of them makes none.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use emitter::{Event, Later, What};
use tokio::time::{MissedTickBehavior, interval};

use super::{Counters, Reading};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(2);

/// Looks at the counters, from where they stand when this begins.
pub struct Losses {
    counters: Arc<Counters>,
    events: Later,
    told: Reading,
}

impl Losses {
    /// What is counted from now on goes to `events`.
    #[must_use]
    pub fn new(counters: &Arc<Counters>, events: Later) -> Self {
        Self { counters: Arc::clone(counters), events, told: counters.read() }
    }

    /// Looks again and again.
    pub async fn tell(mut self) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look();
        }
    }

    fn look(&mut self) {
        let now = self.counters.read();
        let words = |reading: &Reading| -> BTreeMap<&'static str, u64> {
            reading.losses.iter().map(|(point, count)| (point.as_str(), *count)).collect()
        };
        self.risen(What::RecordsLost, &words(&self.told), &words(&now));
        self.risen(What::Contradicted, &self.told.contradictions, &now.contradictions);
        self.told = now;
    }

    fn risen(&self, what: What, before: &BTreeMap<&'static str, u64>, now: &BTreeMap<&'static str, u64>) {
        for (word, count) in now {
            let more = count.saturating_sub(before.get(word).copied().unwrap_or_default());
            if more > 0 {
                self.events.record(Event::new(what).times(more).told(word));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use abi::LossPoint;
    use emitter::Events;

    use super::*;

    #[test]
    fn what_rises_is_told_once_and_with_how_much() {
        let state = tempfile::tempdir().unwrap();
        let (later, keeping) = Later::start(Events::of(state.path(), "reader", Some("node"))).unwrap();
        let counters = Arc::new(Counters::default());
        counters.lost(LossPoint::SpoolFull, 5);
        let mut losses = Losses::new(&counters, later);
        losses.look();
        counters.lost(LossPoint::BackendRejected, 3);
        losses.look();
        losses.look();
        drop(losses);
        keeping.join().unwrap();
        let folder = std::fs::read_dir(state.path().join("events/reader")).unwrap();
        let told: Vec<_> = folder
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some())
            .map(|path| serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).unwrap()).unwrap())
            .collect();
        assert_eq!(told.len(), 1, "{told:?}");
        let event = &told[0]["event"];
        assert_eq!((&event["event"], &event["event_count"]), (&"records_lost".into(), &3.into()));
        assert_eq!(event["detail"], "backend_rejected");
    }
}
