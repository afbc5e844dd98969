//! Values that newer ones replace, with the position at which each field last changed. Pure; any thread.
//!
//! Invariant: a field changed after a position exactly if its stamp is greater. A finer scale is no change:
//! clients refine too.

use crate::market::{Bar, Counts, Instrument, Interval, Price, Quote, Size, Timestamp, Trade};
use crate::tape::Position;

/// The position at which each field of an image last changed; bit n of a mask is field n.
#[derive(Clone, Copy, Debug)]
pub struct Stamps<const N: usize>([Position; N]);

/// The present values of an image.
#[derive(Clone, Copy, Debug)]
pub enum Image<'a> {
    /// A quote, with all fields.
    Quote(&'a Quote),
    /// A bar, and the close before it, which only days have. `None`: only that close is known.
    Bar(Option<&'a Bar>, Price),
    /// How many sessions watch an instrument.
    Watchers(u64),
}

/// The current quote.
#[derive(Clone, Copy, Debug)]
pub struct QuoteImage {
    quote: Option<Quote>,
    stamps: Stamps<4>,
    changes: u64,
}

/// How many sessions of this server watch an instrument.
#[derive(Clone, Copy, Debug)]
pub struct WatchersImage {
    watchers: u64,
    stamps: Stamps<1>,
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

/// How a trade counted in a bar image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It counts for nothing there, or its bar is closed: nothing changes.
    Nowhere,
    /// It changed the open bar.
    InOpenBar,
    /// It opened a bar; with the one before, if that was still open and is closed by it.
    InNewBar(Option<Bar>),
}

/// The fields of a quote image, as bits of its mask.
pub mod quote_field {
    /// Price of the best bid.
    pub const BID: u16 = 1;
    /// Size at the best bid.
    pub const BID_SIZE: u16 = 2;
    /// Price of the best ask.
    pub const ASK: u16 = 4;
    /// Size at the best ask.
    pub const ASK_SIZE: u16 = 8;
    /// All fields of a quote.
    pub const ALL: u16 = 15;
}

/// The fields of a bar image, as bits of its mask.
pub mod bar_field {
    /// Start of the bar, in complete seconds.
    pub const START: u16 = 1;
    /// First price.
    pub const OPEN: u16 = 2;
    /// Highest price.
    pub const HIGH: u16 = 4;
    /// Lowest price.
    pub const LOW: u16 = 8;
    /// Last price.
    pub const CLOSE: u16 = 16;
    /// Sum of sizes.
    pub const VOLUME: u16 = 32;
    /// Number of trades.
    pub const TRADES: u16 = 64;
    /// Volume-weighted mean price, in hundredths of a price unit.
    pub const VWAP: u16 = 128;
    /// Close of the day before; days only.
    pub const PREVIOUS_CLOSE: u16 = 256;
    /// All fields of a bar itself.
    pub const BAR: u16 = 255;
    /// All fields of a day.
    pub const DAY: u16 = BAR | PREVIOUS_CLOSE;
}

/// The field of a watchers image, as a bit of its mask.
pub mod watchers_field {
    /// How many there are.
    pub const WATCHERS: u16 = 1;
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

impl WatchersImage {
    /// Not counted yet.
    pub const EMPTY: Self = Self { watchers: 0, stamps: Stamps::NEVER };

    /// Returns whether that is news.
    pub fn set(&mut self, watchers: u64, at: Position) -> bool {
        if self.get() == Some(watchers) {
            return false;
        }
        self.watchers = watchers;
        self.stamps.set(watchers_field::WATCHERS, at);
        true
    }

    /// `None` before the first count.
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        (self.stamps.0[0] > Position::START).then_some(self.watchers)
    }

    /// What changed after `since`; `None` before the first count.
    #[must_use]
    pub fn image(&self, since: Position) -> Option<(u16, Image<'static>)> {
        let watchers = self.get()?;
        Some((self.stamps.changed_since(since), Image::Watchers(watchers)))
    }

    pub(super) fn stamps(&self) -> &[Position] {
        &self.stamps.0
    }
}

impl QuoteImage {
    /// No quote yet.
    pub const EMPTY: Self = Self { quote: None, stamps: Stamps::NEVER, changes: 0 };

    /// `None` before the first quote.
    #[must_use]
    pub fn get(&self) -> Option<&Quote> {
        self.quote.as_ref()
    }

    /// Fields of [`Self::get`] that changed after `since`, as bits of [`quote_field`].
    #[must_use]
    pub fn changed_since(&self, since: Position) -> u16 {
        self.stamps.changed_since(since)
    }

    /// Changes since the first quote, that one included.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// When each field last changed.
    pub(super) fn stamps(&self) -> &[Position] {
        &self.stamps.0
    }

    /// Replaces the quote; returns whether anything but its time changed.
    pub fn apply(&mut self, new: &Quote, at: Position) -> bool {
        let mask = match &self.quote {
            None => quote_field::ALL,
            Some(old) => {
                (quote_field::BID * u16::from(old.bid != new.bid))
                    | (quote_field::BID_SIZE * u16::from(old.bid_size != new.bid_size))
                    | (quote_field::ASK * u16::from(old.ask != new.ask))
                    | (quote_field::ASK_SIZE * u16::from(old.ask_size != new.ask_size))
            }
        };
        self.quote = Some(*new);
        self.stamps.set(mask, at);
        self.changes += u64::from(mask != 0);
        mask != 0
    }

    /// Converts to scales that are `price` and `size` digits finer; no field counts as changed.
    pub fn refine(&mut self, price: u8, size: u8) {
        self.quote = self.quote.map(|quote| quote.refined(price, size));
    }
}

impl BarImage {
    /// No bar yet.
    #[must_use]
    pub const fn empty(interval: Interval) -> Self {
        Self { interval, bar: None, closed: true, previous_close: Price::NONE, stamps: Stamps::NEVER }
    }

    /// The latest bar, open or closed; `None` before the first.
    #[must_use]
    pub fn get(&self) -> Option<&Bar> {
        self.bar.as_ref()
    }

    /// Close of the day before; [`Price::NONE`] where it is unknown, and for bars that are no days.
    #[must_use]
    pub fn previous_close(&self) -> Price {
        self.previous_close
    }

    /// The open bar, which more trades may change.
    #[must_use]
    pub fn open(&self) -> Option<&Bar> {
        self.bar.as_ref().filter(|_| !self.closed)
    }

    pub(super) fn is_day(&self) -> bool {
        self.interval == Interval::Day
    }

    /// The fields that changed after `since`, as bits of [`bar_field`], and the present values.
    pub(super) fn image(&self, since: Position) -> (u16, Image<'_>) {
        (self.stamps.changed_since(since), Image::Bar(self.bar.as_ref(), self.previous_close))
    }

    /// When each field last changed.
    pub(super) fn stamps(&self) -> &[Position] {
        &self.stamps.0
    }

    /// Replaces the bar.
    pub fn restore(&mut self, bar: Bar, is_open: bool, at: Position) {
        self.begin(bar, at);
        self.closed = !is_open;
    }

    /// Whether a trade counts for anything in bars of this width.
    pub(super) fn counts(&self, trade: &Trade) -> bool {
        // A trade without a size that sets no price would show only as an empty bar.
        let has_volume = trade.counts.has(Counts::VOLUME) && trade.size != Size::ZERO;
        let has_price = trade.counts.sets_high_low(self.interval) || trade.counts.sets_last(self.interval);
        has_volume || (has_price && !trade.price.is_none())
    }

    /// Applies a trade of `time`. `is_newest`: no trade of a later time has set the close. Bars never go back
    /// in time.
    pub fn apply(&mut self, trade: &Trade, time: Timestamp, is_newest: bool, at: Position) -> Counted {
        if !self.counts(trade) {
            return Counted::Nowhere;
        }
        let start = self.interval.start_of(time);
        let Some(bar) = &mut self.bar else {
            self.begin(Bar::open(start, self.interval, trade), at);
            return Counted::InNewBar(None);
        };
        if start < bar.start || (start == bar.start && self.closed) {
            return Counted::Nowhere;
        }
        if start == bar.start {
            let before = *bar;
            bar.add(self.interval, trade, is_newest);
            let mask = (bar_field::OPEN * u16::from(bar.open != before.open))
                | (bar_field::CLOSE * u16::from(bar.close != before.close))
                | (bar_field::HIGH * u16::from(bar.high != before.high))
                | (bar_field::LOW * u16::from(bar.low != before.low))
                | (bar_field::VOLUME * u16::from(bar.volume != before.volume))
                | (bar_field::TRADES * u16::from(bar.trades != before.trades))
                // Nearly every trade changes it, and the two 128-bit divisions to find out cost more than the
                // bytes.
                | bar_field::VWAP;
            self.stamps.set(mask, at);
            return Counted::InOpenBar;
        }
        let (last, was_open) = (*bar, !self.closed);
        self.begin(Bar::open(start, self.interval, trade), at);
        if self.interval == Interval::Day && !last.close.is_none() {
            self.set_previous_close(last.close, at);
        }
        Counted::InNewBar(was_open.then_some(last))
    }

    /// Closes the bar at the end of its time; returns it if it was open.
    pub fn close(&mut self) -> Option<Bar> {
        let closed = self.open().copied();
        self.closed = true;
        closed
    }

    /// Also where `price` is the one before: the field counts as changed at `at`.
    pub fn set_previous_close(&mut self, price: Price, at: Position) {
        self.previous_close = price;
        self.stamps.set(bar_field::PREVIOUS_CLOSE, at);
    }

    /// Converts to scales that are `price` and `size` digits finer.
    pub fn refine(&mut self, price: u8, size: u8, at: Position) {
        self.bar = self.bar.map(|bar| bar.refined(price, size));
        if self.bar.is_some() && price > 0 {
            // The one field that is rounded: at a finer scale it is more exact than the old value multiplied.
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

/// How many digits finer prices and sizes are in one definition of an instrument than in the one before.
#[must_use]
pub fn refinement(from: &Instrument, to: &Instrument) -> (u8, u8) {
    (to.price_scale.saturating_sub(from.price_scale), to.size_scale.saturating_sub(from.size_scale))
}
