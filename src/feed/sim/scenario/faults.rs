use super::Length;
use crate::feed::sim::random::Random;
use crate::feed::{Feed, FeedError};
use crate::market::{Event, FeedKind, FeedState, FeedStatus, InstrumentId, Instruments, Speed, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// A temporary fault of a feed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// No ticks.
    Stall,
    /// A tick is lost.
    Drop { probability: f64 },
    /// A tick is repeated.
    Duplicate { probability: f64 },
    /// Each tick is delayed by a time of its own.
    Reorder { within: Length },
    /// A tick has a time of the past.
    Late { by: Length, probability: f64 },
}

#[derive(Clone, Debug)]
pub(super) struct FaultSpell {
    pub at: Length,
    pub until: Length,
    pub line: usize,
    pub fault: Fault,
}

/// A feed over a faulty line. Its market is the same as without faults, as these have a random source of
/// their own.
#[derive(Clone)]
pub(super) struct Faulty<F> {
    feed: F,
    random: Random,
    spells: Vec<(Timestamp, Timestamp, Fault)>,
    /// When to publish that the feed is stale or live, latest first.
    signs: Vec<(Timestamp, FeedState)>,
    is_stale: bool,
    /// The feed's next moment.
    ahead: Option<(Timestamp, Vec<Event>)>,
    /// Delayed ticks.
    held: BinaryHeap<Reverse<Held>>,
    holds: u64,
    /// Changes during a stall that hold at its end: states in order, and each instrument's quote.
    missed: (Vec<Event>, BTreeMap<InstrumentId, Event>),
}

/// Ordered by its moment, and then by arrival.
#[derive(Clone)]
struct Held {
    at: Timestamp,
    order: u64,
    event: Event,
}

/// A feed that is silent for this long is published as stale.
const STALE_AFTER_NANOS: i64 = 2_000_000_000;
/// Most delayed ticks; further ones are not delayed.
const MAX_HELD: usize = 100_000;
/// Derives another seed.
const FAULTS: u64 = 0x9e37_79b9_7f4a_7c15;

impl<F: Feed> Faulty<F> {
    pub fn new(feed: F, spells: &[FaultSpell], start: Timestamp, seed: u64) -> Self {
        let after = |length: Length| start.plus_nanos(length.nanos());
        let spells: Vec<_> =
            spells.iter().map(|spell| (after(spell.at), after(spell.until), spell.fault)).collect();
        Self {
            feed,
            random: Random::new(seed ^ FAULTS),
            signs: signs(&spells),
            spells,
            is_stale: false,
            ahead: None,
            held: BinaryHeap::new(),
            holds: 0,
            missed: (Vec::new(), BTreeMap::new()),
        }
    }

    fn is_stalled(&self, at: Timestamp) -> bool {
        self.spells
            .iter()
            .any(|&(begin, end, fault)| matches!(fault, Fault::Stall) && begin <= at && at < end)
    }

    /// Takes the feed's events of `at` into the line.
    fn send(&mut self, at: Timestamp, event: Event, out: &mut Vec<Event>) {
        if !matches!(event, Event::Quote(..) | Event::Trade(..)) {
            return self.arrive(at, event, out);
        }
        let (mut event, mut copies, mut delay) = (event, 1, 0);
        for &(begin, end, fault) in &self.spells {
            match fault {
                _ if at < begin || end <= at => {}
                Fault::Drop { probability } if self.random.chance(probability) => return,
                Fault::Duplicate { probability } if self.random.chance(probability) => copies += 1,
                Fault::Late { by, probability } if self.random.chance(probability) => {
                    shift(&mut event, -by.nanos(), 0);
                }
                Fault::Reorder { within } => {
                    let nanos = usize::try_from(within.nanos()).unwrap_or(0);
                    delay = i64::try_from(self.random.below(nanos).0).unwrap_or(0);
                }
                Fault::Stall | Fault::Drop { .. } | Fault::Duplicate { .. } | Fault::Late { .. } => {}
            }
        }
        for _ in 0..copies {
            if delay > 0 && self.held.len() < MAX_HELD {
                let mut event = event.clone();
                shift(&mut event, 0, delay);
                self.holds += 1;
                self.held.push(Reverse(Held { at: at.plus_nanos(delay), order: self.holds, event }));
            } else {
                self.arrive(at, event.clone(), out);
            }
        }
    }

    /// Takes the next events out of the line.
    fn arrive(&mut self, at: Timestamp, event: Event, out: &mut Vec<Event>) {
        if !self.is_stalled(at) {
            out.push(event);
            return;
        }
        match event {
            Event::Trade(..) => {}
            Event::Quote(id, _) => {
                self.missed.1.insert(id, event);
            }
            other => self.missed.0.push(other),
        }
    }

    /// The present state comes first after a stall.
    fn come_back(&mut self, at: Timestamp, out: &mut Vec<Event>) {
        out.append(&mut self.missed.0);
        for mut event in std::mem::take(&mut self.missed.1).into_values() {
            if let Event::Quote(_, quote) = &mut event {
                quote.ts_recv = at;
            }
            out.push(event);
        }
    }
}

impl<F: Feed + Clone + 'static> Feed for Faulty<F> {
    fn kind(&self) -> FeedKind {
        self.feed.kind()
    }

    fn fork(&self) -> Option<Box<dyn Feed>> {
        Some(Box::new(self.clone()))
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        let before = out.len();
        loop {
            if self.ahead.is_none() {
                let mut events = Vec::new();
                self.ahead = self.feed.next(instruments, &mut events)?.map(|at| (at, events));
            }
            let ahead = self.ahead.as_ref().map(|ahead| ahead.0);
            let held = self.held.peek().map(|Reverse(held)| held.at);
            let Some(next) = [ahead, held].into_iter().flatten().min() else { return Ok(None) };
            let at = self.signs.last().map_or(next, |&(at, _)| at.min(next));
            while let Some((_, state)) = self.signs.pop_if(|sign| sign.0 <= at) {
                if state == FeedState::Live {
                    self.come_back(at, out);
                }
                if state == FeedState::Live && !self.is_stale {
                    continue;
                }
                self.is_stale = state == FeedState::Stale;
                let kind = self.kind();
                out.push(Event::Feed(FeedStatus { kind, state, speed: Speed::Times(1.0) }));
            }
            while self.held.peek().is_some_and(|Reverse(held)| held.at <= at) {
                if let Some(Reverse(held)) = self.held.pop() {
                    self.arrive(at, held.event, out);
                }
            }
            if let Some((_, events)) = self.ahead.take_if(|ahead| ahead.0 <= at) {
                if events.is_empty() {
                    // The end.
                    return Ok(Some(at));
                }
                for event in events {
                    self.send(at, event, out);
                }
            }
            if out.len() > before {
                return Ok(Some(at));
            }
        }
    }
}

/// When a feed with these faults is published as stale and as live again, latest first.
fn signs(spells: &[(Timestamp, Timestamp, Fault)]) -> Vec<(Timestamp, FeedState)> {
    let mut stalls: Vec<(Timestamp, Timestamp)> = Vec::new();
    // In order of their beginnings; adjacent ones are merged.
    for &(begin, end, _) in spells.iter().filter(|spell| matches!(spell.2, Fault::Stall)) {
        match stalls.last_mut().filter(|last| begin <= last.1) {
            Some(last) => last.1 = last.1.max(end),
            None => stalls.push((begin, end)),
        }
    }
    let mut signs: Vec<(Timestamp, FeedState)> = Vec::new();
    for (begin, end) in stalls {
        let stale = begin.plus_nanos(STALE_AFTER_NANOS);
        if stale < end {
            signs.push((stale, FeedState::Stale));
        }
        // Also after a stall too short to be published: it brings what was missed.
        signs.push((end, FeedState::Live));
    }
    signs.reverse();
    signs
}

/// Shifts the venue's time of a tick, and that of its arrival.
fn shift(event: &mut Event, venue: i64, arrival: i64) {
    let times = match event {
        Event::Quote(_, quote) => (&mut quote.ts_event, &mut quote.ts_recv),
        Event::Trade(_, trade) => (&mut trade.ts_event, &mut trade.ts_recv),
        _ => return,
    };
    *times.0 = times.0.plus_nanos(venue);
    *times.1 = times.1.plus_nanos(arrival);
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
