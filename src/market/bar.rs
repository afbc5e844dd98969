use super::{MAX_UNITS, Price, Size, Timestamp, Trade};
use rust_decimal::Decimal;

/// The width of a bar. Bars start at whole multiples of it since the epoch, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interval {
    Second,
    Minute,
    /// A UTC calendar day.
    Day,
}

/// Open, high, low and close of the trades in one interval. Every trade counts, in tape order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    pub start: Timestamp,
    pub open: Price,
    pub high: Price,
    pub low: Price,
    pub close: Price,
    pub volume: Size,
    /// Number of trades.
    pub trades: u64,
    /// Sum of price × size, in price units × size units.
    turnover: i128,
}

impl Interval {
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
    pub fn open(start: Timestamp, trade: &Trade) -> Self {
        let price = trade.price;
        let mut bar = Self {
            start,
            open: price,
            high: price,
            low: price,
            close: price,
            volume: Size::ZERO,
            trades: 0,
            turnover: 0,
        };
        bar.add(trade);
        bar
    }

    /// A bar with open, high, low and close as given, and what [`Self::turnover`] gave.
    #[must_use]
    pub const fn from_parts(
        start: Timestamp,
        [open, high, low, close]: [Price; 4],
        volume: Size,
        trades: u64,
        turnover: i128,
    ) -> Self {
        Self { start, open, high, low, close, volume, trades, turnover }
    }

    /// Sum of price × size, in price units × size units.
    #[must_use]
    pub const fn turnover(&self) -> i128 {
        self.turnover
    }

    pub fn add(&mut self, trade: &Trade) {
        self.high = self.high.max(trade.price);
        self.low = self.low.min(trade.price);
        self.close = trade.price;
        self.volume = self.volume.plus(trade.size);
        self.trades += 1;
        self.turnover =
            self.turnover.saturating_add(i128::from(trade.price.units()) * i128::from(trade.size.units()));
    }

    /// The volume-weighted average price in hundredths of a price unit, rounded half away from zero;
    /// the mean of open and close where every trade had size 0.
    #[must_use]
    pub fn vwap_hundredths(&self) -> i64 {
        let (sum, weight) = match self.volume.units() {
            0 => (i128::from(self.open.units()) + i128::from(self.close.units()), 2),
            volume => (self.turnover, i128::from(volume)),
        };
        let scaled = sum.saturating_mul(100);
        let rounded = (scaled.abs() + weight / 2) / weight * scaled.signum();
        i64::try_from(rounded).unwrap_or(i64::MAX).clamp(-MAX_UNITS, MAX_UNITS)
    }

    /// The volume-weighted average price, to a hundredth of a price unit.
    #[must_use]
    pub fn vwap(&self, price_scale: u8) -> Decimal {
        Decimal::new(self.vwap_hundredths(), u32::from(price_scale) + 2)
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
            turnover: 10_i128
                .checked_pow(u32::from(price) + u32::from(size))
                .map_or(i128::MAX, |f| self.turnover.saturating_mul(f)),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::{Conditions, Side};

    fn trade(price: i64, size: i64) -> Trade {
        Trade {
            price: Price::new(price),
            size: Size::new(size),
            side: Side::None,
            conditions: Conditions::default(),
            ts_event: Timestamp::default(),
            ts_recv: Timestamp::default(),
        }
    }

    #[track_caller]
    fn check(trades: &[(i64, i64)], expected: [i64; 5], vwap: &str) {
        let mut bar = Bar::open(Timestamp::default(), &trade(trades[0].0, trades[0].1));
        for &(price, size) in &trades[1..] {
            bar.add(&trade(price, size));
        }
        let [open, high, low, close] = [bar.open, bar.high, bar.low, bar.close].map(Price::units);
        assert_eq!([open, high, low, close, bar.volume.units()], expected);
        assert_eq!(bar.vwap(2).to_string(), vwap);
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
        let bar = Bar::open(Timestamp::default(), &trade(18942, 150));
        let finer = bar.refined(2, 3);
        assert_eq!(finer.vwap(4).normalize(), bar.vwap(2).normalize());
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
