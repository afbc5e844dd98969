//! A market that never closes: quotes and trades of invented prices, the same for a seed on every machine.
//!
//! Each tick is one question and one answer. Whose turn is it (`Activity`)? Then the market, the instrument's sector
//! and the instrument itself are brought forward to the moment (`Path`), which gives a fair value, and the
//! instrument's `Book` gives a trade or follows with its quote. All of it is O(1), whatever the number of symbols.

mod activity;
mod book;
mod exchange; // all of these together
mod factors;
mod fictional;
mod path;
mod random;
pub mod scenario; // what happens to it, by a script
mod session;
#[cfg(test)]
mod tests;

use super::{Feed, FeedError};
use crate::market::{Event, FeedKind, Instruments, Listing, Status, Timestamp, TradingState, Universe};
use exchange::Exchange;
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

impl SimConfig {
    /// The market that is played where nobody says which: 550 symbols, 5,000 ticks a second, seed 1.
    #[must_use]
    pub fn starting(start: Timestamp) -> Self {
        let rate = const { NonZeroU32::new(5000).expect("above 0") };
        Self { symbols: 550, rate, seed: 1, start }
    }
}

/// The market simulator.
///
/// The first call of [`Feed::next`] defines all instruments, opens the market and quotes every instrument, at `start`;
/// from then on tick number `k` is the only one of its call and happens at `start + k / rate` to the nanosecond. A trade
/// that changes the quote is followed by that quote as the next tick.
pub struct Simulator {
    config: SimConfig,
    clock: Clock,
    exchange: Exchange,
    /// What is listed when the market opens; `None` once it has.
    listings: Option<Vec<Listing>>,
}

impl Simulator {
    #[must_use]
    pub fn new(universe: &Universe, config: SimConfig) -> Self {
        Self {
            config,
            clock: Clock::new(config.start, config.rate),
            exchange: Exchange::new(config.seed, config.start),
            listings: Some(fictional::listings(universe, config.symbols)),
        }
    }

    fn open(&mut self, listings: &[Listing], instruments: &mut Instruments, out: &mut Vec<Event>) {
        let start = self.config.start;
        for listing in listings {
            self.exchange.list(listing, start, instruments, out);
        }
        out.push(Event::Status(None, Status { state: TradingState::Open, ts_event: start }));
        out.extend(self.exchange.books.iter().map(|book| Event::Quote(book.id(), book.quote(start))));
        self.exchange.share_turns(listings.iter().map(|listing| listing.activity));
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
        if let Some(listings) = self.listings.take() {
            self.open(&listings, instruments, out);
            return Ok(Some(self.config.start));
        }
        if !self.exchange.is_active() {
            return Ok(None);
        }
        let at = self.clock.next();
        if self.exchange.tell_unquoted(at, out) {
            return Ok(Some(at));
        }
        let pace = session::pace(at);
        if let Some(index) = self.exchange.pick(pace) {
            let pace = self.exchange.advance(index, at, pace);
            self.exchange.tick(index, at, pace, true, out);
        }
        Ok(Some(at))
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
