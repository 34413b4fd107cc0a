//! Recording events from where nothing may wait, not even for a disk.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use crate::{Event, Events};

/// Events that may be on their way to the disk.
const ROOM: usize = 256;
/// How long what found no room waits to be told.
const PERIOD: Duration = Duration::from_secs(1);

/// Hands events to a thread that keeps them. What finds no room is counted, and told as lost.
#[derive(Clone, Debug)]
pub struct Later {
    sender: SyncSender<Event>,
    missed: Arc<AtomicU64>,
}

impl Later {
    /// Starts the thread. It ends when every clone of this is gone and all is kept.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(events: Events) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let (sender, receiver) = sync_channel(ROOM);
        let missed = Arc::<AtomicU64>::default();
        let later = Self { sender, missed: Arc::clone(&missed) };
        let body = move || keep(&events, &receiver, &missed);
        Ok((later, thread::Builder::new().name("events".to_owned()).spawn(body)?))
    }

    /// Has an event kept. Never waits.
    pub fn record(&self, event: Event) {
        if self.sender.try_send(event).is_err() {
            self.missed.fetch_add(1, Relaxed);
        }
    }
}

fn keep(events: &Events, receiver: &Receiver<Event>, missed: &AtomicU64) {
    loop {
        let received = receiver.recv_timeout(PERIOD);
        let ended = received == Err(RecvTimeoutError::Disconnected);
        if let Ok(event) = received {
            events.record(event);
        }
        let count = missed.swap(0, Relaxed);
        if count > 0 {
            events.missed(count, "they came faster than the disk took them");
        }
        if ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::What;

    #[test]
    fn what_was_handed_over_is_kept_when_the_thread_has_ended() {
        let state = tempfile::tempdir().unwrap();
        let events = Events::of(state.path(), "reader", Some("node"));
        let (later, thread) = Later::start(events.clone()).unwrap();
        for _ in 0..ROOM {
            later.record(Event::new(What::Degraded));
        }
        drop(later);
        thread.join().unwrap();
        assert_eq!(events.oldest(usize::MAX).unwrap().len(), ROOM);
    }

    #[test]
    fn what_found_no_room_is_counted_and_told() {
        let state = tempfile::tempdir().unwrap();
        let events = Events::of(state.path(), "reader", Some("node"));
        let (sender, receiver) = sync_channel(2);
        let later = Later { sender, missed: Arc::default() };
        for _ in 0..5 {
            later.record(Event::new(What::Degraded));
        }
        let missed = Arc::clone(&later.missed);
        drop(later);
        keep(&events, &receiver, &missed);
        events.tell_lost().unwrap();
        let kept = events.oldest(9).unwrap();
        // In the order of their times: that of the loss is when it was first counted.
        let lost: Vec<_> = kept.iter().filter_map(|kept| kept.event.event_count).collect();
        assert_eq!((kept.len(), lost), (3, vec![3]));
    }
}
