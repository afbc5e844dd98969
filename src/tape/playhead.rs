use crate::feed::{Feed, Translator};
use crate::market::{Event, FeedKind, Instruments, Status, Timestamp, TradingState};
use std::fmt::Display;

/// A feed that is being played, read ahead by one moment: all that is needed to play it on, here or elsewhere.
///
/// Read ahead, it counts in instruments of its own until its events are due: what is published in between may define others, or
/// make scales finer.
pub struct Playhead {
    feed: Box<dyn Feed>,
    instruments: Instruments,
    translator: Translator,
    /// The moment that is next, and its events that are still to come.
    next: Option<(Timestamp, Vec<Event>)>,
}

/// A feed that says nothing of the market's state is of one that is open.
#[must_use]
pub fn opening(time: Timestamp) -> Event {
    Event::Status(None, Status { state: TradingState::Open, ts_event: time })
}

/// Hears of each record that cannot be read, or put on the tape.
pub type OnFault<'a> = &'a mut dyn FnMut(&dyn Display);

impl Playhead {
    /// Reads the feed's first moment.
    pub fn new(feed: Box<dyn Feed>, on_fault: OnFault<'_>) -> Self {
        let mut playhead = Self {
            feed,
            instruments: Instruments::default(),
            translator: Translator::default(),
            next: Some((Timestamp::default(), Vec::new())),
        };
        playhead.pull(on_fault);
        playhead
    }

    #[must_use]
    pub fn kind(&self) -> FeedKind {
        self.feed.kind()
    }

    /// How much later its moments are than they were recorded, in ns.
    #[must_use]
    pub fn shift(&self) -> i64 {
        self.feed.shift()
    }

    /// As [`Feed::left_out`].
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.feed.left_out()
    }

    /// What a market is before the first moment, which must still be next; `None` where that says so itself.
    #[must_use]
    pub fn opening(&self) -> Option<Event> {
        let (at, events) = self.next.as_ref()?;
        let says_itself = events.iter().any(|event| matches!(event, Event::Status(None, _)));
        (!says_itself).then_some(opening(*at))
    }

    /// The moment that is next; `None` where the feed has ended.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        self.next.as_ref().map(|&(at, _)| at)
    }

    /// Appends the events of the next moment, as the tape's `instruments` count them, and reads the one behind it.
    pub fn take(&mut self, instruments: &mut Instruments, out: &mut Vec<Event>, on_fault: OnFault<'_>) {
        let Some((_, events)) = &mut self.next else { return };
        for event in events.drain(..) {
            if let Err(error) = self.translator.translate(event, instruments, out) {
                on_fault(&error);
            }
        }
        self.pull(on_fault);
    }

    /// As [`Self::take`], but only up to the first event that is more than a definition.
    pub fn take_one(&mut self, instruments: &mut Instruments, out: &mut Vec<Event>, on_fault: OnFault<'_>) {
        let Some((_, events)) = &mut self.next else { return };
        let is_more = |event: &Event| !matches!(event, Event::Instrument(_));
        let count = events.iter().position(is_more).map_or(events.len(), |at| at + 1);
        for event in events.drain(..count) {
            if let Err(error) = self.translator.translate(event, instruments, out) {
                on_fault(&error);
            }
        }
        if events.is_empty() {
            self.pull(on_fault);
        }
    }

    /// Reads the feed's next moment, over records that cannot be read.
    fn pull(&mut self, on_fault: OnFault<'_>) {
        let Some((at, events)) = &mut self.next else { return };
        loop {
            match self.feed.next(&mut self.instruments, events) {
                Ok(Some(moment)) => {
                    *at = moment;
                    return;
                }
                Ok(None) => break,
                Err(error) => on_fault(&error),
            }
        }
        self.next = None;
    }
}
