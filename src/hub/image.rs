use crate::market::{Bar, Instrument, Interval, Price, Quote, Timestamp, Trade};
use crate::tape::Position;

/// When each field of an image last changed; bit n of a mask speaks of field n.
#[derive(Clone, Copy, Debug)]
pub struct Stamps<const N: usize>([Position; N]);

/// The current quote.
#[derive(Clone, Copy, Debug)]
pub struct QuoteImage {
    quote: Option<Quote>,
    stamps: Stamps<4>,
    changes: u64,
}

/// The latest bar of one width and, for days, the close before it.
#[derive(Clone, Copy, Debug)]
pub struct BarImage {
    interval: Interval,
    bar: Option<Bar>,
    /// Whether the clock has passed the end of the bar.
    closed: bool,
    previous_close: Price,
    stamps: Stamps<9>,
}

/// The fields of a bar image, as bits of its mask.
pub mod bar_field {
    pub const START: u16 = 1;
    pub const OPEN: u16 = 2;
    pub const HIGH: u16 = 4;
    pub const LOW: u16 = 8;
    pub const CLOSE: u16 = 16;
    pub const VOLUME: u16 = 32;
    pub const TRADES: u16 = 64;
    pub const VWAP: u16 = 128;
    pub const PREVIOUS_CLOSE: u16 = 256;
    /// All that a bar itself has.
    pub const BAR: u16 = 255;
}

impl<const N: usize> Stamps<N> {
    const NEVER: Self = Self([Position::START; N]);

    fn set(&mut self, mask: u16, at: Position) {
        for (field, stamp) in self.0.iter_mut().enumerate() {
            if mask & (1 << field) != 0 {
                *stamp = at;
            }
        }
    }

    /// The fields that changed after `since`.
    #[must_use]
    pub fn changed_since(&self, since: Position) -> u16 {
        self.0.iter().enumerate().fold(0, |mask, (field, &at)| mask | (u16::from(at > since) << field))
    }
}

impl QuoteImage {
    pub const EMPTY: Self = Self { quote: None, stamps: Stamps::NEVER, changes: 0 };

    #[must_use]
    pub fn get(&self) -> Option<&Quote> {
        self.quote.as_ref()
    }

    /// Fields of [`Self::get`] changed after `since`: 1 bid, 2 bid size, 4 ask, 8 ask size.
    #[must_use]
    pub fn changed_since(&self, since: Position) -> u8 {
        u8::try_from(self.stamps.changed_since(since)).expect("four fields")
    }

    /// How often it has changed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// When each field last changed.
    pub(super) fn stamps(&self) -> [Position; 4] {
        self.stamps.0
    }

    /// Returns whether anything changed.
    pub fn apply(&mut self, new: &Quote, at: Position) -> bool {
        let mask = match &self.quote {
            None => 15,
            Some(old) => {
                u16::from(old.bid != new.bid)
                    | u16::from(old.bid_size != new.bid_size) << 1
                    | u16::from(old.ask != new.ask) << 2
                    | u16::from(old.ask_size != new.ask_size) << 3
            }
        };
        self.quote = Some(*new);
        self.stamps.set(mask, at);
        self.changes += u64::from(mask != 0);
        mask != 0
    }

    pub fn refine(&mut self, price: u8, size: u8) {
        self.quote = self.quote.map(|quote| quote.refined(price, size));
    }
}

impl BarImage {
    #[must_use]
    pub const fn empty(interval: Interval) -> Self {
        Self { interval, bar: None, closed: true, previous_close: Price::NONE, stamps: Stamps::NEVER }
    }

    #[must_use]
    pub fn get(&self) -> Option<&Bar> {
        self.bar.as_ref()
    }

    #[must_use]
    pub fn previous_close(&self) -> Price {
        self.previous_close
    }

    /// The open bar, which more trades may change.
    #[must_use]
    pub fn open(&self) -> Option<&Bar> {
        self.bar.as_ref().filter(|_| !self.closed)
    }

    /// Fields changed after `since`, as bits of [`bar_field`].
    #[must_use]
    pub fn changed_since(&self, since: Position) -> u16 {
        self.stamps.changed_since(since)
    }

    /// When each field last changed.
    pub(super) fn stamps(&self) -> [Position; 9] {
        self.stamps.0
    }

    /// Takes the place of the bar so far.
    pub fn restore(&mut self, bar: Bar, is_open: bool, at: Position) {
        self.begin(bar, at);
        self.closed = !is_open;
    }

    /// Takes a trade of `time` in; returns the bar that it closed, if it did.
    ///
    /// A bar never goes back in time: a trade that is late for a bar already closed counts in the next one.
    pub fn apply(&mut self, trade: &Trade, time: Timestamp, at: Position) -> Option<Bar> {
        let start = self.interval.start_of(time);
        let Some(bar) = &mut self.bar else {
            self.begin(Bar::open(start, trade), at);
            return None;
        };
        if !self.closed && start <= bar.start {
            let before = *bar;
            bar.add(trade);
            let mask = (bar_field::CLOSE * u16::from(bar.close != before.close))
                | (bar_field::HIGH * u16::from(bar.high != before.high))
                | (bar_field::LOW * u16::from(bar.low != before.low))
                | (bar_field::VOLUME * u16::from(bar.volume != before.volume))
                | bar_field::TRADES
                // Nearly every trade moves it, and two 128-bit divisions to find out cost more than the bytes.
                | bar_field::VWAP;
            self.stamps.set(mask, at);
            return None;
        }
        let (last, was_open) = (*bar, !self.closed);
        let next = start.max(last.start.plus_nanos(self.interval.nanos()));
        self.begin(Bar::open(next, trade), at);
        if self.interval == Interval::Day {
            self.set_previous_close(last.close, at);
        }
        was_open.then_some(last)
    }

    /// Closes the bar because its time is over; returns it if it was open.
    pub fn close(&mut self) -> Option<Bar> {
        let closed = self.open().copied();
        self.closed = true;
        closed
    }

    pub fn set_previous_close(&mut self, price: Price, at: Position) {
        self.previous_close = price;
        self.stamps.set(bar_field::PREVIOUS_CLOSE, at);
    }

    pub fn refine(&mut self, price: u8, size: u8, at: Position) {
        self.bar = self.bar.map(|bar| bar.refined(price, size));
        if self.bar.is_some() && price > 0 {
            // The one field that is rounded: at a finer scale it says more than the old one multiplied.
            self.stamps.set(bar_field::VWAP, at);
        }
        self.previous_close = self.previous_close.refined(price);
    }

    fn begin(&mut self, bar: Bar, at: Position) {
        self.bar = Some(bar);
        self.closed = false;
        self.stamps.set(bar_field::BAR, at);
    }
}

/// The two refinements that lead from one definition of an instrument to the next.
#[must_use]
pub fn refinement(from: &Instrument, to: &Instrument) -> (u8, u8) {
    (to.price_scale.saturating_sub(from.price_scale), to.size_scale.saturating_sub(from.size_scale))
}
