//! The playhead: a feed read ahead by one moment. Tape thread; during a seek, the seek's.
//! Invariant: `events` is what was taken, then the moment that is next; without a next one it is only the
//! former.
//!
//! ```text
//! feed ──pull──► next ──take──► taken ──let_out──► submitted
//!                 └─ pulls the moment after it
//! ```

use crate::feed::Feed;
use crate::market::{Event, FeedKind, Instruments, Status, Timestamp, TradingState};
use std::fmt::Display;

/// A feed that is being played, read ahead by one moment: all that is needed to play it on, here or
/// elsewhere.
///
/// It counts in instruments of its own, because it is ahead: a publication that comes before its events are
/// due may define others, or make scales finer.
pub struct Playhead {
    feed: Box<dyn Feed>,
    instruments: Instruments,
    /// Events that were taken and not submitted yet, then those of the moment that is next.
    events: Vec<Event>,
    taken: usize,
    /// The moment that is next; `None` if the feed has ended.
    next: Option<Timestamp>,
    /// How much later than the feed's own times everything happens, in ns.
    put_off: i64,
}

/// The state of a market whose feed does not state one: open.
#[must_use]
pub fn opening(time: Timestamp) -> Event {
    Event::Status(None, Status { state: TradingState::Open, ts_event: time })
}

/// Called for each record that cannot be read, or put on the tape.
pub type OnFault<'a> = &'a mut dyn FnMut(&dyn Display);

impl Playhead {
    /// Reads the feed's first moment.
    pub fn new(feed: Box<dyn Feed>, on_fault: OnFault<'_>) -> Self {
        let mut playhead = Self {
            feed,
            instruments: Instruments::default(),
            events: Vec::new(),
            taken: 0,
            next: None,
            put_off: 0,
        };
        playhead.pull(on_fault);
        playhead
    }

    /// A copy to be played on next to this one; `None` if its feed cannot be forked.
    #[must_use]
    pub fn fork(&self) -> Option<Self> {
        Some(Self {
            feed: self.feed.fork()?,
            instruments: self.instruments.clone(),
            events: self.events.clone(),
            taken: self.taken,
            next: self.next,
            put_off: self.put_off,
        })
    }

    #[must_use]
    pub fn kind(&self) -> FeedKind {
        self.feed.kind()
    }

    /// How much later than recorded its moments are, in ns.
    #[must_use]
    pub fn shift(&self) -> i64 {
        self.feed.shift().saturating_add(self.put_off)
    }

    /// Postpones all that is still to come, in ns.
    pub fn put_off(&mut self, nanos: i64) {
        self.put_off = self.put_off.saturating_add(nanos);
    }

    /// As [`Feed::left_out`].
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.feed.left_out()
    }

    /// The market's state before the first moment, which must still be next; `None` if that moment states
    /// one.
    #[must_use]
    pub fn opening(&self) -> Option<Event> {
        let at = self.next?;
        let says_itself =
            self.events[self.taken..].iter().any(|event| matches!(event, Event::Status(None, _)));
        (!says_itself).then(|| opening(at.plus_nanos(self.put_off)))
    }

    /// The moment that is next; `None` if the feed has ended.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        self.next.map(|at| at.plus_nanos(self.put_off))
    }

    /// How many events were taken and not submitted yet.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Takes and returns the events of the next moment, and reads the moment after it.
    pub fn take(&mut self, on_fault: OnFault<'_>) -> &mut [Event] {
        self.take_some(usize::MAX, on_fault)
    }

    /// As [`Self::take`], but only up to the first event that is not a definition.
    pub fn take_one(&mut self, on_fault: OnFault<'_>) -> &mut [Event] {
        let is_more = |event: &Event| !matches!(event, Event::Instrument(_));
        let count = self.events[self.taken..].iter().position(is_more).map_or(usize::MAX, |at| at + 1);
        self.take_some(count, on_fault)
    }

    fn take_some(&mut self, most: usize, on_fault: OnFault<'_>) -> &mut [Event] {
        let taken = self.taken..self.taken.saturating_add(most).min(self.events.len());
        if self.put_off != 0 {
            self.events[taken.clone()].iter_mut().for_each(|event| event.put_off(self.put_off));
        }
        self.taken = taken.end;
        if taken.end == self.events.len() && self.next.is_some() {
            self.pull(on_fault);
        }
        &mut self.events[taken]
    }

    /// Removes and returns what was taken, in the feed's numbers of instruments.
    pub fn let_out(&mut self) -> Vec<Event> {
        // The next batch will be as long as this one.
        let mut next = Vec::with_capacity(self.events.len());
        next.extend(self.events.drain(std::mem::take(&mut self.taken)..));
        std::mem::replace(&mut self.events, next)
    }

    /// Reads the feed's next moment, skipping records that cannot be read.
    fn pull(&mut self, on_fault: OnFault<'_>) {
        self.next = loop {
            match self.feed.next(&mut self.instruments, &mut self.events) {
                Ok(moment) => break moment,
                Err(error) => on_fault(&error),
            }
        };
        if self.next.is_none() {
            // Definitions that nothing needs any more.
            self.events.truncate(self.taken);
        }
    }
}
