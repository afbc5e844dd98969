use super::image::{Change, Key, Place, RingKey};
use super::session::Event;
use crate::hub::Kind;
use crate::market::{Instrument, InstrumentId, Timestamp};
use crate::tape::Position;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most pending entries of a ring; as many as the server keeps of trades.
const RING_ENTRIES: usize = 1024;
/// Most pending entries of all rings, shared among them if they have more.
const ENTRIES: usize = 65_536;
/// Most changes in one update. More would be old before a slow consumer has handled the last of them.
const TAKEN: usize = 64;
/// Most ring entries among them while images are pending, too.
const ENTRIES_TAKEN: usize = 32;
/// Pending updates are merged once the first is older than this.
const MERGED_AFTER: Duration = Duration::from_millis(250);
/// Pending updates are merged beyond this many changes or events.
const MERGED_BEYOND: usize = 8192;
/// The mailbox is full with this many pending events that cannot be merged.
const EVENTS: usize = 1024;
/// Data older than this when they are delivered are reported as lagging.
const OLD: Duration = Duration::from_secs(1);

/// Events pending between the connection and a consumer, in bounded memory however slow the consumer is.
///
/// A consumer that keeps up gets every update as it came. For a slower one pending updates are merged, as the
/// server does for a slow connection: an image keeps the newest value of each changed field, a ring all
/// entries in order. Entries of a ring that is too long are dropped, the oldest first, and reported as a gap.
/// Other events keep their order among the changes.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// Unmerged; empty while anything is in `merged`.
    line: VecDeque<(Instant, Waiting)>,
    /// Changes in `line`.
    changes: usize,
    merged: Merged,
    /// To be delivered after the event that reports its age.
    held: Option<(Instant, Event)>,
    /// The lag that the server reported last; `None` if it is not lagging.
    server: Option<Duration>,
    /// When [`Event::Lagging`] was last delivered; `None` after [`Event::Live`].
    told: Option<Instant>,
    is_over: bool,
}

/// A pending event, unmerged.
#[derive(Debug)]
enum Waiting {
    Event(Event),
    /// An update, or the rest of one that is delivered in pieces.
    Update {
        position: Position,
        time: Timestamp,
        changes: std::vec::IntoIter<Change>,
    },
}

/// Pending changes and events, merged. Sequence numbers give the order of arrival.
#[derive(Debug, Default)]
struct Merged {
    next: u64,
    newest: (Position, Timestamp),
    /// A reset, pending before any change.
    reset: Option<(u64, Instant)>,
    /// The newest change of each image, with the number of the first change merged into it.
    images: FxHashMap<Key, Slot>,
    order: BTreeMap<u64, Key>,
    rings: FxHashMap<RingKey, Ring>,
    /// Rings by their oldest entries.
    fronts: BTreeMap<u64, RingKey>,
    /// Entries of all rings.
    entries: usize,
    events: VecDeque<(u64, Instant, Event)>,
    /// The number of the last unsubscription: images take no earlier number across it, as later changes may
    /// be of a new subscription.
    given_up: u64,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    since: Instant,
    change: Change,
}

/// Pending entries of one ring, in order, gaps among them.
#[derive(Debug, Default)]
struct Ring {
    /// Entries dropped before them: the number of the last, the arrival of the first, and how many.
    missed: Option<(u64, Instant, u64)>,
    slots: VecDeque<Slot>,
}

impl Mailbox {
    /// Adds an event of the session.
    pub fn put(&mut self, now: Instant, event: Event) {
        match event {
            Event::Lagging { by } => return self.server = Some(by),
            // Whether the consumer is up to date, too, is only known when it takes the next event.
            Event::Live if self.server.take().is_some() => return,
            Event::Stale | Event::Disconnected { .. } | Event::Closed { .. } => self.server = None,
            _ => {}
        }
        if !self.merged.is_empty() {
            return self.merged.add(now, event);
        }
        let waiting = match event {
            Event::Update { position, time, changes } => {
                self.changes += changes.len();
                Waiting::Update { position, time, changes: changes.into_iter() }
            }
            event => Waiting::Event(event),
        };
        self.line.push_back((now, waiting));
        if self.changes.max(self.line.len()) > MERGED_BEYOND {
            self.merge();
        }
    }

    /// The next event: before an update that is old, the one that reports its age.
    pub fn take(&mut self, now: Instant) -> Option<Event> {
        let Some((since, event)) = self.held.take().or_else(|| self.next(now)) else {
            return self.age(now, Duration::ZERO);
        };
        match event {
            Event::Update { .. } => {
                if let Some(age) = self.age(now, now.saturating_duration_since(since)) {
                    self.held = Some((since, event));
                    return Some(age);
                }
            }
            // These imply more than a lag.
            Event::Stale | Event::Disconnected { .. } | Event::Closed { .. } => self.told = None,
            _ => {}
        }
        Some(event)
    }

    /// The sender is gone: nothing more is put in.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// Whether nothing follows the pending events.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether too many events are pending: no more should be put in until some are taken.
    pub fn is_full(&self) -> bool {
        self.merged.events.len() >= EVENTS
    }

    /// The event that reports the age of the next update, unless it was sent within the last second.
    fn age(&mut self, now: Instant, waited: Duration) -> Option<Event> {
        let by = waited.max(self.server.unwrap_or_default());
        if by > OLD || self.server.is_some() {
            let is_due = self.told.is_none_or(|told| now.saturating_duration_since(told) >= OLD);
            return is_due.then(|| {
                self.told = Some(now);
                Event::Lagging { by }
            });
        }
        // Not until half of the threshold, so that the two events do not alternate.
        (by <= OLD / 2 && self.told.take().is_some()).then_some(Event::Live)
    }

    fn next(&mut self, now: Instant) -> Option<(Instant, Event)> {
        if self.line.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) > MERGED_AFTER) {
            self.merge();
        }
        if !self.merged.is_empty() {
            return self.merged.take();
        }
        let (since, waiting) = self.line.pop_front()?;
        let event = match waiting {
            Waiting::Event(event) => event,
            Waiting::Update { position, time, changes: mut rest } => {
                self.changes -= rest.len().min(TAKEN);
                // A complete update is passed on without copying.
                let changes = if rest.len() <= TAKEN {
                    rest.collect()
                } else {
                    let first = rest.by_ref().take(TAKEN).collect();
                    self.line.push_front((since, Waiting::Update { position, time, changes: rest }));
                    first
                };
                Event::Update { position, time, changes }
            }
        };
        Some((since, event))
    }

    fn merge(&mut self) {
        self.changes = 0;
        for (since, waiting) in self.line.drain(..) {
            match waiting {
                Waiting::Event(event) => self.merged.add(since, event),
                Waiting::Update { position, time, changes } => {
                    self.merged.update(since, (position, time), changes);
                }
            }
        }
    }
}

impl Merged {
    fn is_empty(&self) -> bool {
        self.reset.is_none() && self.events.is_empty() && self.order.is_empty() && self.fronts.is_empty()
    }

    fn add(&mut self, now: Instant, event: Event) {
        match event {
            Event::Update { position, time, changes } => return self.update(now, (position, time), changes),
            Event::Replaced => self.drop_changes(),
            Event::Unsubscribed { .. } => self.given_up = self.next,
            _ => {}
        }
        let number = self.number();
        self.events.push_back((number, now, event));
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Drops all changes: they are of a tape that has ended.
    fn drop_changes(&mut self) {
        self.reset = None;
        self.images.clear();
        self.order.clear();
        self.rings.clear();
        self.fronts.clear();
        self.entries = 0;
        // Their images are gone; new snapshots settle again.
        self.events.retain(|(.., event)| !matches!(event, Event::Settled { .. }));
    }

    fn update(
        &mut self,
        now: Instant,
        newest: (Position, Timestamp),
        changes: impl IntoIterator<Item = Change>,
    ) {
        self.newest = newest;
        for change in changes {
            if let Change::Left { instrument, kind } = &change {
                // The pending image is dropped, so that it lends its number to nothing if the instrument
                // joins again.
                if let Some(slot) = self.images.remove(&Key::Image(*kind, Some(instrument.id))) {
                    self.order.remove(&slot.number);
                }
            }
            match change.place() {
                Place::Reset => {
                    self.drop_changes();
                    self.reset = Some((self.number(), now));
                }
                Place::Image(key) => self.image(now, key, change),
                Place::Ring(key) => self.entry(now, key, change),
            }
        }
    }

    fn image(&mut self, now: Instant, key: Key, mut change: Change) {
        if let Change::Definition(definition) = &change {
            self.define(definition);
        }
        let number = self.number();
        let before = self.images.remove(&key);
        let (number, since) = match &before {
            Some(slot) if slot.number > self.given_up => (slot.number, slot.since),
            Some(slot) => {
                self.order.remove(&slot.number);
                (number, slot.since)
            }
            None => (number, now),
        };
        if let Some(before) = &before {
            change.follow(&before.change);
        }
        self.order.insert(number, key);
        self.images.insert(key, Slot { number, since, change });
    }

    /// Converts pending changes to the new scales: they are delivered after the new definition.
    fn define(&mut self, definition: &Arc<Instrument>) {
        let id = definition.id;
        for kind in Kind::ALL {
            if let Some(slot) = self.images.get_mut(&Key::Image(kind, Some(id))) {
                slot.change.refine(definition);
            }
            if let Some(ring) = self.rings.get_mut(&(kind, id)) {
                ring.slots.iter_mut().for_each(|slot| slot.change.refine(definition));
            }
        }
    }

    fn entry(&mut self, now: Instant, key: RingKey, change: Change) {
        let number = self.number();
        let ring = self.rings.entry(key).or_insert_with(|| {
            self.fronts.insert(number, key);
            Ring::default()
        });
        let front = ring.front();
        ring.slots.push_back(Slot { number, since: now, change });
        self.entries += 1;
        let count = self.rings.len();
        let most =
            if self.entries > ENTRIES { (ENTRIES / count).clamp(1, RING_ENTRIES) } else { RING_ENTRIES };
        let ring = self.rings.get_mut(&key).expect("just there");
        self.entries -= ring.trim(most);
        if let (Some(before), Some(after)) = (front, ring.front())
            && before != after
        {
            self.fronts.remove(&before);
            self.fronts.insert(after, key);
        }
    }

    fn take(&mut self) -> Option<(Instant, Event)> {
        let limit = self.events.front().map_or(u64::MAX, |(number, ..)| *number);
        let mut taken = Taken { since: None, changes: Vec::with_capacity(TAKEN) };
        if let Some((_, since)) = self.reset.take_if(|(number, _)| *number < limit) {
            taken.push(since, Change::Reset);
        }
        let images_wait = self.order.first_key_value().is_some_and(|(&number, _)| number < limit);
        let entries = if images_wait { ENTRIES_TAKEN } else { TAKEN };
        while taken.changes.len() < entries
            && let Some((&front, &key)) = self.fronts.first_key_value()
            && front < limit
        {
            self.take_entry(front, key, &mut taken);
        }
        while taken.changes.len() < TAKEN
            && let Some((&number, &key)) = self.order.first_key_value()
            && number < limit
        {
            self.take_image(number, key, &mut taken);
        }
        let event = match taken.since {
            Some(since) => {
                let (position, time) = self.newest;
                (since, Event::Update { position, time, changes: taken.changes })
            }
            None => self.events.pop_front().map(|(_, since, event)| (since, event))?,
        };
        if self.is_empty() {
            // Frees the memory of a long backlog.
            *self = Self { newest: self.newest, ..Self::default() };
        }
        Some(event)
    }

    fn take_entry(&mut self, front: u64, key: RingKey, taken: &mut Taken) {
        self.fronts.remove(&front);
        self.take_definition(key.1, taken);
        let ring = self.rings.get_mut(&key).expect("rings that wait are in `fronts`");
        if let Some((_, since, missed)) = ring.missed.take() {
            let instrument = ring.slots.front().and_then(|slot| slot.change.instrument());
            let instrument = Arc::clone(instrument.expect("a ring keeps its newest entry"));
            taken.push(since, Change::Gap { instrument, kind: key.0, missed });
        } else if let Some(slot) = ring.slots.pop_front() {
            self.entries -= 1;
            taken.push(slot.since, slot.change);
        }
        match ring.front() {
            Some(front) => drop(self.fronts.insert(front, key)),
            None => drop(self.rings.remove(&key)),
        }
    }

    fn take_image(&mut self, number: u64, key: Key, taken: &mut Taken) {
        if let Key::Image(_, Some(id)) = key {
            self.take_definition(id, taken);
        }
        self.order.remove(&number);
        let slot = self.images.remove(&key).expect("what is in order waits");
        taken.push(slot.since, slot.change);
    }

    /// Takes a pending definition before a change that needs it, whatever their numbers.
    fn take_definition(&mut self, id: InstrumentId, taken: &mut Taken) {
        if let Some(slot) = self.images.remove(&Key::Definition(id)) {
            self.order.remove(&slot.number);
            taken.push(slot.since, slot.change);
        }
    }
}

impl Ring {
    /// The number of its first gap or entry.
    fn front(&self) -> Option<u64> {
        self.missed.map(|(number, ..)| number).or_else(|| self.slots.front().map(|slot| slot.number))
    }

    /// Drops the oldest slots beyond `most`; returns how many.
    fn trim(&mut self, most: usize) -> usize {
        let excess = self.slots.len().saturating_sub(most);
        for Slot { number, since, change } in self.slots.drain(..excess) {
            let missed = match change {
                Change::Gap { missed, .. } => missed,
                Change::Joined { .. } | Change::Left { .. } => 0,
                _ => 1,
            };
            let before = self.missed.map_or(0, |(.., missed)| missed);
            let since = self.missed.map_or(since, |(_, since, _)| since);
            self.missed = Some((number, since, before + missed));
        }
        excess
    }
}

/// Changes being taken, and since when the oldest of them was pending.
struct Taken {
    since: Option<Instant>,
    changes: Vec<Change>,
}

impl Taken {
    fn push(&mut self, since: Instant, change: Change) {
        self.since = Some(self.since.map_or(since, |oldest| oldest.min(since)));
        self.changes.push(change);
    }
}

#[cfg(test)]
mod tests;
