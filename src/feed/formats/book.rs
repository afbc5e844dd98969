use crate::market::{QuoteValues, Side};
use rust_decimal::Decimal;
use std::collections::BTreeMap;

/// The price levels of one instrument, as a stream of depth states them, folded to their best bid and ask.
///
/// It takes as much memory as the stream has distinct prices, or as its depth where that is known
/// ([`Self::trim`]).
#[derive(Debug, Default)]
pub(super) struct DepthBook {
    bids: BTreeMap<Decimal, Decimal>,
    asks: BTreeMap<Decimal, Decimal>,
    /// Whether all levels are known, which a snapshot begins.
    is_whole: bool,
    /// Whether the last row was one of a snapshot.
    in_snapshot: bool,
    told: QuoteValues,
    /// The most decimals that a price and a size have had.
    finest: (u32, u32),
}

impl DepthBook {
    /// Empties it: a snapshot follows, which completes it.
    pub(super) fn begin_snapshot(&mut self) {
        self.bids.clear();
        self.asks.clear();
        self.is_whole = true;
    }

    /// Empties it, and ignores changes until the next snapshot.
    pub(super) fn lose(&mut self) {
        self.begin_snapshot();
        self.is_whole = false;
    }

    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Sets the bid ([`Side::Buy`]) or asked size at a price; 0 removes the level.
    pub(super) fn set(&mut self, side: Side, price: Decimal, size: Decimal) {
        let levels = match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
            Side::None => return,
        };
        self.finest = (self.finest.0.max(price.scale()), self.finest.1.max(size.scale()));
        if size.is_zero() {
            levels.remove(&price);
        } else {
            levels.insert(price, size);
        }
    }

    pub(super) fn set_all(&mut self, rows: impl IntoIterator<Item = (Side, Decimal, Decimal)>) {
        for (side, price, size) in rows {
            self.set(side, price, size);
        }
    }

    /// Applies one row of a file that marks the rows of its snapshots; false if it comes before the first of
    /// them.
    pub(super) fn set_row(&mut self, side: Side, price: Decimal, size: Decimal, snapshot: bool) -> bool {
        if snapshot && !self.in_snapshot {
            self.begin_snapshot();
        }
        self.in_snapshot = snapshot;
        if self.is_whole {
            self.set(side, price, size);
        }
        self.is_whole
    }

    /// Drops levels deeper than `depth`: a stream of limited depth does not report their changes.
    pub(super) fn trim(&mut self, depth: usize) {
        while self.bids.len() > depth {
            self.bids.pop_first();
        }
        while self.asks.len() > depth {
            self.asks.pop_last();
        }
    }

    pub(super) fn finest(&self) -> (u32, u32) {
        self.finest
    }

    pub(super) fn bids(&self) -> impl Iterator<Item = (&Decimal, &Decimal)> {
        self.bids.iter().rev()
    }

    pub(super) fn asks(&self) -> impl Iterator<Item = (&Decimal, &Decimal)> {
        self.asks.iter()
    }

    /// The best bid and ask, where they are others than when this was last asked.
    pub(super) fn changed(&mut self) -> Option<QuoteValues> {
        let best = |level: Option<(&Decimal, &Decimal)>| {
            level.map_or((None, Decimal::ZERO), |(&p, &s)| (Some(p), s))
        };
        let ((bid, bid_size), (ask, ask_size)) = (best(self.bids().next()), best(self.asks().next()));
        let now = QuoteValues { bid, bid_size, ask, ask_size };
        (self.told != now).then(|| {
            self.told = now;
            now
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(best: Option<QuoteValues>) -> String {
        let price = |price: Option<Decimal>| price.map_or_else(|| "-".to_owned(), |price| price.to_string());
        best.map_or_else(
            || "the same".to_owned(),
            |q| format!("{} x {} / {} x {}", price(q.bid), q.bid_size, price(q.ask), q.ask_size),
        )
    }

    #[test]
    fn the_best_levels_are_told_when_they_change() {
        let mut book = DepthBook::default();
        let mut set = |side, price: i32, size: i32| {
            book.set(side, price.into(), size.into());
            show(book.changed())
        };
        assert_eq!(set(Side::Buy, 10, 1), "10 x 1 / - x 0");
        assert_eq!(set(Side::Sell, 12, 2), "10 x 1 / 12 x 2");
        assert_eq!(set(Side::Buy, 9, 5), "the same");
        assert_eq!(set(Side::Buy, 10, 0), "9 x 5 / 12 x 2");
        assert_eq!(set(Side::Sell, 12, 3), "9 x 5 / 12 x 3");
        assert_eq!(set(Side::Sell, 11, 0), "the same");
    }

    #[test]
    fn rows_before_the_first_snapshot_mean_nothing_and_the_next_one_starts_anew() {
        let mut book = DepthBook::default();
        let mut row = |price: i32, snapshot| book.set_row(Side::Buy, price.into(), 1.into(), snapshot);
        assert!(!row(99, false));
        assert!(row(10, true) && row(9, true) && row(8, false));
        assert_eq!(show(book.changed()), "10 x 1 / - x 0");
        book.set_row(Side::Buy, 7.into(), 1.into(), true);
        assert_eq!(show(book.changed()), "7 x 1 / - x 0");
    }

    proptest! {
        #[test]
        fn the_best_level_is_the_highest_bid_and_the_lowest_ask(rows in prop::collection::vec((any::<bool>(), 0..20_u8, 0..3_u8), 0..100), depth in 1..30_usize) {
            let (mut book, mut bids, mut asks) = (DepthBook::default(), BTreeMap::new(), BTreeMap::new());
            let mut told = QuoteValues::default();
            for (is_bid, price, size) in rows {
                book.set(if is_bid { Side::Buy } else { Side::Sell }, price.into(), size.into());
                let side = if is_bid { &mut bids } else { &mut asks };
                side.insert(price, size);
                side.retain(|_, size| *size > 0);
                told = book.changed().unwrap_or(told);
                prop_assert_eq!(told.bid, bids.last_key_value().map(|(&price, _)| price.into()));
                prop_assert_eq!(told.ask, asks.first_key_value().map(|(&price, _)| price.into()));
            }
            book.trim(depth);
            prop_assert_eq!(book.changed(), None);
            prop_assert!(book.bids().count() == bids.len().min(depth) && book.asks().count() == asks.len().min(depth));
        }
    }
}
