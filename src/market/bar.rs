use super::{Counts, Price, Size, Timestamp, Trade, Turnover};

/// The width of a bar. Bars start at whole multiples of it since the epoch, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interval {
    /// Of the clock, in UTC.
    Second,
    /// Of the clock, in UTC.
    Minute,
    /// A UTC calendar day.
    Day,
}

/// Open, high, low and close of the trades in one interval, as far as each counts. If none of them sets a
/// price, a bar has a volume and no prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// The start of its interval.
    pub start: Timestamp,
    /// In units of the instrument's price scale, as all four; [`Price::NONE`] without a trade that sets it.
    pub open: Price,
    /// Of the trades that may set it.
    pub high: Price,
    /// Of the trades that may set it.
    pub low: Price,
    /// Of the newest trade by its own time that may set it.
    pub close: Price,
    /// Sum of the sizes, in units of the instrument's size scale.
    pub volume: Size,
    /// Number of trades.
    pub trades: u64,
    /// Sum of price × size, in price units × size units.
    turnover: Turnover,
}

impl Interval {
    /// Its width in ns.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        match self {
            Self::Second => 1_000_000_000,
            Self::Minute => 60_000_000_000,
            Self::Day => 86_400_000_000_000,
        }
    }

    /// The start of the interval that holds `at`.
    #[must_use]
    pub fn start_of(self, at: Timestamp) -> Timestamp {
        Timestamp::from_nanos(at.nanos().saturating_sub(at.nanos().rem_euclid(self.nanos())))
    }
}

impl Bar {
    /// A bar of one trade.
    #[must_use]
    pub fn open(start: Timestamp, interval: Interval, trade: &Trade) -> Self {
        let mut bar = Self {
            start,
            open: Price::NONE,
            high: Price::NONE,
            low: Price::NONE,
            close: Price::NONE,
            volume: Size::ZERO,
            trades: 0,
            turnover: Turnover::ZERO,
        };
        bar.add(interval, trade, true);
        bar
    }

    /// A bar with open, high, low and close as given, and a turnover that [`Self::turnover`] returned.
    #[must_use]
    pub const fn from_parts(
        start: Timestamp,
        [open, high, low, close]: [Price; 4],
        volume: Size,
        trades: u64,
        turnover: Turnover,
    ) -> Self {
        Self { start, open, high, low, close, volume, trades, turnover }
    }

    /// Sum of price × size, in price units × size units.
    #[must_use]
    pub const fn turnover(&self) -> Turnover {
        self.turnover
    }

    /// Adds a trade as far as it counts; `is_newest` if no trade of a later time has set the close.
    pub fn add(&mut self, interval: Interval, trade: &Trade, is_newest: bool) {
        if trade.counts.has(Counts::VOLUME) {
            self.add_volume(trade);
        }
        let (price, sets_last) = (trade.price, trade.counts.sets_last(interval));
        // A trade that may be the last counts for high and low, too.
        if price.is_none() || !(sets_last || trade.counts.sets_high_low(interval)) {
            return;
        }
        // `Price::NONE` is less than any price.
        self.high = self.high.max(price);
        self.low = self.low.some().map_or(price, |low| low.min(price));
        // As on the consolidated tapes, a trade that sets no last price does so while there is no other.
        self.open = self.open.some().unwrap_or(price);
        if self.close.is_none() || (sets_last && is_newest) {
            self.close = price;
        }
    }

    /// Subtracts the size of a trade that counted.
    pub fn remove_volume(&mut self, trade: &Trade) {
        if trade.counts.has(Counts::VOLUME) {
            self.volume = self.volume.minus(trade.size);
            self.trades = self.trades.saturating_sub(1);
            self.turnover = self.turnover.minus(Turnover::of(trade.price, trade.size));
        }
    }

    /// Replaces open, high, low and close.
    pub fn set_prices(&mut self, [open, high, low, close]: [Price; 4]) {
        (self.open, self.high, self.low, self.close) = (open, high, low, close);
    }

    fn add_volume(&mut self, trade: &Trade) {
        self.volume = self.volume.plus(trade.size);
        self.trades += 1;
        self.turnover = self.turnover.plus(Turnover::of(trade.price, trade.size));
    }

    /// The volume-weighted average price in hundredths of a price unit, rounded half away from zero from the
    /// exact sums, so never outside of low and high; the mean of open and close if every trade had size 0.
    #[must_use]
    pub fn vwap_hundredths(&self) -> i128 {
        match self.volume.units() {
            // All its trades were taken back.
            0 if self.open.is_none() => 0,
            0 => Turnover::from(self.open.units() + self.close.units()).hundredfold_over(2),
            volume => self.turnover.hundredfold_over(volume),
        }
    }

    /// The same bar with prices `price` and sizes `size` digits finer.
    #[must_use]
    pub fn refined(&self, price: u8, size: u8) -> Self {
        Self {
            open: self.open.refined(price),
            high: self.high.refined(price),
            low: self.low.refined(price),
            close: self.close.refined(price),
            volume: self.volume.refined(size),
            turnover: self.turnover.refined(price + size),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::{Conditions, Side, decimal_text};

    fn trade(price: i64, size: i64) -> Trade {
        Trade {
            price: Price::new(price),
            size: Size::new(size),
            side: Side::None,
            conditions: Conditions::default(),
            counts: Counts::EVERYTHING,
            booked: 0,
            ts_event: Timestamp::default(),
            ts_recv: Timestamp::default(),
        }
    }

    #[track_caller]
    fn check(trades: &[(i64, i64)], expected: [i128; 5], vwap: &str) {
        let mut bar = Bar::open(Timestamp::default(), Interval::Second, &trade(trades[0].0, trades[0].1));
        for &(price, size) in &trades[1..] {
            bar.add(Interval::Second, &trade(price, size), true);
        }
        let [open, high, low, close] = [bar.open, bar.high, bar.low, bar.close].map(Price::units);
        assert_eq!([open, high, low, close, bar.volume.units()], expected);
        assert_eq!(decimal_text(bar.vwap_hundredths(), 4), vwap);
        assert_eq!(bar.trades, trades.len() as u64);
    }

    #[test]
    fn a_bar_holds_open_high_low_close_volume_and_vwap() {
        check(&[(100, 1), (105, 2), (95, 3), (101, 4)], [100, 105, 95, 101, 10], "0.9990");
        check(&[(100, 0), (110, 0)], [100, 110, 100, 110, 0], "1.0500");
        check(&[(-50, 1), (-51, 1)], [-50, -50, -51, -51, 2], "-0.5050");
        check(&[(1, 1), (1, 1), (2, 1)], [1, 2, 1, 2, 3], "0.0133");
    }

    #[test]
    fn a_refined_bar_has_the_same_values() {
        let bar = Bar::open(Timestamp::default(), Interval::Second, &trade(18942, 150));
        let finer = bar.refined(2, 3);
        assert_eq!(finer.vwap_hundredths(), bar.vwap_hundredths() * 100);
        assert_eq!(finer.volume.to_decimal(3), bar.volume.to_decimal(0));
    }

    #[test]
    fn intervals_start_on_whole_multiples_even_before_1970() {
        let at = |nanos| Interval::Second.start_of(Timestamp::from_nanos(nanos)).nanos();
        assert_eq!(at(1_999_999_999), 1_000_000_000);
        assert_eq!(at(-1), -1_000_000_000);
        assert_eq!(at(i64::MIN), i64::MIN);
    }
}
