//! A market that never closes: quotes and trades of invented prices, the same for a seed on every machine.
//!
//! For each tick `Activity` draws an instrument. The market, the instrument's sector and the instrument
//! itself are then brought forward to the moment (`Path`). That gives a fair value, and the instrument's
//! `Book` trades or adjusts its quote. All of it is O(1) in the number of symbols.

mod activity;
mod book;
mod exchange; // all of these together
mod factors;
mod fictional;
mod past; // what was before it opened
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
use std::sync::Arc;

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
    /// Number of instruments: the first of the universe, then made-up ones. A feed of none ends after its
    /// opening.
    pub symbols: usize,
    /// Ticks, that is quotes and trades, per second, over all instruments.
    pub rate: NonZeroU32,
    /// Selects the market: the same seed, universe, number of symbols, rate and start give the same events.
    pub seed: u64,
    /// The moment the market opens.
    pub start: Timestamp,
}

impl SimConfig {
    /// The default market: 550 symbols, 5,000 ticks a second, seed 1.
    #[must_use]
    pub fn starting(start: Timestamp) -> Self {
        let rate = const { NonZeroU32::new(5000).expect("above 0") };
        Self { symbols: 550, rate, seed: 1, start }
    }
}

/// The market simulator.
///
/// The first call of [`Feed::next`] is of `start`: it defines all instruments, opens the market, sends the
/// history of the hours before, and quotes every instrument. Each later call returns one tick: number `k`
/// happens at `start + k / rate` to the nanosecond. A trade that changes the quote is followed by that quote
/// as the next tick.
#[derive(Clone)]
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
        out.extend(self.pasts(listings));
        out.extend(self.exchange.books.iter().map(|book| Event::Quote(book.id(), book.quote(start))));
        self.exchange.share_turns(listings.iter().map(|listing| listing.activity));
    }
}

impl Simulator {
    /// The history of each instrument before the market opens.
    fn pasts(&self, listings: &[Listing]) -> impl Iterator<Item = Event> {
        /// The share of ticks that are trades.
        const TRADES: f64 = 0.125;
        let total: f64 = listings.iter().map(|listing| f64::from(listing.activity)).sum();
        let rate = f64::from(self.config.rate.get()) * TRADES / total;
        self.exchange.books.iter().zip(listings).map(move |(book, listing)| {
            let past = book.past(self.config.seed, self.config.start, rate * f64::from(listing.activity));
            Event::Snapshot(book.id(), Arc::new(past.snapshot()))
        })
    }
}

impl Feed for Simulator {
    fn kind(&self) -> FeedKind {
        FeedKind::Simulator
    }

    fn fork(&self) -> Option<Box<dyn Feed>> {
        Some(Box::new(self.clone()))
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

/// Computes the moment of each tick, `rate` a second without drift.
#[derive(Clone)]
struct Clock {
    now: Timestamp,
    rate: u32,
    /// Fraction of a nanosecond that has passed, in parts of `rate`.
    fraction: u32,
}

impl Clock {
    fn new(start: Timestamp, rate: NonZeroU32) -> Self {
        Self { now: start, rate: rate.get(), fraction: 0 }
    }

    /// Sums up whole nanoseconds and the exact rest: the same as `start + k * 10^9 / rate`, without a wide
    /// division.
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
