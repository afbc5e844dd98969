use crate::hub::bar_field as field;
use crate::market::{Bar, MAX_UNITS, Price, Quote, Size, Timestamp};

/// Some fields of a quote: those that an update tells, or all that a client knows. `Some(Price::NONE)` is a side that is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuoteFields {
    pub bid: Option<Price>,
    pub bid_size: Option<Size>,
    pub ask: Option<Price>,
    pub ask_size: Option<Size>,
    /// Only where the session asked for `times`.
    pub ts_event: Option<Timestamp>,
}

/// Some fields of a bar: those that an update tells, or all that a client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BarFields {
    /// In whole seconds.
    pub start: Option<Timestamp>,
    pub open: Option<Price>,
    pub high: Option<Price>,
    pub low: Option<Price>,
    pub close: Option<Price>,
    pub volume: Option<Size>,
    /// Number of trades.
    pub trades: Option<u64>,
    /// Hundredths of a price unit.
    pub vwap: Option<i64>,
    /// Days only.
    pub previous_close: Option<Price>,
}

impl QuoteFields {
    /// The fields that `mask` names, as of [`crate::hub::QuoteImage::changed_since`].
    #[must_use]
    pub fn of(mask: u8, times: bool, quote: &Quote) -> Self {
        Self {
            bid: (mask & 1 != 0).then_some(quote.bid),
            bid_size: (mask & 2 != 0).then_some(quote.bid_size),
            ask: (mask & 4 != 0).then_some(quote.ask),
            ask_size: (mask & 8 != 0).then_some(quote.ask_size),
            ts_event: times.then_some(quote.ts_event),
        }
    }

    /// The fields of `change` replace those known before; the others stay.
    pub fn merge(&mut self, change: &Self) {
        *self = Self {
            bid: change.bid.or(self.bid),
            bid_size: change.bid_size.or(self.bid_size),
            ask: change.ask.or(self.ask),
            ask_size: change.ask_size.or(self.ask_size),
            ts_event: change.ts_event.or(self.ts_event),
        }
    }

    /// The same at scales that are `price` and `size` digits finer.
    #[must_use]
    pub fn refined(&self, price: u8, size: u8) -> Self {
        Self {
            bid: self.bid.map(|p| p.refined(price)),
            bid_size: self.bid_size.map(|s| s.refined(size)),
            ask: self.ask.map(|p| p.refined(price)),
            ask_size: self.ask_size.map(|s| s.refined(size)),
            ts_event: self.ts_event,
        }
    }

    /// What a checksum is made of.
    #[must_use]
    pub fn units(&self) -> [Option<i64>; 4] {
        [price(self.bid), self.bid_size.map(Size::units), price(self.ask), self.ask_size.map(Size::units)]
    }
}

impl BarFields {
    /// The fields that `mask` names, as of [`crate::hub::bar_field`].
    #[must_use]
    pub fn of(mask: u16, bar: Option<&Bar>, previous_close: Price) -> Self {
        let told = |name: u16| bar.filter(|_| mask & name != 0);
        Self {
            start: told(field::START).map(|bar| bar.start),
            open: told(field::OPEN).map(|bar| bar.open),
            high: told(field::HIGH).map(|bar| bar.high),
            low: told(field::LOW).map(|bar| bar.low),
            close: told(field::CLOSE).map(|bar| bar.close),
            volume: told(field::VOLUME).map(|bar| bar.volume),
            trades: told(field::TRADES).map(|bar| bar.trades),
            vwap: told(field::VWAP).map(Bar::vwap_hundredths),
            previous_close: (mask & field::PREVIOUS_CLOSE != 0).then_some(previous_close),
        }
    }

    /// The fields of `change` replace those known before; a `start` begins a new bar, of which nothing is known yet.
    pub fn merge(&mut self, change: &Self) {
        let old = match change.start {
            Some(_) => Self { previous_close: self.previous_close, ..Self::default() },
            None => *self,
        };
        *self = Self {
            start: change.start.or(old.start),
            open: change.open.or(old.open),
            high: change.high.or(old.high),
            low: change.low.or(old.low),
            close: change.close.or(old.close),
            volume: change.volume.or(old.volume),
            trades: change.trades.or(old.trades),
            vwap: change.vwap.or(old.vwap),
            previous_close: change.previous_close.or(old.previous_close),
        }
    }

    /// The same at scales that are `price` and `size` digits finer.
    #[must_use]
    pub fn refined(&self, price: u8, size: u8) -> Self {
        let finer = |field: Option<Price>| field.map(|p| p.refined(price));
        Self {
            start: self.start,
            open: finer(self.open),
            high: finer(self.high),
            low: finer(self.low),
            close: finer(self.close),
            volume: self.volume.map(|s| s.refined(size)),
            trades: self.trades,
            vwap: self.vwap.map(|v| Price::new(v).refined(price).units().clamp(-MAX_UNITS, MAX_UNITS)),
            previous_close: finer(self.previous_close),
        }
    }

    /// What a checksum is made of; the last one for days only.
    #[must_use]
    pub fn units(&self) -> [Option<i64>; 9] {
        [
            self.start.map(|start| start.nanos().div_euclid(1_000_000_000)),
            price(self.open),
            price(self.high),
            price(self.low),
            price(self.close),
            self.volume.map(Size::units),
            self.trades.map(|trades| i64::try_from(trades).unwrap_or(i64::MAX)),
            self.vwap,
            price(self.previous_close),
        ]
    }
}

fn price(field: Option<Price>) -> Option<i64> {
    field.and_then(Price::some).map(Price::units)
}
