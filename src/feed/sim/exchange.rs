use super::activity::Activity;
use super::book::Book;
use super::factors::Factors;
use super::random::Random;
use crate::market::{Event, Instruments, Listing, Timestamp};

/// All books of a market and what moves them; the caller decides when a tick happens.
#[derive(Clone)]
pub(super) struct Exchange {
    pub random: Random,
    factors: Factors,
    pub books: Vec<Book>,
    /// Draws the next instrument; `None` if none has a turn.
    activity: Option<Activity>,
    /// The instrument whose quote was changed by the last tick, a trade.
    unquoted: Option<usize>,
}

impl Exchange {
    /// A market without instruments.
    pub fn new(seed: u64, at: Timestamp) -> Self {
        Self {
            random: Random::new(seed),
            factors: Factors::new(at.nanos()),
            books: Vec::new(),
            activity: None,
            unquoted: None,
        }
    }

    /// Opens the book of a listing, which gets no turns before [`Self::share_turns`].
    pub fn list(
        &mut self,
        listing: &Listing,
        at: Timestamp,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) {
        let id = instruments.define(listing.instrument.clone(), out);
        // If the tape had the symbol already, its scales may be finer than the listing's.
        let Some(instrument) = instruments.get(id) else { return };
        let sector = self.factors.sector(&instrument.sector, at.nanos());
        self.books.push(Book::open(listing, instrument, sector, at.nanos(), &mut self.random));
    }

    /// Shares the turns out by the activity of each book; one of 0 has none.
    pub fn share_turns(&mut self, activities: impl Iterator<Item = u32>) {
        let always_on = |book: &Book| self.factors.is_always_on(book.sector);
        let turns: Vec<(u32, bool)> =
            activities.zip(&self.books).map(|(activity, book)| (activity, always_on(book))).collect();
        let anyone = turns.iter().any(|&(activity, _)| activity > 0);
        self.activity = anyone.then(|| Activity::new(&turns, &mut self.random));
    }

    /// Whether any book has turns.
    pub fn is_active(&self) -> bool {
        self.activity.is_some()
    }

    /// The pending quote after the last tick, a trade: a tick of its own.
    pub fn tell_unquoted(&mut self, at: Timestamp, out: &mut Vec<Event>) -> bool {
        let Some(book) = self.unquoted.take().map(|index| &self.books[index]) else { return false };
        out.push(Event::Quote(book.id(), book.quote(at)));
        true
    }

    /// Draws the index of the next book, at that [`super::session::pace`].
    pub fn pick(&mut self, pace: f64) -> Option<usize> {
        Some(self.activity.as_mut()?.pick(pace, &mut self.random))
    }

    /// Brings a book forward to `at`; returns the pace of its sector.
    pub fn advance(&mut self, index: usize, at: Timestamp, pace: f64) -> f64 {
        let (book, random) = (&mut self.books[index], &mut self.random);
        let common = self.factors.advance(book.sector, at.nanos(), pace, random);
        book.advance(at.nanos(), &common, random);
        common.pace
    }

    /// A tick of one book that was brought forward: a trade, if allowed, or a change of its quote.
    pub fn tick(&mut self, index: usize, at: Timestamp, pace: f64, may_trade: bool, out: &mut Vec<Event>) {
        let (book, random) = (&mut self.books[index], &mut self.random);
        let before = book.quote(at);
        if may_trade && random.chance(0.11 + 0.03 * pace) {
            out.push(Event::Trade(book.id(), book.trade(at, random)));
            self.unquoted = (book.quote(at) != before).then_some(index);
        } else {
            book.requote(random);
            out.push(Event::Quote(book.id(), book.quote(at)));
        }
    }
}
