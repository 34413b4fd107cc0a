//! Flows beside documents, in one pass over both.

use std::{
    collections::{HashSet, VecDeque},
    iter::Peekable,
};

use super::{Document, Flow, Key, Lost, Window};

/// The most flows of one key that are held at once. A TCP connection's key is free for the next one only when it is over, so
/// that more than a few are a container's that wants it so.
const MOST: usize = 256;

/// Compares flows, in the order of their keys and ends, with documents, in the order of their keys and begins. What came twice
/// is counted once.
///
/// A document is of the flow whose time it is in; if of none, of the nearest as far as the window's margins go. A flow may
/// have many.
///
/// # Errors
/// The first of either side.
pub fn compare<E>(
    flows: impl Iterator<Item = Result<Flow, E>>,
    documents: impl Iterator<Item = Result<Document, E>>,
    window: &Window,
) -> Result<Lost, E> {
    let mut flows = Flows {
        rest: once(flows, |flow: &Flow| (flow.key, flow.end), |flow| &flow.id).peekable(),
        held: VecDeque::new(),
        window,
        lost: Lost::default(),
    };
    for document in
        once(documents, |document: &Document| (document.key, document.begin), |document| &document.id)
    {
        let document = document?;
        flows.advance(document.key, document.begin)?;
        let found = flows.take(&document);
        if window.is_within(document.begin) {
            let tally = flows.lost.of(&document.who);
            let count = match (found, document.over) {
                (true, _) => &mut tally.documents,
                (false, true) => &mut tally.strange,
                (false, false) => &mut tally.open,
            };
            *count = count.saturating_add(1);
        }
    }
    flows.finish()?;
    Ok(flows.lost)
}

/// A flow that documents may still be found of.
struct Held {
    flow: Flow,
    /// Documents that were.
    told: u64,
}

struct Flows<'w, I: Iterator> {
    rest: Peekable<I>,
    /// All of one key, in the order of their ends.
    held: VecDeque<Held>,
    window: &'w Window,
    lost: Lost,
}

impl<E, I: Iterator<Item = Result<Flow, E>>> Flows<'_, I> {
    /// Judges what no document from this one on can be of, and holds what it may be of.
    fn advance(&mut self, key: Key, time: i64) -> Result<(), E> {
        let after = self.window.after;
        let is_past =
            |flow: &Flow| flow.key < key || (flow.key == key && flow.end.saturating_add(after) < time);
        while self.held.front().is_some_and(|held| is_past(&held.flow)) {
            if let Some(held) = self.held.pop_front() {
                self.lost.judge(&held.flow, held.told, self.window);
            }
        }
        while self.held.len() < MOST {
            let next = self.rest.next_if(|next| next.as_ref().map_or(true, |flow| flow.key <= key));
            let Some(flow) = next.transpose()? else { break };
            if is_past(&flow) {
                self.lost.judge(&flow, 0, self.window);
            } else {
                self.held.push_back(Held { flow, told: 0 });
            }
        }
        Ok(())
    }

    /// Gives a document to its flow, if that is there.
    fn take(&mut self, document: &Document) -> bool {
        let time = document.begin;
        let of = self.held.iter_mut().filter(|held| {
            held.flow.key == document.key
                && held.flow.begin.saturating_sub(self.window.before) <= time
                && document.who.may_be(&held.flow.who)
        });
        // In it, else near it; of several, one that has not all of its own yet, and of these the one with the fewest.
        let best = of.min_by_key(|held| {
            let early = held.flow.begin.saturating_sub(time).max(0);
            let late = time.saturating_sub(held.flow.end).max(0);
            (early.max(late), held.told >= held.flow.questions.max(1), held.told)
        });
        best.map(|held| held.told = held.told.saturating_add(1)).is_some()
    }

    /// Judges what is left.
    fn finish(&mut self) -> Result<(), E> {
        for held in self.held.drain(..) {
            self.lost.judge(&held.flow, held.told, self.window);
        }
        for flow in self.rest.by_ref() {
            self.lost.judge(&flow?, 0, self.window);
        }
        Ok(())
    }
}

/// Delivery is at least once: of those with one identity, which have one place in the order too, the first.
fn once<T, E, P: Copy + PartialEq>(
    all: impl Iterator<Item = Result<T, E>>,
    place: impl Fn(&T) -> P,
    id: impl Fn(&T) -> &String,
) -> impl Iterator<Item = Result<T, E>> {
    let mut at = None;
    let mut seen = HashSet::new();
    all.filter(move |item| {
        let Ok(item) = item else { return true };
        if at != Some(place(item)) {
            at = Some(place(item));
            seen.clear();
        }
        id(item).is_empty() || seen.insert(id(item).clone())
    })
}

#[cfg(test)]
mod tests;
