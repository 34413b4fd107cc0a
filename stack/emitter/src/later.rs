//! Recording events from where nothing may wait, not even for a disk.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
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

/// The thread that keeps events. It ends when every [`Later`] is gone and all is kept.
#[derive(Debug)]
pub struct Keeping {
    thread: thread::JoinHandle<()>,
    /// Nothing comes; the other side goes with the thread.
    ended: Receiver<()>,
}

impl Keeping {
    /// Waits until it has ended.
    ///
    /// # Errors
    /// If it panicked, with what it said.
    pub fn join(self) -> thread::Result<()> {
        self.thread.join()
    }

    /// Waits until it has ended, for so long at most. `false` if it has not.
    #[must_use]
    pub fn ends_within(&self, most: Duration) -> bool {
        self.ended.recv_timeout(most) != Err(RecvTimeoutError::Timeout)
    }
}

impl Later {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(events: Events) -> io::Result<(Self, Keeping)> {
        let (sender, receiver) = sync_channel(ROOM);
        let missed = Arc::<AtomicU64>::default();
        let later = Self { sender, missed: Arc::clone(&missed) };
        let (end, ended) = channel();
        let body = move || {
            let _end: Sender<()> = end;
            keep(&events, &receiver, &missed);
        };
        let thread = thread::Builder::new().name("events".to_owned()).spawn(body)?;
        Ok((later, Keeping { thread, ended }))
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
        assert!(!thread.ends_within(Duration::ZERO), "more may come");
        drop(later);
        assert!(thread.ends_within(Duration::from_secs(60)));
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
