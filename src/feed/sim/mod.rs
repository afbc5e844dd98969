//! A market that never closes: quotes and trades of invented prices, the same for a seed on every machine.
//!
//! Each tick is one question and one answer. Whose turn is it (`Activity`)? Then the market, the instrument's sector
//! and the instrument itself are brought forward to the moment (`Path`), which gives a fair value, and the
//! instrument's `Book` gives a trade or follows with its quote. All of it is O(1), whatever the number of symbols.

mod activity;
mod book;
mod factors;
mod fictional;
mod path;
mod random;
mod session;
#[cfg(test)]
mod tests;

use super::{Feed, FeedError};
use crate::market::{Event, FeedKind, Instruments, Listing, Status, Timestamp, TradingState, Universe};
use activity::Activity;
use book::Book;
use factors::Factors;
use random::Random;
use std::num::NonZeroU32;

/// The listings of `feeds/universe.csv`.
///
/// # Panics
/// Never: a test reads the file.
#[must_use]
pub fn default_universe() -> Universe {
    Universe::parse(include_str!("../../../feeds/universe.csv")).expect("feeds/universe.csv is good")
}

#[derive(Clone, Copy, Debug)]
pub struct SimConfig {
    /// Number of instruments: the first of the universe, then made-up ones. A feed of none ends after its opening.
    pub symbols: usize,
    /// Ticks, that is quotes and trades, per second, over all instruments.
    pub rate: NonZeroU32,
    /// Picks the market: the same seed, universe, number of symbols, rate and start give the same events.
    pub seed: u64,
    /// The moment the market opens.
    pub start: Timestamp,
}

/// The market simulator.
///
/// The first call of [`Feed::next`] defines all instruments, opens the market and quotes every instrument, at `start`;
/// from then on tick number `k` is the only one of its call and happens at `start + k / rate` to the nanosecond. A trade
/// that changes the quote is followed by that quote as the next tick.
pub struct Simulator {
    config: SimConfig,
    clock: Clock,
    random: Random,
    factors: Factors,
    stage: Stage,
    /// The instrument whose quote the last tick, a trade, has changed.
    unquoted: Option<usize>,
}

enum Stage {
    Closed(Vec<Listing>),
    Open {
        books: Vec<Book>,
        activity: Activity,
    },
    /// Nothing is listed.
    Empty,
}

impl Simulator {
    #[must_use]
    pub fn new(universe: &Universe, config: SimConfig) -> Self {
        Self {
            config,
            clock: Clock::new(config.start, config.rate),
            random: Random::new(config.seed),
            factors: Factors::new(config.start.nanos()),
            stage: Stage::Closed(fictional::listings(universe, config.symbols)),
            unquoted: None,
        }
    }
}

impl Feed for Simulator {
    fn kind(&self) -> FeedKind {
        FeedKind::Simulator
    }

    fn simulation(&self) -> Option<SimConfig> {
        Some(self.config)
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        let (books, activity) = match &mut self.stage {
            Stage::Open { books, activity } => (books, activity),
            Stage::Empty => return Ok(None),
            Stage::Closed(listings) => {
                let listings = std::mem::take(listings);
                self.open(&listings, instruments, out);
                return Ok(Some(self.config.start));
            }
        };
        let random = &mut self.random;
        let at = self.clock.next();
        if let Some(book) = self.unquoted.take().map(|index| &books[index]) {
            out.push(Event::Quote(book.id(), book.quote(at)));
            return Ok(Some(at));
        }
        let pace = session::pace(at);
        let index = activity.pick(pace, random);
        let book = &mut books[index];
        let common = self.factors.advance(book.sector, at.nanos(), pace, random);
        book.advance(at.nanos(), &common, random);
        let before = book.quote(at);
        if random.chance(0.11 + 0.03 * common.pace) {
            out.push(Event::Trade(book.id(), book.trade(at, random)));
            self.unquoted = (book.quote(at) != before).then_some(index);
        } else {
            book.requote(random);
            out.push(Event::Quote(book.id(), book.quote(at)));
        }
        Ok(Some(at))
    }
}

impl Simulator {
    fn open(&mut self, listings: &[Listing], instruments: &mut Instruments, out: &mut Vec<Event>) {
        let Self { random, factors, config: SimConfig { start, .. }, .. } = self;
        let mut books = Vec::with_capacity(listings.len());
        let mut turns = Vec::with_capacity(listings.len());
        for listing in listings {
            let id = instruments.define(listing.instrument.clone(), out);
            // Where the tape knew the symbol already, its scales may be finer than the listing's.
            let Some(instrument) = instruments.get(id) else { continue };
            let sector = factors.sector(&instrument.sector, start.nanos());
            books.push(Book::open(listing, instrument, sector, start.nanos(), random));
            turns.push((listing.activity, factors.is_always_on(sector)));
        }
        out.push(Event::Status(None, Status { state: TradingState::Open, ts_event: *start }));
        out.extend(books.iter().map(|book| Event::Quote(book.id(), book.quote(*start))));
        self.stage = if books.is_empty() {
            Stage::Empty
        } else {
            Stage::Open { activity: Activity::new(&turns, random), books }
        };
    }
}

/// Tells the moment of each tick, `rate` a second without drift.
struct Clock {
    now: Timestamp,
    rate: u32,
    /// Fraction of a nanosecond that is already gone, in parts of `rate`.
    fraction: u32,
}

impl Clock {
    fn new(start: Timestamp, rate: NonZeroU32) -> Self {
        Self { now: start, rate: rate.get(), fraction: 0 }
    }

    /// Sums up whole nanoseconds and the exact rest: the same as `start + k * 10^9 / rate`, without a wide division.
    fn next(&mut self) -> Timestamp {
        const SECOND: u32 = 1_000_000_000;
        let sum = u64::from(self.fraction) + u64::from(SECOND % self.rate);
        let carry = i64::from(sum >= u64::from(self.rate));
        let rest = if carry == 1 { sum - u64::from(self.rate) } else { sum };
        self.fraction = u32::try_from(rest).unwrap_or(0);
        self.now = self.now.plus_nanos(i64::from(SECOND / self.rate) + carry);
        self.now
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "prices and sizes are below 2^53, and spans of time need no more"
)]
fn float(whole: i64) -> f64 {
    whole as f64
}

/// The nearest whole number.
#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and every caller clamps")]
fn whole(value: f64) -> i64 {
    value.round() as i64
}
