use super::{Conditions, Counts, InstrumentId, Side, Timestamp};
use rust_decimal::Decimal;
use std::collections::VecDeque;

/// Trades that were published with a name, so that they can be taken back by it: the newest [`Self::KEPT`].
#[derive(Clone, Debug, Default)]
pub struct NamedTrades(VecDeque<(InstrumentId, Box<str>, NamedTrade)>);

/// One of them, as it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedTrade {
    /// In the instrument's currency.
    pub price: Decimal,
    /// In units of the instrument, 0 or more.
    pub size: Decimal,
    /// As [`Trade::side`](super::Trade::side).
    pub side: Side,
    /// As [`Trade::conditions`](super::Trade::conditions).
    pub conditions: Conditions,
    /// As [`Trade::counts`](super::Trade::counts).
    pub counts: Counts,
    /// As [`Trade::ts_event`](super::Trade::ts_event).
    pub ts_event: Timestamp,
}

impl NamedTrades {
    /// Over all instruments; the oldest is forgotten first.
    pub const KEPT: usize = 1 << 16;
    /// The longest name, in bytes.
    pub const MAX_NAME: usize = 64;

    /// Adds a trade; an older one of that name stays, and is found after this one is taken.
    pub fn note(&mut self, instrument: InstrumentId, name: &str, trade: NamedTrade) {
        if self.0.len() >= Self::KEPT {
            self.0.pop_front();
        }
        self.0.push_back((instrument, name.into(), trade));
    }

    /// Removes and returns the newest of that name: it can be taken back once.
    pub fn take(&mut self, instrument: InstrumentId, name: &str) -> Option<NamedTrade> {
        self.0.remove(self.place(instrument, name)?).map(|(_, _, trade)| trade)
    }

    /// As [`Self::take`], without removing it.
    #[must_use]
    pub fn find(&self, instrument: InstrumentId, name: &str) -> Option<&NamedTrade> {
        self.place(instrument, name).map(|at| &self.0[at].2)
    }

    fn place(&self, instrument: InstrumentId, name: &str) -> Option<usize> {
        self.0.iter().rposition(|(of, known, _)| *of == instrument && **known == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_name_is_found_once_and_the_oldest_are_forgotten() {
        let trade = |price: i64| NamedTrade {
            price: price.into(),
            size: 1.into(),
            side: Side::None,
            conditions: Conditions::default(),
            counts: Counts::EVERYTHING,
            ts_event: Timestamp::default(),
        };
        let (x, y) = (InstrumentId(0), InstrumentId(1));
        let mut trades = NamedTrades::default();
        trades.note(x, "a", trade(1));
        trades.note(y, "a", trade(2));
        trades.note(x, "b", trade(3));
        assert_eq!(trades.find(x, "a"), Some(&trade(1)));
        assert_eq!(trades.take(x, "a"), Some(trade(1)));
        assert_eq!(trades.find(x, "a"), None);
        assert_eq!(trades.take(x, "a"), None);
        for number in 0..NamedTrades::KEPT {
            trades.note(y, &number.to_string(), trade(4));
        }
        assert_eq!((trades.take(x, "b"), trades.take(y, "0")), (None, Some(trade(4))));
    }
}
